"""The scripted model, on the event loop."""

from collections.abc import AsyncGenerator
from typing import Any

from haystack.dataclasses import ChatMessage

from flaskcompat import (
    AsyncPipeline,
    BasePipelineWrapper,
    async_streaming_generator,
    chat_messages_from_openai_messages,
    chat_messages_from_openai_response,
    generation_kwargs_from_body,
)

from .._scripted import ScriptedChatGenerator


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        self.pipeline = AsyncPipeline()
        self.pipeline.add_component("llm", ScriptedChatGenerator())

    async def run_chat_completion_async(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        return self._stream(chat_messages_from_openai_messages(messages), body)

    async def run_response_async(self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        messages = chat_messages_from_openai_response(input_items, instructions=body.get("instructions"))
        return self._stream(messages, body)

    def _stream(self, messages: list[ChatMessage], body: dict[str, Any]) -> AsyncGenerator[Any, None]:
        run = {"messages": messages, "generation_kwargs": generation_kwargs_from_body(body)}
        return async_streaming_generator(self.pipeline, pipeline_run_args={"llm": run})
