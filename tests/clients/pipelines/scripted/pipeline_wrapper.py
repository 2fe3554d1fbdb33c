"""The scripted model."""

from collections.abc import Generator
from typing import Any

from haystack.dataclasses import ChatMessage

from flaskcompat import (
    BasePipelineWrapper,
    Pipeline,
    chat_messages_from_openai_messages,
    chat_messages_from_openai_response,
    generation_kwargs_from_body,
    streaming_generator,
)

from .._scripted import ScriptedChatGenerator


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        self.pipeline = Pipeline()
        self.pipeline.add_component("llm", ScriptedChatGenerator())

    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        return self._stream(chat_messages_from_openai_messages(messages), body)

    def run_response(self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        messages = chat_messages_from_openai_response(input_items, instructions=body.get("instructions"))
        return self._stream(messages, body)

    def _stream(self, messages: list[ChatMessage], body: dict[str, Any]) -> Generator[Any, None, None]:
        run = {"messages": messages, "generation_kwargs": generation_kwargs_from_body(body)}
        return streaming_generator(self.pipeline, pipeline_run_args={"llm": run})
