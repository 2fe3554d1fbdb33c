"""A chat model that knows the whole conversation and streams its answer."""

from collections.abc import Generator
from typing import Any

from flaskcompat import BasePipelineWrapper, Pipeline, chat_messages_from_openai_messages, streaming_generator
from flaskcompat.demos.generator import OfflineChatGenerator

from .._offline import say_back


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        self.pipeline = Pipeline()
        self.pipeline.add_component("llm", OfflineChatGenerator(say_back))

    def run_chat_completion(
        self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]
    ) -> Generator[Any, None, None]:
        return streaming_generator(
            pipeline=self.pipeline,
            pipeline_run_args={"llm": {"messages": chat_messages_from_openai_messages(messages)}},
        )
