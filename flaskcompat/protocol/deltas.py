"""What a wrapper gives, as a few plain kinds of change to an answer.

This is the only module that looks at foreign objects: :func:`read` takes a text, a Haystack chunk or message,
an event, an OpenAI dict or SDK object, and says what it means. The machines know the classes below alone; every
text in them is a plain ``str``, and what ``Event`` and ``Whole`` hold has been written as JSON once.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, Literal

from haystack.dataclasses import ChatMessage, ChatRole, StreamingChunk, ToolCall

from flaskcompat.errors import UpstreamFailed, WrapperContractError
from flaskcompat.protocol import sse
from flaskcompat.protocol.usage import RUN_USAGE, Usage, usage_of

FinishReason = Literal["stop", "length", "content_filter", "tool_calls", "tool_call_results"]

_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
    "tool_call_results": "tool_call_results",
}


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    text: str


@dataclass(frozen=True, slots=True)
class Refusal:
    text: str


@dataclass(frozen=True, slots=True)
class Citation:
    """A source of the text so far; without ``start`` and ``end`` (in characters) it stands at the text's end."""

    url: str
    title: str
    start: int | None = None
    end: int | None = None

    def placed(self, length: int) -> dict[str, Any]:
        """OpenAI's ``url_citation`` in a text of *length* characters so far."""
        start = length if self.start is None else self.start
        end = start if self.end is None else self.end
        return {"start_index": start, "end_index": end, "title": self.title, "url": self.url}


@dataclass(frozen=True, slots=True)
class ToolCallPart:
    """A piece of a call: the first has a name, later ones may have the index alone.

    :param key: what later pieces of the call carry in place of its id, if that is another name.
    """

    index: int
    id: str | None
    name: str | None
    arguments: str = ""
    key: str | None = None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of a call that was run on this side."""

    id: str | None
    name: str
    arguments: str
    output: str


@dataclass(frozen=True, slots=True)
class Event:
    """An event beside the answer: ``{"type", "data"}``."""

    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Finish:
    reason: FinishReason


@dataclass(frozen=True, slots=True)
class Whole:
    """A complete OpenAI answer, ``object`` telling of which API, and the deltas that make it up."""

    object: str
    answer: dict[str, Any]
    parts: tuple[Delta, ...]


Delta = Text | Reasoning | Refusal | Citation | ToolCallPart | ToolResult | Event | Usage | Finish | Whole

# Keys of a chunk's meta that mean something here; a chunk without them, and with content alone, is plain text.
_TELLING = frozenset({"usage", "response", "finish_reason", "refusal", "type"})


def plain_text(item: Any) -> str | None:
    """The text of an *item* that is nothing but text, else None: the short way for nearly all of a stream."""
    kind = type(item)
    if kind is StreamingChunk:
        if item.tool_calls or item.finish_reason or item.reasoning or item.tool_call_result:
            return None
        if item.meta and not _TELLING.isdisjoint(item.meta):
            return None
        item = item.content
        kind = type(item)
    return sse.clean(item) if kind is str else None


def read(item: Any) -> str | tuple[Delta, ...]:
    """What *item* says: a text where it is nothing but that, else its deltas.

    May run code of the user's, as to find out what an event of theirs holds.

    :raises WrapperContractError: for an item that is none of the kinds known.
    """
    text = plain_text(item)
    return tuple(deltas(item)) if text is None else text


def length(delta: Delta) -> int | None:
    """Characters of *delta*; None where it may hold any number in a form of its own."""
    match delta:
        case Text() | Reasoning() | Refusal():
            return len(delta.text)
        case ToolCallPart():
            return len(delta.arguments)
        case Event() | Whole() | ToolResult():
            return None
    return 0


@singledispatch
def deltas(item: Any) -> Iterator[Delta]:
    """What *item* changes in the answer, in order.

    :raises WrapperContractError: for an item that is none of the kinds known.
    """
    to_event_dict = getattr(item, "to_event_dict", None)
    if callable(to_event_dict):
        yield _event(to_event_dict())
    elif hasattr(item, "model_dump") and isinstance(getattr(item, "object", None), str):
        yield from _openai_deltas(item.model_dump(mode="json", exclude_unset=True))
    elif isinstance(item, Mapping):
        yield from _mapping_deltas(dict(item))
    else:
        raise WrapperContractError(f"{type(item).__name__} is no part of an answer")


def check_whole(result: Any) -> None:
    """Refuse a mapping that was returned as a whole answer and is none.

    Inside a stream a mapping may be an event; alone it must be an OpenAI object, or a pipeline's raw result
    would pass as an empty answer.

    :raises WrapperContractError: naming the keys found.
    """
    if isinstance(result, Mapping) and result.get("object") not in _OPENAI_OBJECTS:
        keys = ", ".join(map(str, list(result)[:8]))
        raise WrapperContractError(f"dict with keys ({keys}) is no OpenAI answer: 'object' is missing or unknown")


@deltas.register
def _(item: str) -> Iterator[Delta]:
    yield from _text(Text, item)


@deltas.register
def _(item: Citation) -> Iterator[Delta]:
    yield _checked(item)


@deltas.register
def _(item: StreamingChunk) -> Iterator[Delta]:
    meta: Mapping[str, Any] = item.meta if isinstance(item.meta, Mapping) else {}
    if item.reasoning is not None:
        yield from _text(Reasoning, item.reasoning.reasoning_text)
    yield from _text(Text, item.content)
    yield from _text(Refusal, meta.get("refusal"))
    yield from _upstream_event(meta)
    for call in item.tool_calls or ():
        yield _call_part(call.index, call_id(call), call.tool_name, call.arguments, call.id)
    if item.tool_call_result is not None:
        yield _tool_result(item.tool_call_result)
    yield from _meta_usage(meta)
    yield from _finish(item.finish_reason or meta.get("finish_reason"))


@deltas.register
def _(item: ChatMessage) -> Iterator[Delta]:
    if item.is_from(ChatRole.TOOL):
        for result in item.tool_call_results:
            yield _tool_result(result)
        return
    if not item.is_from(ChatRole.ASSISTANT):
        raise WrapperContractError(f"ChatMessage with role '{item.role.value}' is no part of an answer")
    for reasoning in item.reasonings:
        yield from _text(Reasoning, reasoning.reasoning_text)
    for text in item.texts:
        yield from _text(Text, text)
    yield from _text(Refusal, item.meta.get("refusal"))
    for index, call in enumerate(item.tool_calls):
        yield _call_part(index, call_id(call), call.tool_name, call.arguments)
    yield from _meta_usage(item.meta)
    yield from _finish(item.meta.get("finish_reason"))


def call_id(call: Any) -> str | None:
    """The id that a result refers to; generators over the Responses API keep it beside the item's own id."""
    extra = call.extra if isinstance(call.extra, Mapping) else {}
    return extra.get("call_id") or call.id or None


