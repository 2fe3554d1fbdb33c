"""A model that does what a client's user asks for, by a few words, the same each time."""

import json
import re
from collections.abc import Iterator
from typing import Any

from haystack import component
from haystack.dataclasses import ChatMessage, ReasoningContent, StreamingChunk, ToolCall, ToolCallDelta

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
_EXAMPLES = {"string": "Paris", "integer": 21, "number": 21.5, "boolean": True, "null": None}


class Scripted(RuntimeError):
    """The model fails, as it was asked to."""


@component
class ScriptedChatGenerator:
    """A chat generator for tests of clients.

    - "think ...": reasoning before the answer.
    - "weather in A and B", with tools: a call for each place, then the results as the answer.
    - an answer of a schema is asked for, or a tool must be called: one that fits.
    - "fail at once", "fail midway": it raises.
    - anything else: it is said back, with the number of the user's messages.
    """

    @component.output_types(replies=list[ChatMessage])
    def run(
        self,
        messages: list[ChatMessage],
        streaming_callback: Any = None,
        generation_kwargs: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        reply = None
        for step in _play(messages, generation_kwargs or {}):
            if isinstance(step, ChatMessage):
                reply = step
            elif streaming_callback is not None:
                streaming_callback(step)
        return {"replies": [reply]}

    @component.output_types(replies=list[ChatMessage])
    async def run_async(
        self,
        messages: list[ChatMessage],
        streaming_callback: Any = None,
        generation_kwargs: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        reply = None
        for step in _play(messages, generation_kwargs or {}):
            if isinstance(step, ChatMessage):
                reply = step
            elif streaming_callback is not None:
                await streaming_callback(step)
        return {"replies": [reply]}


def _play(messages: list[ChatMessage], kwargs: dict[str, Any]) -> Iterator[StreamingChunk | ChatMessage]:
    """The chunks of a reply, then the reply."""
    said = _said(messages)
    if "fail at once" in said:
        raise Scripted("secret: at once")
    if "fail midway" in said:
        yield StreamingChunk(content="Two ", index=0)
        yield StreamingChunk(content="words", index=0)
        raise Scripted("secret: midway")
    reasoning = f"There are {len(said.split())} words." if "think" in said else None
    for word in re.findall(r"\S+\s*", reasoning or ""):
        yield StreamingChunk(content="", index=0, reasoning=ReasoningContent(word))
    answer = _answer(messages, said, kwargs)
    calls = answer if isinstance(answer, list) else []
    text = None if calls else str(answer)
    for word in re.findall(r"\S+\s*", text or ""):
        yield StreamingChunk(content=word, index=0)
    for index, call in enumerate(calls):
        delta = ToolCallDelta(index, call.tool_name, json.dumps(call.arguments), id=call.id)
        yield StreamingChunk(content="", index=index, tool_calls=[delta], start=True)
    finish = "tool_calls" if calls else "stop"
    yield StreamingChunk(content="", finish_reason=finish, meta={"usage": USAGE})
    yield ChatMessage.from_assistant(
        text, tool_calls=calls, reasoning=reasoning, meta={"finish_reason": finish, "usage": USAGE}
    )


def _said(messages: list[ChatMessage]) -> str:
    """The user's last text, and whether there was a file."""
    last = next((message for message in reversed(messages) if message.is_from("user")), None)
    if last is None:
        return ""
    return " ".join(last.texts) + (", with a file" if last.files or last.images else "")


def _answer(messages: list[ChatMessage], said: str, kwargs: dict[str, Any]) -> str | list[ToolCall]:
    tools = {tool["function"]["name"]: tool["function"] for tool in kwargs.get("tools", ()) if "function" in tool}
    choice = kwargs.get("tool_choice")
    results = _results(messages)
    last = next((tool for name, tool in tools.items() if name.startswith("final_")), None)
    if results:
        if last is not None and choice != "none":
            return [_call(last, messages, "; ".join(results))]
        return "; ".join(results)
    form = kwargs.get("response_format", {})
    if form.get("type") == "json_schema":
        return json.dumps(_example(form["json_schema"]["schema"], form["json_schema"]["schema"]))
    if tools and choice != "none":
        if isinstance(choice, dict) and choice.get("type") == "function":
            return [_call(tools[choice["function"]["name"]], messages)]
        wanted = next((tool for name, tool in tools.items() if "weather" in name), None)
        places = re.search(r"weather in (\w+)(?: and (\w+))?", said)
        if wanted is not None and places:
            return [_call(wanted, messages, place, index) for index, place in enumerate(places.groups()) if place]
        if choice == "required":
            return [_call(last or next(iter(tools.values())), messages)]
    turns = sum(message.is_from("user") for message in messages)
    return f"You said: {said} (turn {turns})"


def _results(messages: list[ChatMessage]) -> list[str]:
    """The results of tools that end the conversation."""
    found: list[str] = []
    for message in reversed(messages):
        if message.tool_call_results:
            found[:0] = [str(result.result) for result in message.tool_call_results]
        elif not message.is_from("system"):
            break
    return found


def _call(tool: dict[str, Any], messages: list[ChatMessage], text: str | None = None, index: int = 0) -> ToolCall:
    schema = tool.get("parameters") or {}
    arguments = _example(schema, schema) or {}
    if text is not None and arguments:
        name = next((name for name, value in arguments.items() if isinstance(value, str)), next(iter(arguments)))
        arguments[name] = text
    return ToolCall(tool["name"], arguments, id=f"call_{len(messages)}_{index}")


def _example(schema: dict[str, Any], root: dict[str, Any]) -> Any:
    """A value that *schema* allows."""
    if "$ref" in schema:
        found = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return _example(found, root)
    if "enum" in schema:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return _example(schema[several][0], root)
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: _example(part, root) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [_example(schema.get("items", {"type": "string"}), root)]
    return _EXAMPLES[kind]
