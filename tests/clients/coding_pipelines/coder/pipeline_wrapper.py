"""A model that codes: it calls the client's own tool for shell commands."""

import json
import re
from collections.abc import Iterator
from typing import Any

from haystack import component
from haystack.dataclasses import ChatMessage, StreamingChunk, ToolCall, ToolCallDelta

from flaskcompat import (
    BasePipelineWrapper,
    Pipeline,
    chat_messages_from_openai_messages,
    chat_messages_from_openai_response,
    generation_kwargs_from_body,
    streaming_generator,
)

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
#: What clients call the command among the arguments of their tool.
COMMAND = ("cmd", "command")


@component
class CodingChatGenerator:
    """A chat generator that runs what stands in backquotes in the user's last message, one command after the other.

    When all have run it says what they printed. "break off": it raises in the middle of the first call.
    """

    @component.output_types(replies=list[ChatMessage])
    def run(
        self,
        messages: list[ChatMessage],
        streaming_callback: Any = None,
        generation_kwargs: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        said = next((message.text or "" for message in reversed(messages) if message.is_from("user")), "")
        commands, results = re.findall(r"`([^`]+)`", said), _results(messages)
        tool = _shell((generation_kwargs or {}).get("tools", ()))
        if tool is None or len(results) >= len(commands):
            reply = ChatMessage.from_assistant("\n".join(["They said:", *results]), meta={"usage": USAGE})
            chunks = [StreamingChunk(piece, index=0) for piece in re.findall(r"\S+\s*", reply.text or "")]
        else:
            call = _call(*tool, commands[len(results)], len(messages))
            reply = ChatMessage.from_assistant(tool_calls=[call], meta={"usage": USAGE})
            chunks = [*_chunks(call, "break off" in said)]
        for chunk in chunks if streaming_callback else ():
            streaming_callback(chunk)
        if reply.tool_calls and "break off" in said:
            raise RuntimeError("secret: in a call")
        if streaming_callback:
            finish = "tool_calls" if reply.tool_calls else "stop"
            streaming_callback(StreamingChunk("", finish_reason=finish, meta={"usage": USAGE}))
        return {"replies": [reply]}


def _results(messages: list[ChatMessage]) -> list[str]:
    """What the tools said since the user's last message."""
    found: list[str] = []
    for message in messages:
        if message.is_from("user"):
            found.clear()
        found += [str(result.result) for result in message.tool_call_results]
    return found


def _shell(tools: Any) -> tuple[dict[str, Any], str] | None:
    """The tool for shell commands, and the name of the argument that is the command."""
    functions = [tool["function"] for tool in tools if "function" in tool]
    every = ((function, name) for function in functions for name in function["parameters"].get("properties", {}))
    return next((found for found in every if found[1] in COMMAND), None)


def _call(function: dict[str, Any], argument: str, command: str, number: int) -> ToolCall:
    arguments = dict.fromkeys(function["parameters"].get("required", ()), "a test") | {argument: command}
    return ToolCall(function["name"], arguments, id=f"call_{number}")


def _chunks(call: ToolCall, broken: bool) -> Iterator[StreamingChunk]:
    """A call in pieces; without its end if it is *broken*."""
    arguments = json.dumps(call.arguments)
    yield StreamingChunk("", index=0, tool_calls=[ToolCallDelta(0, call.tool_name, id=call.id)], start=True)
    for start in range(0, len(arguments) // (2 if broken else 1), 8):
        yield StreamingChunk("", index=0, tool_calls=[ToolCallDelta(0, arguments=arguments[start : start + 8])])


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        self.pipeline = Pipeline()
        self.pipeline.add_component("llm", CodingChatGenerator())

    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        return self._stream(chat_messages_from_openai_messages(messages), body)

    def run_response(self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        messages = chat_messages_from_openai_response(input_items, instructions=body.get("instructions"))
        return self._stream(messages, body)

    def _stream(self, messages: list[ChatMessage], body: dict[str, Any]) -> Any:
        run = {"messages": messages, "generation_kwargs": generation_kwargs_from_body(body)}
        return streaming_generator(self.pipeline, pipeline_run_args={"llm": run})
