"""The requests of a check, and what must hold of their answers, on each surface."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from flaskcompat.checking.findings import Column
from flaskcompat.checking.sdk_types import Kind, judges
from flaskcompat.runtime.wrapper import Surface

#: What every model is asked.
QUESTION = "What can you do?"

_FINISHES = ("stop", "length", "tool_calls", "content_filter", "function_call")
_TERMINAL = ("response.completed", "response.incomplete", "response.failed")


@dataclass(slots=True)
class Said:
    """What an answer says, and what is wrong with its form.

    :param error: what the client was told in place of an answer, or of the rest of one.
    """

    text: str = ""
    pieces: int = 0
    has_calls: bool = False
    error: dict[str, Any] | None = None
    wrong: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not self.text.strip() and not self.has_calls

    def require(self, holds: Any, otherwise: str) -> None:
        if not holds and otherwise not in self.wrong:
            self.wrong.append(otherwise)

    def judge(self, kind: Kind, given: Any) -> None:
        """Hold *given* against OpenAI's type, where the SDK is installed."""
        for complaint in (judges() or {}).get(kind, lambda _: [])(given):
            found = self.strange if complaint.endswith("no key of OpenAI's") else self.wrong
            if complaint not in found:
                found.append(complaint)


class Contract(ABC):
    """One surface: how it is asked, and how its answers are read."""

    surface: ClassVar[Surface]
    column: ClassVar[Column]
    stream_column: ClassVar[Column]
    path: ClassVar[str]

    @abstractmethod
    def body(self, model: str, *, stream: bool = False, parts: bool = False) -> dict[str, Any]:
        """A request; with *parts* the question is a list of parts, as many clients send it."""

    @abstractmethod
    def whole(self, answer: dict[str, Any]) -> Said: ...

    @abstractmethod
    def read_events(self, said: Said, events: list[dict[str, Any]]) -> None: ...

    def streamed(self, content_type: str, text: str) -> Said:
        said = Said()
        frames = list(_frames(text))
        said.require(content_type.startswith("text/event-stream"), f"the stream's content type is {content_type!r}")
        said.require(frames and frames[-1][1] == "[DONE]", "the stream does not end with [DONE]")
        events = [json.loads(data) for _, data in frames if data != "[DONE]"]
        said.error = next((_error_of(event) for event in events if _error_of(event)), None)
        if said.error is None:
            self.check_names(said, frames)
            self.read_events(said, events)
        return said

    def check_names(self, said: Said, frames: list[tuple[str | None, str]]) -> None:
        said.require(not any(name for name, _ in frames), "a frame has an event name")


def _error_of(event: dict[str, Any]) -> dict[str, Any] | None:
    error = event.get("error") or (event.get("response") or {}).get("error")
    return error if isinstance(error, dict) else None


def _frames(text: str) -> Iterable[tuple[str | None, str]]:
    """Name and data of each event; comments are left out."""
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and not line.startswith(":"))
        if "data" in fields:
            yield fields.get("event"), fields["data"]