def _text(kind: Callable[[str], Delta], text: Any) -> Iterator[Delta]:
    if isinstance(text, str):
        if text:
            yield kind(_plain(text))
    elif text is not None:
        raise WrapperContractError(f"content is {type(text).__name__}, not str")


def _arguments(arguments: Any) -> str:
    if arguments is None:
        return ""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False, default=str)
    return _plain(text)


def _plain(text: str) -> str:
    """*text* without surrogates, and without methods of a class of the user's."""
    return sse.clean(str.__str__(text))


def _name(value: Any, what: str) -> str | None:
    if isinstance(value, int):
        return str(value)
    if value is not None and not isinstance(value, str):
        raise WrapperContractError(f"{what} is {type(value).__name__}, not str")
    return _plain(value) if value else None


def _call_part(index: Any, id: Any, name: Any, arguments: Any, key: Any = None) -> ToolCallPart:
    try:
        index = operator.index(index or 0)
    except TypeError:
        raise WrapperContractError(f"the index of a tool call is {type(index).__name__}, not int") from None
    id, key = _name(id, "the id of a tool call"), _name(key, "the id of a tool call")
    return ToolCallPart(index, id, _name(name, "the name of a tool"), _arguments(arguments), key)


def _tool_result(result: Any) -> ToolResult:
    origin: ToolCall = result.origin
    output = result.result
    if not isinstance(output, str):
        output = "\n".join(text for part in output if isinstance(text := getattr(part, "text", None), str))
    id, name = _name(call_id(origin), "the id of a tool call"), _name(origin.tool_name, "the name of a tool")
    return ToolResult(id, name or "", _arguments(origin.arguments), _plain(output))


def _upstream_event(meta: Mapping[str, Any]) -> Iterator[Delta]:
    """What the generator over the Responses API passes on as it came, without a field of the chunk for it."""
    match meta.get("type"):
        case "response.refusal.delta":
            yield from _text(Refusal, meta.get("delta"))
        case "response.failed" | "error":
            # Its generator ends without an error, and half an answer would pass for a whole one.
            raise UpstreamFailed(f"the model failed: {json.dumps(meta, default=str)[:1000]}")


def _meta_usage(meta: Mapping[str, Any]) -> Iterator[Delta]:
    response = meta.get("response")
    source = meta.get("usage") or (response.get("usage") if isinstance(response, Mapping) else None)
    usage = usage_of(source, of_run=bool(meta.get(RUN_USAGE)))
    if usage is not None:
        yield usage


