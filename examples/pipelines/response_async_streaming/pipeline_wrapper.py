"""A model of the Responses API that streams from the event loop: many answers at the same time."""

from collections.abc import AsyncGenerator
from typing import Any

from flaskcompat import (
    AsyncPipeline,
    BasePipelineWrapper,
    async_streaming_generator,
    chat_messages_from_openai_response,
)
from flaskcompat.demos.generator import OfflineChatGenerator

from .._offline import say_back


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        self.pipeline = AsyncPipeline()
        self.pipeline.add_component("llm", OfflineChatGenerator(say_back))

    async def run_response_async(
        self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        return async_streaming_generator(
            pipeline=self.pipeline,
            pipeline_run_args={"llm": {"messages": chat_messages_from_openai_response(input_items)}},
        )
