"""What the two APIs' machines have in common.

A machine takes deltas and gives the events of a stream; when it has ended, it also knows the whole answer. It
holds all rules about a run that do not depend on the API: which calls are shown, which finish counts, what is
summed up.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, ClassVar, Literal, Protocol

from flaskcompat.errors import APIError, WrapperContractError
from flaskcompat.protocol.answer_check import AnswerCheck
from flaskcompat.protocol.deltas import (
    Citation,
    Delta,
    Event,
    Finish,
    Reasoning,
    Refusal,
    Text,
    ToolCallPart,
    ToolResult,
    Whole,
)
from flaskcompat.protocol.ids import IdFactory, new_id
from flaskcompat.protocol.tool_calls import CallPiece, ToolCallLedger
from flaskcompat.protocol.usage import Usage, UsageMeter


def filled(own: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """*own* with what it lacks, or has as null, taken from *base*; objects inside likewise."""
    merged = {**base, **{key: value for key, value in own.items() if value is not None or key not in base}}
    for key, value in base.items():
        if isinstance(value, Mapping) and isinstance(merged[key], Mapping):
            merged[key] = filled(merged[key], value)
    return merged


#: One event of a stream, ready to be encoded.
StreamEvent = dict[str, Any]


#: Characters that one answer may keep: text (streams of chat completions keep none), arguments of calls, citations,
#: results that are shown.
MOST_TEXT = 32 * 2**20


class AnswerTooLong(WrapperContractError):
    """A wrapper gives more text than one answer can hold."""


class StreamMachine(Protocol):
    """What makes the frames of a stream: a machine, or the log of what one has made."""

    @property
    def good_tail(self) -> str: ...
    @property
    def failed_tail(self) -> str: ...
    @property
    def usage(self) -> Usage: ...
    def start(self) -> list[StreamEvent]: ...
    def take(self, item: Any) -> list[StreamEvent]: ...
    def text_frame(self, text: str) -> str: ...
    def check_size(self) -> None: ...
    def encode(self, event: StreamEvent) -> str: ...
    def end(self) -> list[StreamEvent]: ...
    def fail(self, error: APIError) -> list[StreamEvent]: ...
    def fail_instead(self, ending: list[StreamEvent], error: APIError) -> list[StreamEvent]: ...
    def streamed_result(self) -> dict[str, Any]: ...


class Machine(ABC):
    """Turns the deltas of one run into the events of one stream, and into one whole answer.

    Call :meth:`start`, then :meth:`feed` for each delta, then :meth:`end`, or :meth:`fail` at any time.
    :meth:`result` is the whole answer after :meth:`end`.

    :param model: the model's name, as the request gave it.
    :param tools: names of the tools that the request brought.
    :param check: looks at the text of an answer that ends well, and raises if it will not do.
    :param ids: makes ids; tests give a counter.
    :param clock: gives seconds since the epoch.
    """

    #: The ``object`` of a whole answer of this API.
    object: ClassVar[str]

    def __init__(
        self,
        *,
        model: str,
        tools: Collection[str] = (),
        check: AnswerCheck | None = None,
        ids: IdFactory = new_id,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.model = model
        self._ids = ids
        self._clock = clock
        self._check = check
        self._created = int(clock())
        self._ledger = ToolCallLedger(tools, ids)
        self._meter = UsageMeter()
        self._reason: str | None = None  # a finish after which nothing has come yet
        self._whole: dict[str, Any] | None = None
        self._untouched = True
        self._events: list[StreamEvent] = []
        self._kept = 0  # characters that are kept beside the text: of calls, results, citations

    # -- the run, as the caller tells it -------------------------------------------------------------------

    def start(self) -> list[StreamEvent]:
        """The events that open a stream."""
        self._open_stream()
        return self._drain()

    def feed(self, delta: Delta) -> list[StreamEvent]:
        """The events that *delta* causes, often one, sometimes none or several."""
        if isinstance(delta, Whole):
            untouched = self._untouched
            for part in delta.parts:
                self._take(part)
            self._whole = delta.answer if untouched and delta.object == self.object else None
        else:
            self._whole = None
            self._take(delta)
        self._untouched = False
        return self._drain()

    def take(self, item: str | Iterable[Delta]) -> list[StreamEvent]:
        """The events of what :func:`~flaskcompat.protocol.deltas.read` has given."""
        if type(item) is str:
            return self.feed(Text(item)) if item else []
        return [event for delta in item for event in self.feed(delta)]  # type: ignore[arg-type]

    def end(self) -> list[StreamEvent]:
        """The events that close a good stream.

        :raises APIError: if the text is not what was asked for.
        """
        self._meter.next_call()
        for piece in self._ledger.end():
            self._call(piece)
        reason = self._final_reason()
        self._end_step()  # nothing waits for an open call any more
        if self._check is not None and reason == "stop" and (said := self._said()) is not None:
            self._check(said)
        self._close_stream(reason)
        return self._drain()

    def fail(self, error: APIError) -> list[StreamEvent]:
        """The events that close a stream with *error*."""
        self._close_failed(error)
        return self._drain()

    def fail_instead(self, ending: list[StreamEvent], error: APIError) -> list[StreamEvent]:
        """The same in place of *ending*, which :meth:`end` gave and nobody has seen."""
        return self.fail(error)

    @property
    def usage(self) -> Usage:
        """The tokens counted by now."""
        return self._meter.total()

    def check_size(self) -> None:
        """Asked now and then while items come: a wrapper that never ends must not fill the memory.

        :raises AnswerTooLong: past :data:`MOST_TEXT`.
        """
        if self._held + self._kept > MOST_TEXT:
            raise AnswerTooLong(f"an answer is longer than {MOST_TEXT} characters")

    @property
    @abstractmethod
    def _held(self) -> int:
        """Characters of the text that is kept for the whole answer."""

    @abstractmethod
    def _said(self) -> str | None:
        """The text of the answer; None for a refusal."""

    @abstractmethod
    def result(self) -> dict[str, Any]:
        """The whole answer."""

    def streamed_result(self) -> dict[str, Any]:
        """The whole answer as its stream has told it, where a wrapper has made one of its own, too."""
        whole, self._whole = self._whole, None
        try:
            return self.result()
        finally:
            self._whole = whole

    # -- bytes ---------------------------------------------------------------------------------------------

    #: What stands after the last event of a stream that ended well, and of one that failed.
    good_tail: ClassVar[str]
    failed_tail: ClassVar[str]

    @abstractmethod
    def encode(self, event: StreamEvent) -> str:
        """One event as a frame."""

    @abstractmethod
    def text_frame(self, text: str) -> str:
        """The frames for ``Text(text)``: the same as feeding and encoding it, the short way."""

    # -- rules that hold for both APIs ---------------------------------------------------------------------

    def _take(self, delta: Delta) -> None:
        match delta:
            case Text():
                self._go_on()
                self._text(delta.text)
            case Reasoning():
                self._go_on()
                self._reasoning(delta.text)
            case Refusal():
                self._go_on()
                self._refusal(delta.text)
            case Citation():
                self._kept += len(delta.url) + len(delta.title)
                self._citation(delta)
            case ToolCallPart():
                self._kept += len(delta.arguments)
                self._go_on()
                for piece in self._ledger.part(delta):
                    self._call(piece)
            case ToolResult():
                self._end_step()
                self._meter.next_call()
                if self._ledger.result(delta):
                    self._hidden_call(delta)
            case Event():
                self._event(delta.payload)
            case Usage():
                self._meter.add(delta)
            case Finish():
                self._reason = delta.reason
                self._end_step()

    def _go_on(self) -> None:
        """More of the answer comes: a finish before it was one of an agent's steps and is forgotten."""
        if self._reason is not None:
            self._reason = None
            self._meter.next_call()

    def _final_reason(self) -> Literal["stop", "length", "content_filter", "tool_calls"]:
        if self._reason == "length":
            return "length"
        if self._reason == "content_filter":
            return "content_filter"
        # Derived, not believed: models report `stop` beside calls, and `tool_calls` beside calls run here.
        return "tool_calls" if self._ledger.unanswered else "stop"

    def _end_step(self) -> None:
        """A model call is over, and with it the calls that it made."""
        self._ledger.end_step()

    def _drain(self) -> list[StreamEvent]:
        events, self._events = self._events, []
        return events

    # -- what each API does --------------------------------------------------------------------------------

    @abstractmethod
    def _open_stream(self) -> None: ...

    @abstractmethod
    def _text(self, text: str) -> None: ...

    @abstractmethod
    def _reasoning(self, text: str) -> None: ...

    @abstractmethod
    def _refusal(self, text: str) -> None: ...

    @abstractmethod
    def _citation(self, citation: Citation) -> None: ...

    @abstractmethod
    def _call(self, piece: CallPiece) -> None: ...

    @abstractmethod
    def _hidden_call(self, result: ToolResult) -> None: ...

    @abstractmethod
    def _event(self, payload: dict[str, Any]) -> None: ...

    @abstractmethod
    def _close_stream(self, reason: Literal["stop", "length", "content_filter", "tool_calls"]) -> None: ...

    @abstractmethod
    def _close_failed(self, error: APIError) -> None: ...
