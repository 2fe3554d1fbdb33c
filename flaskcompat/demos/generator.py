"""The chat generator of the demos: OpenAI's where the environment names one, else one that works offline."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from haystack import component
from haystack.dataclasses import ChatMessage, StreamingChunk, ToolCallDelta
from haystack.utils import Secret

#: Makes the reply to a conversation, with the tools that may be called.
Reply = Callable[[list[ChatMessage], list[Any]], ChatMessage]


def chat_generator(reply: Reply) -> Any:
    """``OpenAIChatGenerator`` if ``OPENAI_API_KEY`` or ``OPENAI_BASE_URL`` is set, else a generator that asks *reply*.

    ``OPENAI_MODEL`` names the model of the former.
    """
    if not (os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL")):
        return OfflineChatGenerator(reply)
    from haystack.components.generators.chat import OpenAIChatGenerator

    settings: dict[str, Any] = {"api_base_url": os.environ.get("OPENAI_BASE_URL") or None}
    if model := os.environ.get("OPENAI_MODEL"):
        settings["model"] = model
    if not os.environ.get("OPENAI_API_KEY"):
        settings["api_key"] = Secret.from_token("not-used")
    return OpenAIChatGenerator(**settings)


@component
class OfflineChatGenerator:
    """A chat generator whose replies are computed from the conversation by a function; streams word by word."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    @component.output_types(replies=list[ChatMessage])
    def run(
        self,
        messages: list[ChatMessage],
        streaming_callback: Any = None,
        generation_kwargs: dict[str, Any] | None = None,
        tools: Any = None,
    ) -> dict[str, Any]:
        reply = self._answer(messages, tools)
        if streaming_callback is not None:
            for chunk in _chunks(reply):
                streaming_callback(chunk)
        return {"replies": [reply]}

    @component.output_types(replies=list[ChatMessage])
    async def run_async(
        self,
        messages: list[ChatMessage],
        streaming_callback: Any = None,
        generation_kwargs: dict[str, Any] | None = None,
        tools: Any = None,
    ) -> dict[str, Any]:
        reply = self._answer(messages, tools)
        if streaming_callback is not None:
            for chunk in _chunks(reply):
                await streaming_callback(chunk)
        return {"replies": [reply]}

    def _answer(self, messages: list[ChatMessage], tools: Any) -> ChatMessage:
        reply = self._reply(messages, list(tools or ()))
        # Words stand for tokens: enough to show that counts reach the client.
        read = sum(len((message.text or "").split()) for message in messages)
        written = len((reply.text or "").split()) + len(reply.tool_calls)
        usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        finish = "tool_calls" if reply.tool_calls else "stop"
        return replace(reply, _meta={"model": "offline", "finish_reason": finish, "usage": usage})


def _chunks(reply: ChatMessage) -> Iterator[StreamingChunk]:
    for word in re.findall(r"\s*\S+\s*", reply.text or ""):
        yield StreamingChunk(content=word, index=0)
    for index, call in enumerate(reply.tool_calls):
        delta = ToolCallDelta(index, call.tool_name, json.dumps(call.arguments), id=call.id)
        yield StreamingChunk(content="", index=index, tool_calls=[delta], start=True)
    yield StreamingChunk(content="", finish_reason="tool_calls" if reply.tool_calls else "stop")
