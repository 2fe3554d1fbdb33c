"""A request's messages and input items: looking things up in them, and turning them into Haystack messages."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from haystack.dataclasses import ChatMessage, FileContent, ImageContent, TextContent, ToolCall

from flaskcompat.log import log

# Types named in a line of the log.
_MOST_NAMED = 10
_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
_ASSISTANT_PARTS = _TEXT_PARTS | {"refusal"}
_DATA_URL = re.compile(r"data:(?P<mime>[\w.+-]+/[\w.+-]+)?(;[\w=.-]+)*;base64,(?P<data>[A-Za-z0-9+/=\s]+)")


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A stored file, as a message takes it."""

    data: bytes
    mime_type: str | None
    filename: str | None


#: Finds a file by its id, or by an http URL; None where that is left to the wrapper.
FindFile = Callable[[str], FoundFile | None]


def _find_none(id: str) -> None:
    return None


def get_last_user_message(messages: Iterable[Mapping[str, Any]]) -> str | None:
    """The text of the last user message, text parts joined; None where there is no user message."""
    for message in reversed(list(messages)):
        if message.get("role") == "user":
            return _text(message.get("content"))
    return None


def get_last_user_input_text(input_items: Iterable[Mapping[str, Any]]) -> str | None:
    """The text of the last user message among Responses input items: a string, or the last ``input_text`` part."""
    for item in reversed(list(input_items)):
        if item.get("role") != "user" or item.get("type", "message") not in ("message", None):
            continue
        content = item.get("content")
        if isinstance(content, str):
            return content
        for part in reversed(list(_parts(content))):
            if part.get("type") == "input_text" and isinstance(part.get("text"), str):
                return str(part["text"])
    return None