class ChatContract(Contract):
    surface = "chat_completion"
    column = "chat"
    stream_column = "chat stream"
    path = "/v1/chat/completions"

    def body(self, model: str, *, stream: bool = False, parts: bool = False) -> dict[str, Any]:
        content = [{"type": "text", "text": QUESTION}] if parts else QUESTION
        asked = {"model": model, "messages": [{"role": "user", "content": content}], "stream": stream}
        return asked | ({"stream_options": {"include_usage": True}} if stream else {})

    def whole(self, answer: dict[str, Any]) -> Said:
        said = Said()
        said.judge("completion", answer)
        said.require(answer.get("object") == "chat.completion", "'object' is not 'chat.completion'")
        said.require(_counts(answer.get("usage"), "prompt_tokens", "completion_tokens"), "there is no usage")
        choices = answer.get("choices") or [{}]
        said.require(choices[0].get("finish_reason") in _FINISHES, "the choice has no finish_reason")
        message = choices[0].get("message") or {}
        said.require(message.get("role") == "assistant", "the message's role is not 'assistant'")
        said.text = message.get("content") or message.get("refusal") or ""
        said.pieces, said.has_calls = 1, bool(message.get("tool_calls"))
        return said

    def read_events(self, said: Said, events: list[dict[str, Any]]) -> None:
        for event in events:
            said.judge("chunk", event)
        said.require(len({(e.get("id"), e.get("created"), e.get("model")) for e in events}) == 1, "chunks differ in id")
        choices = [event["choices"][0] for event in events if event.get("choices")]
        deltas = [choice["delta"] for choice in choices]
        roles = [number for number, delta in enumerate(deltas) if "role" in delta]
        said.require(roles == [0], "the role is not in the first chunk alone")
        finishes = [number for number, choice in enumerate(choices) if choice.get("finish_reason")]
        said.require(finishes == [len(choices) - 1], "there is not one finish_reason, in the last choice")
        said.require(events and _counts(events[-1].get("usage"), "prompt_tokens", "completion_tokens"), "no usage")
        pieces = [piece for delta in deltas if (piece := delta.get("content") or delta.get("refusal"))]
        said.text, said.pieces = "".join(pieces), len(pieces)
        said.has_calls = any(delta.get("tool_calls") for delta in deltas)


class ResponsesContract(Contract):
    surface = "response"
    column = "responses"
    stream_column = "responses stream"
    path = "/v1/responses"

    def body(self, model: str, *, stream: bool = False, parts: bool = False) -> dict[str, Any]:
        content = [{"type": "input_text", "text": QUESTION}]
        return {
            "model": model,
            "input": [{"type": "message", "role": "user", "content": content}] if parts else QUESTION,
            "stream": stream,
        }

    def whole(self, answer: dict[str, Any]) -> Said:
        said = Said(pieces=1)
        said.judge("response", answer)
        self._read_response(said, answer)
        return said

    def _read_response(self, said: Said, answer: dict[str, Any]) -> None:
        said.require(answer.get("object") == "response", "'object' is not 'response'")
        said.require(answer.get("status") in ("completed", "incomplete"), f"the status is {answer.get('status')!r}")
        said.require(_counts(answer.get("usage"), "input_tokens", "output_tokens"), "there is no usage")
        items = answer.get("output") or []
        said.text = "".join(
            part.get("text") or part.get("refusal") or ""
            for item in items
            if item.get("type") == "message"
            for part in item["content"]
        )
        said.has_calls = any(item.get("type") == "function_call" for item in items)

    def check_names(self, said: Said, frames: list[tuple[str | None, str]]) -> None:
        named = all(name == json.loads(data)["type"] for name, data in frames if data != "[DONE]")
        said.require(named, "an event's name is not its type")

    def read_events(self, said: Said, events: list[dict[str, Any]]) -> None:
        for event in events:
            if ":" not in event["type"]:  # an event of the wrapper's own
                said.judge("event", event)
        types = [event["type"] for event in events]
        said.require(types[:2] == ["response.created", "response.in_progress"], "the stream does not begin as it must")
        said.require(types[-1:] and types[-1] in _TERMINAL, "the last event is not response.completed")
        numbers = [event.get("sequence_number") for event in events]
        said.require(numbers == list(range(len(events))), "sequence numbers do not rise from 0 one by one")
        pieces = [e["delta"] for e in events if e["type"] in ("response.output_text.delta", "response.refusal.delta")]
        if events and isinstance(events[-1].get("response"), dict):
            self._read_response(said, events[-1]["response"])
            said.require("".join(pieces) == said.text, "the deltas are not the text of the response")
        said.pieces = len(pieces)


def _counts(usage: Any, *names: str) -> bool:
    return isinstance(usage, dict) and all(isinstance(usage.get(name), int) for name in names)


CONTRACTS: tuple[Contract, ...] = (ChatContract(), ResponsesContract())
