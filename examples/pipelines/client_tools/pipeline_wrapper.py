"""Tools that the client brings and runs itself, as coding agents do: calls go out, results come back."""

import re
from collections.abc import Generator
from typing import Any

from haystack.dataclasses import ChatMessage, ToolCall
from haystack.tools import Tool

from flaskcompat import (
    BasePipelineWrapper,
    Pipeline,
    chat_messages_from_openai_messages,
    chat_messages_from_openai_response,
    streaming_generator,
    tools_from_body,
)
from flaskcompat.demos.generator import OfflineChatGenerator


def reply(messages: list[ChatMessage], tools: list[Tool]) -> ChatMessage:
    """What the model says without a model: calls of the tools that the question names, then their results."""
    if results := _results(messages):
        return ChatMessage.from_assistant("; ".join(results))
    question = messages[-1].text or ""
    named = [tool for tool in tools if re.search(rf"\b{re.escape(tool.name)}\b", question)]
    if not named:
        names = ", ".join(tool.name for tool in tools)
        return ChatMessage.from_assistant(f"Name one of your tools: {names or 'you sent none'}.")
    calls = [_call(tool, question, f"call_{len(messages)}_{n}") for n, tool in enumerate(named)]
    return ChatMessage.from_assistant(tool_calls=calls)


def _call(tool: Tool, question: str, call_id: str) -> ToolCall:
    return ToolCall(tool.name, dict.fromkeys(tool.parameters.get("required", ()), question), id=call_id)


def _results(messages: list[ChatMessage]) -> list[str]:
    """The results that end the conversation, each with the name of its tool."""
    found: list[str] = []
    for message in reversed(messages):
        if not message.tool_call_results:
            break
        results = message.tool_call_results
        found[:0] = [f"{result.origin.tool_name} gave {result.result}" for result in results]
    return found


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        self.pipeline = Pipeline()
        self.pipeline.add_component("llm", OfflineChatGenerator(reply))

    def run_chat_completion(
        self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]
    ) -> Generator[Any, None, None]:
        return self._stream(chat_messages_from_openai_messages(messages), body)

    def run_response(
        self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]
    ) -> Generator[Any, None, None]:
        return self._stream(chat_messages_from_openai_response(input_items), body)

    def _stream(self, messages: list[ChatMessage], body: dict[str, Any]) -> Generator[Any, None, None]:
        # Called by the model, run by the client.
        tools = tools_from_body(body)
        return streaming_generator(
            pipeline=self.pipeline,
            pipeline_run_args={"llm": {"messages": messages, "tools": tools}},
        )
