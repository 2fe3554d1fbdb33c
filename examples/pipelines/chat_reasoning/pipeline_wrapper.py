"""Reasoning that reaches the client beside the answer, and a callback that says when it began."""

from collections.abc import Generator
from typing import Any

from haystack.dataclasses import ChatMessage

from flaskcompat import (
    BasePipelineWrapper,
    Pipeline,
    PipelineEvent,
    chat_messages_from_openai_messages,
    streaming_generator,
)
from flaskcompat.open_webui import create_status_event

from .._offline import ReasoningChatGenerator


def think(messages: list[ChatMessage]) -> str:
    return f"The question has {len((messages[-1].text or '').split())} words."


def reply(messages: list[ChatMessage], tools: list[Any]) -> ChatMessage:
    return ChatMessage.from_assistant(f"After some thought: {messages[-1].text}")


class FirstThought:
    """An ``on_reasoning`` callback that gives one status event, before the first piece of reasoning."""

    def __init__(self) -> None:
        self._thinking = False

    def __call__(self, text: str, extra: dict[str, Any] | None) -> PipelineEvent | None:
        if self._thinking:
            return None
        self._thinking = True
        return create_status_event("Thinking...")


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        self.pipeline = Pipeline()
        self.pipeline.add_component("llm", ReasoningChatGenerator(think, reply))

    def run_chat_completion(
        self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]
    ) -> Generator[Any, None, None]:
        # One component takes `messages`, so that its name may be left out.
        return streaming_generator(
            pipeline=self.pipeline,
            pipeline_run_args={"messages": chat_messages_from_openai_messages(messages)},
            on_reasoning=FirstThought(),
        )
