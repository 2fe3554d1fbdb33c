"""What stands in for a model, so that the examples run without a key."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from haystack import component
from haystack.dataclasses import ChatMessage, ReasoningContent, StreamingChunk, ToolCall

from flaskcompat.demos.generator import OfflineChatGenerator, Reply


def say_back(messages: list[ChatMessage], tools: list[Any]) -> ChatMessage:
    """A reply that shows what the model was given last, and how many messages there were."""
    return ChatMessage.from_assistant(f"You said: {messages[-1].text} (message {len(messages)} of this chat)")


def use_tool(messages: list[ChatMessage], tools: list[Any]) -> ChatMessage:
    """A call of the first tool with the question's last word; once it was run, its result as the answer."""
    last = messages[-1]
    if result := last.tool_call_result:
        answer = "That did not work." if result.error else f"I looked it up: {result.result}."
        return ChatMessage.from_assistant(answer)
    words = re.findall(r"\w+", last.text or "")
    if not tools or not words:
        return ChatMessage.from_assistant("Ask me something.")
    [argument] = tools[0].parameters["properties"]
    call = ToolCall(tools[0].name, {argument: words[-1]}, id=f"call_{len(messages)}")
    return ChatMessage.from_assistant(tool_calls=[call])


@component
class ReasoningChatGenerator:
    """A chat generator that thinks aloud before it replies.

    :param think: makes the reasoning.
    :param reply: makes the reply.
    """

    def __init__(self, think: Callable[[list[ChatMessage]], str], reply: Reply) -> None:
        self._think = think
        self._model = OfflineChatGenerator(reply)

    @component.output_types(replies=list[ChatMessage])
    def run(
        self, messages: list[ChatMessage], streaming_callback: Any = None, tools: Any = None
    ) -> dict[str, list[ChatMessage]]:
        if streaming_callback is not None:
            for chunk in self._reasoning(messages):
                streaming_callback(chunk)
        return self._model.run(messages, streaming_callback, tools=tools)

    @component.output_types(replies=list[ChatMessage])
    async def run_async(
        self, messages: list[ChatMessage], streaming_callback: Any = None, tools: Any = None
    ) -> dict[str, list[ChatMessage]]:
        if streaming_callback is not None:
            for chunk in self._reasoning(messages):
                await streaming_callback(chunk)
        return await self._model.run_async(messages, streaming_callback, tools=tools)

    def _reasoning(self, messages: list[ChatMessage]) -> Iterator[StreamingChunk]:
        for word in re.findall(r"\S+\s*", self._think(messages)):
            yield StreamingChunk(content="", index=0, reasoning=ReasoningContent(word))