def get_input_files(input_items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every ``input_file`` part of user items that has a ``file_id``, whole and in order."""
    return [
        dict(part)
        for item in input_items
        if item.get("role") == "user"
        for part in _parts(item.get("content"))
        if part.get("type") == "input_file" and part.get("file_id")
    ]


def is_user_message(message: Mapping[str, Any]) -> bool:
    """Whether *message* is the user's."""
    return message.get("role") == "user"


def chat_messages_from_openai_messages(
    messages: Iterable[Mapping[str, Any]], find_file: FindFile = _find_none
) -> list[ChatMessage]:
    """Chat Completions messages as Haystack messages.

    Text, tool calls and results, ``image_url`` data URLs and ``file`` parts with data, or with an id or a URL that
    *find_file* knows, are converted. What has no Haystack form without that (another URL or file id, audio) is named in
    the log and kept in the message's ``meta["openai_parts"]``.
    """
    converter = _Converter(find_file)
    for message in messages:
        if message.get("role") in ("tool", "function"):
            converter.add_result(message.get("tool_call_id"), message.get("content"), message.get("name"))
        else:
            converter.add_message(message, _chat_calls(message))
    return converter.messages


def chat_messages_from_openai_response(
    input_items: Iterable[Mapping[str, Any]], find_file: FindFile = _find_none, *, instructions: str | None = None
) -> list[ChatMessage]:
    """Responses input items as Haystack messages.

    Messages, ``function_call`` and ``custom_tool_call`` (consecutive ones become one assistant message) and their
    ``_output`` items (whose origin is the matching call) are converted, images and files as in
    :func:`chat_messages_from_openai_messages`. Reasoning and items of other types have no place in a Haystack
    conversation and are left out; the log names the latter.

    :param instructions: the first message, as the system's.
    """
    converter, others = _Converter(find_file), Counter[str]()
    if instructions:
        converter.add_message({"role": "system", "content": instructions})
    for item in input_items:
        match item.get("type") or "message":
            case "message":
                converter.add_message(item)
            case "function_call":
                converter.add_call(item.get("call_id") or item.get("id"), item.get("name"), item.get("arguments"))
            case "custom_tool_call":
                converter.add_call(item.get("call_id"), item.get("name"), {"input": item.get("input")})
            case "function_call_output" | "custom_tool_call_output":
                converter.add_result(item.get("call_id") or item.get("id"), item.get("output"), None)
            case "reasoning":
                pass
            case other:
                others[str(other)[:64]] += 1
    _log_kinds("input items of these types have no Haystack form and are left out: {}", others)
    return converter.messages


_Call = tuple[Any, Any, Any]  # id, name, arguments


def _chat_calls(message: Mapping[str, Any]) -> Iterator[_Call]:
    others = Counter[str]()
    for call in message.get("tool_calls") or ():
        function = call.get("function") or call.get("custom")
        if isinstance(function, Mapping):
            yield call.get("id"), function.get("name"), function.get("arguments") or function.get("input")
        else:
            others[str(call.get("type"))[:64]] += 1
    _log_kinds("tool calls of these types have no Haystack form and are left out: {}", others)
    if isinstance(legacy := message.get("function_call"), Mapping):
        yield None, legacy.get("name"), legacy.get("arguments")


class _Converter:
    """Collects Haystack messages; remembers calls, so that results find their origin."""

    def __init__(self, find_file: FindFile) -> None:
        self._find_file = find_file
        self._messages: list[ChatMessage] = []
        self._calls: dict[str, ToolCall] = {}
        self._open_calls: list[ToolCall] = []  # those of an assistant message that comes next

    @property
    def messages(self) -> list[ChatMessage]:
        """All that was added."""
        if self._open_calls:
            self._messages.append(ChatMessage.from_assistant(tool_calls=self._open_calls))
            self._open_calls = []
        return self._messages

    def add_message(self, message: Mapping[str, Any], calls: Iterable[_Call] = ()) -> None:
        content = message.get("content")
        name = message.get("name") if isinstance(message.get("name"), str) else None
        match message.get("role"):
            case "system" | "developer":
                meta = _left_over(part for part in _parts(content) if part.get("type") not in _TEXT_PARTS)
                self.messages.append(ChatMessage.from_system(_text(content) or "", meta=meta, name=name))
            case "assistant":
                text = _text(content) or _refusal(message)
                meta = _left_over(part for part in _parts(content) if part.get("type") not in _ASSISTANT_PARTS)
                made = [self._call(*call) for call in calls]
                if text or made or meta:
                    self.messages.append(ChatMessage.from_assistant(text, meta=meta, name=name, tool_calls=made))
            case _:
                self.messages.append(_user_message(content, name, self._find_file))

    def add_call(self, id: Any, name: Any, arguments: Any) -> None:
        """A call that is an item of its own; joins the calls right before it."""
        self._open_calls.append(self._call(id, name, arguments))

    def _call(self, id: Any, name: Any, arguments: Any) -> ToolCall:
        call_id = id if isinstance(id, str) and id else f"call_{len(self._calls)}"
        # Generators over the Responses API read the id from `extra`, all others from `id`.
        call = ToolCall(str(name or "function"), _arguments(arguments), id=call_id, extra={"call_id": call_id})
        self._calls[call_id] = call
        return call

    def add_result(self, id: Any, output: Any, name: Any) -> None:
        origin = self._calls.get(str(id))
        if origin is None:
            extra = {"call_id": str(id)} if id else None
            origin = ToolCall(str(name or "function"), {}, id=str(id) if id else None, extra=extra)
        result, meta = _tool_output(output, self._find_file)
        self.messages.append(ChatMessage.from_tool(tool_result=result, origin=origin, meta=meta))


def _user_message(content: Any, name: str | None, find_file: FindFile) -> ChatMessage:
    converted = [(part, _content_part(part, find_file)) for part in _parts(content)]
    parts: list[TextContent | str | ImageContent | FileContent] = [made for _, made in converted if made is not None]
    meta = _left_over(part for part, made in converted if made is None)
    if all(isinstance(part, str) for part in parts):
        return ChatMessage.from_user(_text(content) or "", meta=meta, name=name)
    return ChatMessage.from_user(meta=meta, name=name, content_parts=parts)


def _tool_output(
    output: Any, find_file: FindFile
) -> tuple[str | list[TextContent | ImageContent], dict[str, Any] | None]:
    """A tool's output as text, or as text and images where it has any; and the meta for what is left over."""
    if output is None or isinstance(output, str):
        return output or "", None
    if not isinstance(output, list):
        return json.dumps(output, ensure_ascii=False, default=str), None
    converted = [(part, _content_part(part, find_file)) for part in _parts(output)]
    kept = [TextContent(made) if isinstance(made, str) else made for _, made in converted]
    result = [made for made in kept if isinstance(made, TextContent | ImageContent)]
    left = (part for part, made in converted if made is None or isinstance(made, FileContent))
    if any(isinstance(made, ImageContent) for made in result):
        return result, _left_over(left)
    return "\n".join(made.text for made in result if isinstance(made, TextContent)), _left_over(left)


def _left_over(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Meta that keeps *parts* which have no Haystack form; the log names them."""
    left = [dict(part) for part in parts]
    kinds = Counter(str(part.get("type"))[:64] for part in left)
    _log_kinds("content parts of these types have no Haystack form here and are kept in meta: {}", kinds)
    return {"openai_parts": left} if left else None


def _log_kinds(message: str, kinds: Counter[str]) -> None:
    """Name what has no form in one line, however much of it there is."""
    if kinds:
        named = ", ".join(f"{kind!r} ({number})" for kind, number in kinds.most_common(_MOST_NAMED))
        log.warning(message, named)


def _content_part(part: Mapping[str, Any], find_file: FindFile) -> str | ImageContent | FileContent | None:
    """A content part in Haystack's form, None where it has none without fetching something."""
    nested = part.get("file")
    file: Mapping[str, Any] = nested if isinstance(nested, Mapping) else part
    match part.get("type"):
        case "text" | "input_text" | "output_text":
            return str(part.get("text") or "")
        case "image_url" | "input_image":
            image = part.get("image_url")
            holder: Mapping[str, Any] = image if isinstance(image, Mapping) else {**part, "url": image}
            if match := _data_url(holder.get("url")):
                detail = holder["detail"] if holder.get("detail") in ("auto", "high", "low") else None
                return ImageContent(match["data"], mime_type=match["mime"], detail=detail, validation=False)
            if found := _found(part.get("file_id") or holder.get("url"), find_file):
                data = b64encode(found.data).decode()
                return ImageContent(data, mime_type=found.mime_type, detail=holder.get("detail"), validation=False)
        case "file" | "input_file":
            if match := _data_url(file.get("file_data")):
                name = file.get("filename")
                return FileContent(match["data"], mime_type=match["mime"], filename=name, validation=False)
            if found := _found(file.get("file_id") or file.get("file_url"), find_file):
                data = b64encode(found.data).decode()
                return FileContent(data, mime_type=found.mime_type, filename=found.filename, validation=False)
    return None


def _found(reference: Any, find_file: FindFile) -> FoundFile | None:
    return find_file(reference) if isinstance(reference, str) else None


def _data_url(value: Any) -> re.Match[str] | None:
    return _DATA_URL.fullmatch(value) if isinstance(value, str) else None


def _parts(content: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(content, str):
        yield {"type": "text", "text": content}
    elif isinstance(content, list):
        yield from (part for part in content if isinstance(part, Mapping))


def _text(content: Any) -> str | None:
    """The text of a message's content, parts joined; None where it holds no text."""
    if isinstance(content, str):
        return content
    texts = [
        str(part["text"])
        for part in _parts(content)
        if part.get("type") in _TEXT_PARTS and part.get("text") is not None
    ]
    return "\n".join(texts) if texts else None


def _refusal(message: Mapping[str, Any]) -> str | None:
    if isinstance(message.get("refusal"), str):
        return str(message["refusal"])
    return next((str(part["refusal"]) for part in _parts(message.get("content")) if part.get("refusal")), None)


def _arguments(arguments: Any) -> dict[str, Any]:
    """A call's arguments as a mapping; text that is none is kept under ``input``, not lost."""
    if isinstance(arguments, str | None):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            return {"input": arguments}
    return dict(arguments) if isinstance(arguments, Mapping) else {"input": arguments}
