"""Request bodies and listed objects, checked once each by marshmallow.

Unknown fields are kept. A problem is a :class:`Problem` rather than a text, so that the first one found becomes
the error code that OpenAI's clients know. Fields are strict: ``"yes"`` is no boolean and ``"0.5"`` no number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from marshmallow import INCLUDE, Schema, ValidationError, fields, missing

from flaskcompat.errors import InvalidRequest, InvalidType, InvalidValue, MissingParameter

CHAT_ROLES = frozenset({"developer", "system", "user", "assistant", "tool", "function"})
# A tuple: whatever stands as a role can be looked for in it, hashable or not.
_PLAIN_ROLES = ("user", "assistant", "system", "developer")
INPUT_ROLES = frozenset({"user", "system", "developer", "assistant"})
MOST_ITEMS_ADDED = 20
METADATA_PAIRS, METADATA_KEY, METADATA_VALUE = 16, 64, 512


@dataclass(frozen=True)
class Problem:
    """What is wrong with one field; *text* completes the sentence "'<field>' ..."."""

    error: type[InvalidRequest]
    text: str = ""


MISSING = Problem(MissingParameter)


def wrong_type(expected: str) -> Problem:
    return Problem(InvalidType, f"must be {expected}")


def wrong_value(text: str) -> Problem:
    return Problem(InvalidValue, text)


def _fail(problem: Problem, *path: str | int) -> NoReturn:
    messages: Any = [problem]
    for step in reversed(path):
        messages = {step: messages}
    raise ValidationError(messages)


class _Strict(fields.Raw):
    """A field of one JSON type; null is taken out before (see :class:`RequestSchema`)."""

    expected = "valid"
    default_error_messages = {"required": [MISSING]}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if not self.accepts(value):
            _fail(wrong_type(self.expected))
        self.check(value)
        return value

    def accepts(self, value: Any) -> bool:
        return True

    def check(self, value: Any) -> None:
        """Refuse a value of the right type."""


class Flag(_Strict):
    expected = "a boolean"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, bool)


class String(_Strict):
    expected = "a string"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str)


class Name(String):
    def check(self, value: Any) -> None:
        if not value:
            _fail(wrong_value("must not be empty"))


class Number(_Strict):
    """A number between *low* and *high*; whole numbers only for ``whole=True``."""

    def __init__(
        self, low: float | None = None, high: float | None = None, *, whole: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.low, self.high, self.whole = low, high, whole
        self.expected = "an integer" if whole else "a number"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, int if self.whole else (int, float)) and not isinstance(value, bool)

    def check(self, value: Any) -> None:
        if self.low is not None and not value >= self.low:
            _fail(wrong_value(f"must be at least {self.low:g}"))
        if (self.high is not None and value > self.high) or (isinstance(value, float) and not math.isfinite(value)):
            _fail(wrong_value(f"must be at most {self.high:g}" if self.high is not None else "must be finite"))


class One(Number):
    """A number of answers."""

    def check(self, value: Any) -> None:
        super().check(value)
        if value > 1:
            _fail(wrong_value("must be 1: one answer is made at a time"))


class Choice(_Strict):
    expected = "a string"

    def __init__(self, *choices: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.choices = choices

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str)

    def check(self, value: Any) -> None:
        if value not in self.choices:
            _fail(wrong_value(f"must be one of {', '.join(self.choices)}"))


class ChoiceOrObject(Choice):
    """``tool_choice``: one of a few words, or an object that says more."""

    expected = "a string or an object"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str | dict)

    def check(self, value: Any) -> None:
        if isinstance(value, str):
            super().check(value)
        else:
            _require(value, "type", str)


class Object(_Strict):
    expected = "an object"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, dict)


class Array(_Strict):
    expected = "an array"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, list)


class Strings(Array):
    def check(self, value: Any) -> None:
        for index, item in enumerate(value):
            if not isinstance(item, str):
                _fail(wrong_type("a string"), index)


class Conversation(_Strict):
    """``conversation`` of the Responses API: an id, or an object that holds it."""

    expected = "a string or an object"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str | dict)

    def check(self, value: Any) -> None:
        if isinstance(value, dict):
            _require(value, "id", str)


class Stop(_Strict):
    expected = "a string or an array of strings"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


class StreamOptions(Object):
    def check(self, value: Any) -> None:
        if not isinstance(value.get("include_usage"), bool | None):
            _fail(wrong_type("a boolean"), "include_usage")


class TextOptions(Object):
    """``text`` of the Responses API; a format says its type."""

    def check(self, value: Any) -> None:
        if (form := value.get("format")) is not None:
            _require_object(form, "format")
            _require(form, "type", str, "format")


class Metadata(Object):
    """At most 16 pairs of strings."""

    def check(self, value: Any) -> None:
        if len(value) > METADATA_PAIRS:
            _fail(wrong_value(f"must have at most {METADATA_PAIRS} pairs"))
        for key, item in value.items():
            if not isinstance(item, str):
                _fail(wrong_type("a string"), key)
            if len(key) > METADATA_KEY:
                _fail(wrong_value(f"must have keys of at most {METADATA_KEY} characters"))
            if len(item) > METADATA_VALUE:
                _fail(wrong_value(f"must be at most {METADATA_VALUE} characters long"), key)


class Tools(Array):
    """Tools of any type; a function has a name, nested under ``function`` for Chat Completions."""

    def __init__(self, *, nested: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.nested = nested

    def check(self, value: Any) -> None:
        for index, tool in enumerate(value):
            _require_object(tool, index)
            _require(tool, "type", str, index)
            if tool["type"] != "function":
                continue
            if self.nested:
                _require(tool, "function", dict, index)
                _require(tool["function"], "name", str, index, "function")
            else:
                _require(tool, "name", str, index)
            function = tool["function"] if self.nested else tool
            if not isinstance(function.get("parameters"), dict | None):
                _fail(wrong_type("an object"), index, *(["function"] if self.nested else []), "parameters")


class Messages(Array):
    """Chat messages, in one plain loop: nested schemas took far longer for a long history."""

    def check(self, value: Any) -> None:
        if not value:
            _fail(wrong_value("must not be empty"))
        for index, message in enumerate(value):
            if not _is_plain(message):
                self._check_message(message, index)

    def _check_message(self, message: Any, index: int) -> None:
        _require_object(message, index)
        _require(message, "role", str, index)
        role = message["role"]
        if role not in CHAT_ROLES:
            _fail(wrong_value(f"must be one of {', '.join(sorted(CHAT_ROLES))}"), index, "role")
        if role == "tool":
            _require(message, "tool_call_id", str, index)
        elif role == "assistant":
            self._check_calls(message.get("tool_calls"), index)
        content = message.get("content")
        if content is None:
            if role not in ("assistant", "tool", "function"):
                _fail(MISSING, index, "content")
        elif not isinstance(content, str):
            _check_parts(content, index, "content")

    def _check_calls(self, calls: Any, index: int) -> None:
        if calls is None:
            return
        if not isinstance(calls, list):
            _fail(wrong_type("an array"), index, "tool_calls")
        for position, call in enumerate(calls):
            _require_object(call, index, "tool_calls", position)
            if not isinstance(call.get("function"), dict | None):
                _fail(wrong_type("an object"), index, "tool_calls", position, "function")
            if call.get("type") in (None, "function"):
                _require(call, "function", dict, index, "tool_calls", position)
                _require(call["function"], "name", str, index, "tool_calls", position, "function")


def _is_plain(message: Any) -> bool:
    """Whether *message* is a text and no call of a tool, or the result of one: most of a long history is."""
    return (
        type(message) is dict
        and type(message.get("content")) is str
        and message.get("role") in _PLAIN_ROLES
        and message.get("tool_calls") is None
    )


class Input(_Strict):
    """``input`` of the Responses API: a text, or items; what is not known by type is passed on."""

    expected = "a string or an array"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str | list)

    def check(self, value: Any) -> None:
        for index, item in enumerate(value if isinstance(value, list) else ()):
            _require_object(item, index)
            match item.get("type"):
                case None | "message":
                    self._check_message(item, index)
                case "function_call":
                    for key in ("call_id", "name", "arguments"):
                        _require(item, key, str, index)
                case "function_call_output":
                    _require(item, "call_id", str, index)
                    output = item.get("output")
                    if output is None:
                        _fail(MISSING, index, "output")
                    if not isinstance(output, str):
                        _check_parts(output, index, "output")
                case str():
                    pass
                case _:
                    _fail(wrong_type("a string"), index, "type")

    def _check_message(self, item: dict[str, Any], index: int) -> None:
        _require(item, "role", str, index)
        if item["role"] not in INPUT_ROLES:
            _fail(wrong_value(f"must be one of {', '.join(sorted(INPUT_ROLES))}"), index, "role")
        content = item.get("content")
        if content is None:
            _fail(MISSING, index, "content")
        if not isinstance(content, str):
            _check_parts(content, index, "content")


class Items(Input):
    """``items`` of a conversation: as input, and at most 20 at once."""

    expected = "an array"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, list)

    def check(self, value: Any) -> None:
        if len(value) > MOST_ITEMS_ADDED:
            _fail(wrong_value(f"must have at most {MOST_ITEMS_ADDED} items"))
        super().check(value)


def _check_parts(content: Any, *path: str | int) -> None:
    if not isinstance(content, list):
        _fail(wrong_type("a string or an array of parts"), *path)
    for position, part in enumerate(content):
        _require_object(part, *path, position)
        _require(part, "type", str, *path, position)
        if part["type"] in ("text", "input_text", "output_text"):
            _require(part, "text", str, *path, position)


def _require_object(value: Any, *path: str | int) -> None:
    if not isinstance(value, dict):
        _fail(wrong_type("an object"), *path)


_EXPECTED: dict[type, str] = {str: "a string", dict: "an object"}


def _require(holder: Mapping[str, Any], key: str, kind: type, *path: str | int) -> None:
    value = holder.get(key)
    if value is None:
        _fail(MISSING, *path, key)
    if not isinstance(value, kind):
        _fail(wrong_type(_EXPECTED[kind]), *path, key)


class RequestSchema(Schema):
    """Base of request bodies: unknown fields are kept, an optional null is as good as absent."""

    class Meta:
        unknown = INCLUDE

    #: Fields for which null is a value.
    nullable: frozenset[str] = frozenset()

    def prepared(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """*data* without what is as good as absent."""
        known, nullable = self.fields, self.nullable
        return {k: v for k, v in data.items() if v is not None or k not in known or k in nullable}


class ChatCompletionRequest(RequestSchema):
    model = Name(required=True)
    messages = Messages(required=True)
    stream = Flag()
    stream_options = StreamOptions()
    temperature = Number(0, 2)
    top_p = Number(0, 1)
    n = One(1, 128, whole=True)
    max_tokens = Number(1, whole=True)
    max_completion_tokens = Number(1, whole=True)
    presence_penalty = Number(-2, 2)
    frequency_penalty = Number(-2, 2)
    seed = Number(whole=True)
    stop = Stop()
    tools = Tools(nested=True)
    tool_choice = ChoiceOrObject("none", "auto", "required")
    parallel_tool_calls = Flag()
    response_format = Object()
    metadata = Metadata()
    logprobs = Flag()
    top_logprobs = Number(0, 20, whole=True)
    reasoning_effort = String()
    service_tier = String()
    store = Flag()
    user = String()


class ResponseRequest(RequestSchema):
    nullable = frozenset({"input"})

    model = Name(required=True)
    input = Input(required=True, allow_none=True)
    instructions = String()
    stream = Flag()
    tools = Tools(nested=False)
    tool_choice = ChoiceOrObject("none", "auto", "required")
    parallel_tool_calls = Flag()
    temperature = Number(0, 2)
    top_p = Number(0, 1)
    max_output_tokens = Number(1, whole=True)
    max_tool_calls = Number(1, whole=True)
    metadata = Metadata()
    previous_response_id = String()
    conversation = Conversation()
    store = Flag()
    background = Flag()
    reasoning = Object()
    text = TextOptions()
    truncation = Choice("auto", "disabled")
    include = Strings()
    service_tier = String()
    safety_identifier = String()
    prompt_cache_key = String()
    top_logprobs = Number(0, 20, whole=True)
    user = String()

    def prepared(self, data: Mapping[str, Any]) -> dict[str, Any]:
        # With the response before it, a request may say nothing new.
        more = {"input": None} if data.get("previous_response_id") is not None else {}
        return super().prepared({**more, **data})


class ConversationRequest(RequestSchema):
    """What creates a conversation."""

    items = Items()
    metadata = Metadata()


class ItemsRequest(RequestSchema):
    """What adds items to a conversation."""

    items = Items(required=True)


class MetadataRequest(RequestSchema):
    """What changes the metadata of something that is stored; null clears them."""

    nullable = frozenset({"metadata"})

    metadata = Metadata(required=True, allow_none=True)


class FileObject(Schema):
    """A file as clients see it; fills in what a wrapper's ``run_file_upload`` leaves out."""

    class Meta:
        unknown = INCLUDE

    id = fields.String()
    object = fields.Constant("file")
    bytes = fields.Integer()
    created_at = fields.Integer()
    filename = fields.String()
    purpose = fields.String()
    status = fields.String()
    expires_at = fields.Integer()


