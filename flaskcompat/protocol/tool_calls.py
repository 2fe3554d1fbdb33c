"""Which tool calls of a run a client gets to see, and under which number.

A call to a tool that the client's request brought is the client's to run: it goes out piece by piece. Any other
call waits: if its result comes, this side has run it and the client is not told; if the run ends without one, it
goes out after all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from flaskcompat.errors import WrapperContractError
from flaskcompat.protocol.deltas import ToolCallPart, ToolResult
from flaskcompat.protocol.ids import IdFactory

#: Calls of one run that may be unanswered at the same time.
MOST_CALLS = 1000


@dataclass(slots=True)
class Call:
    """A call as the client sees it; ``number`` counts from 0 over the calls that went out."""

    id: str
    name: str
    number: int = -1
    pieces: list[str] = field(default_factory=list)

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class CallPiece:
    """A piece of a call that goes out; the first piece of a call has ``first`` set."""

    call: Call
    arguments: str
    first: bool


@dataclass(slots=True)
class _Record:
    index: int
    id: str | None
    key: str | None
    name: str | None
    call: Call | None = None
    waiting: list[str] = field(default_factory=list)


class ToolCallLedger:
    """Follows the calls of one run.

    :param client_tools: names of the tools that the request brought.
    """

    def __init__(self, client_tools: Collection[str], ids: IdFactory) -> None:
        self._client_tools = client_tools
        self._ids = ids
        self._records: list[_Record] = []  # unanswered calls of all steps, in order of appearance
        self._step: list[_Record] = []  # calls that a later piece may still belong to
        self._released = 0

    def part(self, part: ToolCallPart) -> Iterator[CallPiece]:
        """Take a piece of a call; gives the pieces that go out now."""
        record = self._find(part)
        if record is None:
            if len(self._records) >= MOST_CALLS:
                raise WrapperContractError(f"more than {MOST_CALLS} tool calls are open at once")
            taken = any(part.id == other.id for other in self._records)
            record = _Record(part.index, None if taken else part.id, part.key, part.name)
            self._records.append(record)
            self._step.append(record)
        else:
            record.id = record.id or part.id
            record.name = record.name or part.name
        if record.call is not None:
            if part.arguments:
                record.call.pieces.append(part.arguments)
                yield CallPiece(record.call, part.arguments, first=False)
            return
        record.waiting.append(part.arguments)
        if record.name in self._client_tools:
            yield self._release(record)

    def result(self, result: ToolResult) -> bool:
        """Strike out the call that *result* answers; True where the client has not seen it."""
        record = self._answered(result)
        if record is None:
            return True
        self._records.remove(record)
        if record in self._step:
            self._step.remove(record)
        return record.call is None

    def _answered(self, result: ToolResult) -> _Record | None:
        by_id = (record for record in self._records if result.id and record.id == result.id)
        # An id may have been missing on either side.
        by_name = (record for record in self._records if record.name == result.name and not (record.id and result.id))
        return next(by_id, None) or next(by_name, None)

    @property
    def unanswered(self) -> bool:
        """Whether a call is left for the client; of meaning at the end of the run."""
        return bool(self._records)

    def end_step(self) -> None:
        """A model call is over: indexes start anew."""
        self._step.clear()

    def end(self) -> Iterator[CallPiece]:
        """The run is over: what still waits goes out, and calls without arguments get empty ones.

        :raises WrapperContractError: for a call that never had a name.
        """
        for record in self._records:
            if record.call is None:
                yield self._release(record)
            assert record.call is not None
            if not record.call.arguments.strip():
                record.call.pieces.append("{}")
                yield CallPiece(record.call, "{}", first=False)

    def _release(self, record: _Record) -> CallPiece:
        if not record.name:
            raise WrapperContractError("a tool call has no name")
        arguments = "".join(record.waiting)
        record.waiting.clear()
        record.id = record.id or self._ids("call_")
        record.call = Call(record.id, record.name, self._released, [arguments] if arguments else [])
        self._released += 1
        return CallPiece(record.call, arguments, first=True)

    def _find(self, part: ToolCallPart) -> _Record | None:
        for record in reversed(self._step):
            if _same_call(record, part):
                return record
        return None


def _same_call(record: _Record, part: ToolCallPart) -> bool:
    if part.name and record.name and part.index != record.index:
        return False  # two calls of a step, whatever ids they carry
    if part.key and record.key:
        return part.key == record.key
    if part.id and record.id:
        return part.id == record.id
    # Without ids on both sides the index tells, and a second name on the same index is another call.
    return record.index == part.index and not (part.name and record.name)


def tool_names(tools: Any) -> frozenset[str]:
    """Names of the tools in a request's ``tools``, of either API, those inside namespaces included."""
    names: set[str] = set()
    for tool in tools if isinstance(tools, list) else ():
        if not isinstance(tool, Mapping):
            continue
        for holder in (tool, tool.get("function")):
            if isinstance(holder, Mapping) and isinstance(holder.get("name"), str):
                names.add(holder["name"])
        names |= tool_names(tool.get("tools"))
    return frozenset(names)