def _finish(reason: Any) -> Iterator[Delta]:
    if isinstance(reason, str) and reason in _FINISH_REASONS:
        yield Finish(_FINISH_REASONS[reason])


def _event(payload: Any) -> Event:
    if not isinstance(payload, Mapping):
        raise WrapperContractError(f"an event is {type(payload).__name__}, not a mapping")
    payload = dict(payload)
    if isinstance(payload.get("event"), Mapping) and not isinstance(payload.get("type"), str):
        return _event(payload["event"])
    kind = payload.pop("type", None)
    data = payload.pop("data", None) if set(payload) <= {"data"} else payload
    event = {"type": kind if isinstance(kind, str) and kind else "custom", "data": {} if data is None else data}
    try:
        sse.dumps(event)
    except (TypeError, ValueError, RecursionError) as error:
        raise WrapperContractError(f"the data of an event '{event['type']}' is no JSON: {error}") from error
    return Event(event)


# -- OpenAI's own dicts ------------------------------------------------------------------------------------


def _mapping_deltas(item: dict[str, Any]) -> Iterator[Delta]:
    if item.get("object") in _OPENAI_OBJECTS:
        yield from _openai_deltas(item)
    else:
        yield _event(item)


def _openai_deltas(item: dict[str, Any]) -> Iterator[Delta]:
    parts_of = _OPENAI_OBJECTS.get(item.get("object", ""))
    if parts_of is None:
        raise WrapperContractError(f"OpenAI object '{item.get('object')}' is no answer")
    try:
        parts = tuple(parts_of(item))
        if item["object"] != "chat.completion.chunk":  # it goes out as it is
            sse.dumps(item)
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise WrapperContractError(f"malformed OpenAI object '{item['object']}'") from error
    if item["object"] == "chat.completion.chunk":
        yield from parts
    else:
        yield Whole(item["object"], item, parts)


def _chat_completion(item: dict[str, Any]) -> Iterator[Delta]:
    choice = item["choices"][0]
    yield from _chat_message(choice["message"])
    yield from _finish(choice.get("finish_reason"))
    yield from _meta_usage(item)


def _chat_chunk(item: dict[str, Any]) -> Iterator[Delta]:
    for choice in (item.get("choices") or ())[:1]:
        yield from _chat_message(choice.get("delta") or {})
        yield from _finish(choice.get("finish_reason"))
    yield from _meta_usage(item)


def _chat_message(message: dict[str, Any]) -> Iterator[Delta]:
    yield from _text(Reasoning, message.get("reasoning_content") or message.get("reasoning"))
    yield from _text(Text, message.get("content"))
    yield from _text(Refusal, message.get("refusal"))
    for note in message.get("annotations") or ():
        if note.get("type") == "url_citation":
            yield _citation(note["url_citation"])
    for position, call in enumerate(message.get("tool_calls") or ()):
        function = call.get("function") or call.get("custom") or {}
        index, arguments = call.get("index"), function.get("arguments") or function.get("input")
        index = position if index is None else index
        yield _call_part(index, call.get("id"), function.get("name"), arguments)


def _response(item: dict[str, Any]) -> Iterator[Delta]:
    if item.get("status") in ("failed", "cancelled"):
        raise WrapperContractError(f"a response with status '{item['status']}' is no answer")
    calls = 0
    for output in item["output"]:
        match output.get("type"):
            case "message":
                for part in output.get("content") or ():
                    yield from _text(Text, part.get("text"))
                    yield from _text(Refusal, part.get("refusal"))
                    for note in part.get("annotations") or ():
                        if note.get("type") == "url_citation":
                            yield _citation(note)
            case "reasoning":
                for part in output.get("summary") or output.get("content") or ():
                    yield from _text(Reasoning, part.get("text"))
            case "function_call":
                yield _call_part(calls, output["call_id"], output["name"], output.get("arguments"))
                calls += 1
    details = item.get("incomplete_details") or {}
    yield from _meta_usage(item)
    yield from _finish(details.get("reason"))


def _citation(note: dict[str, Any]) -> Citation:
    return _checked(
        Citation(str(note["url"]), str(note.get("title", "")), note.get("start_index"), note.get("end_index"))
    )


def _checked(citation: Citation) -> Citation:
    url, title = _name(citation.url, "the URL of a citation"), _name(citation.title, "the title of a citation")
    return Citation(url or "", title or "", _place(citation.start), _place(citation.end))


def _place(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is not None and not (isinstance(value, int) and 0 <= value < 2**53):
        raise WrapperContractError("the place of a citation is no number of characters")
    return value


_OPENAI_OBJECTS: dict[str, Callable[[dict[str, Any]], Iterator[Delta]]] = {
    "chat.completion": _chat_completion,
    "chat.completion.chunk": _chat_chunk,
    "response": _response,
}