def load(schema: RequestSchema, data: Mapping[str, Any]) -> dict[str, Any]:
    """*data* as the *schema* takes it.

    :raises InvalidRequest: for the first problem, ``param`` naming the field (``messages[0].role``).
    """
    given = schema.prepared(data)
    loaded = dict(given)
    # The fields that are there, one by one: marshmallow asks for each that a schema knows, and most requests have few.
    for name, field in schema.fields.items():
        if name in given or field.required:
            try:
                loaded[name] = field.deserialize(given.get(name, missing), name, given)
            except ValidationError as error:
                path, problem = next(_problems(error.messages, name))
                raise _told(path, problem) from None
    return loaded


def _told(path: str, problem: Problem) -> InvalidRequest:
    make: Callable[..., InvalidRequest] = problem.error
    if problem is MISSING:
        return make(path)
    return make(f"Invalid '{path}': it {problem.text}." if path else f"The body {problem.text}.", param=path or None)


def _problems(messages: Any, path: str = "") -> Iterator[tuple[str, Problem]]:
    if isinstance(messages, dict):
        for key, value in messages.items():
            if isinstance(key, int):
                yield from _problems(value, f"{path}[{key}]")
            elif key == "_schema":
                yield from _problems(value, path)
            else:
                # A key may be the client's own (metadata): it is repeated, but not at any length.
                yield from _problems(value, f"{path}.{key[:64]}" if path else key[:64])
    else:
        for problem in messages:
            yield path, problem
