"""Rows with a JSON body, and what a store of them has to do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from flaskcompat.errors import TryAgain
from flaskcompat.protocol import sse

#: What there is.
Kind = Literal["response", "chat.completion", "conversation", "item", "file"]

# What an id may look like. A wrapper may have made it, and a client may ask for anything.
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class StorageUnavailable(TryAgain):
    """The store cannot be reached, or does not answer in order."""

    status = 503
    code = "storage_unavailable"
    message = "The server cannot reach what it has stored at the moment."


def is_id(text: str) -> bool:
    """Whether something can be stored under *text*."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Record:
    """One row.

    :param kind: *id* is the only one of its kind and owner.
    :param owner: whose it is; nobody else sees it.
    :param text: its body, a JSON object.
    :param parent: of a response, the one that it continues; of an item, its conversation.
    :param group: what is kept as long as the newest of it: the first id of a chain, or the conversation's; by default
        the record's own id.
    :param label: what lists may be asked for: the purpose of a file, the model of a chat completion.
    :param size: bytes that it takes elsewhere, such as a file's.
    :param created_at: seconds since the epoch.
    :param expires_at: likewise; from then on it is not there. None: never.
    """

    id: str
    kind: Kind
    owner: str
    text: str
    parent: str | None = None
    group: str = ""
    label: str | None = None
    size: int = 0
    created_at: float = 0.0
    expires_at: float | None = None

    def __post_init__(self) -> None:
        if not self.group:
            object.__setattr__(self, "group", self.id)

    @property
    def body(self) -> dict[str, Any]:
        """A new object each time."""
        found: dict[str, Any] = json.loads(self.text)
        return found

    def with_body(self, body: dict[str, Any]) -> Record:
        """The same record with another body."""
        return replace(self, text=sse.dumps(body))


@dataclass(frozen=True, slots=True)
class Query:
    """A part of a list, as a client asks for it.

    :param after: id of the record before it.
    """

    kind: Kind
    owner: str
    parent: str | None = None
    label: str | None = None
    after: str | None = None
    limit: int = 20
    descending: bool = True


@dataclass(frozen=True, slots=True)
class Page:
    records: list[Record] = field(default_factory=list)
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class LogPart:
    """A part of the log of a response's events.

    :param events: in order, without gaps.
    :param ended: whether nothing comes after them.
    """

    events: list[str]
    ended: bool


#: Given the record of a response that is being made and the number of its next event: its last record and events, and
#: further records that are saved with them.
EndRun = Callable[[Record, int], tuple[Record, Sequence[str], Sequence[Record]]]


class UnknownCursor(LookupError):
    """There is no record with the id that a list is to go on after."""


class Records(Protocol):
    """A store of records; may be used by many threads at once. All methods may raise :class:`StorageUnavailable`."""

    #: Whether its methods may have to wait for something outside of this process.
    waits: bool

    def save(self, records: Sequence[Record], *, keep: float | None = None) -> None:
        """Save all of *records* or none, in this order, each in place of one that is there.

        :param keep: seconds from now for which the groups of *records* are to be there, at least.
        """

    def get(self, kind: Kind, owner: str, id: str, parent: str | None = None) -> Record | None: ...

    def line(self, owner: str, id: str) -> list[Record]:
        """The response *id* and all that it continues, the first one first; empty if one of them is missing."""

    def change(self, record: Record) -> bool:
        """Give a record that is there the body of *record*; False if it is not."""

    def delete(self, kind: Kind, owner: str, id: str, parent: str | None = None) -> bool:
        """Delete a record, and with a conversation its items; False if it is not there."""

    def page(self, query: Query) -> Page:
        """:raises UnknownCursor: if there is nothing to go on after."""

    def purge(self, kinds: Sequence[Kind], now: float, most: int | None, limit: int) -> list[Record]:
        """Delete about *limit* records at most that are to go, whole groups; gives them.

        :param most: bytes that bodies and files of these *kinds* may take; the groups not used for longest are too
            many. None: any number.
        """

    # -- responses that are made in the background, and the logs of their events; each ends once --------------

    def begin_run(
        self, record: Record, worker: str, events: Sequence[str], beat: float, *, keep: float | None = None
    ) -> None:
        """Save *record*, and begin its log with *events*; *keep* as in :meth:`save`.

        :param worker: the process that makes it, or is to.
        :param beat: when somebody has spoken of it, as :meth:`beat` says it.
        """

    def add_events(self, id: str, first: int, events: Sequence[str], record: Record | None = None) -> bool:
        """Add *events*, the first of which has the number *first*; False if the run has ended.

        :param record: the response as far as it is known now.
        """

    def end_run(self, id: str, end: EndRun) -> Record | None:
        """End a run with what *end* gives; the record that it has then, None if it has ended before."""

    def read_events(self, id: str, first: int, limit: int) -> LogPart | None:
        """Up to *limit* events from the number *first* on; None for a response without a log."""

    def progress(self, ids: Sequence[str]) -> dict[str, tuple[int, bool]]:
        """Of each of *ids* that has a log: how many events it has, and whether it has ended."""

    def beat(self, worker: str, ids: Sequence[str], now: float) -> list[str]:
        """Say that *worker* still makes *ids*; gives those of them that have ended.

        :param now: seconds since the epoch.
        """

    def silent_runs(self, since: float, limit: int) -> list[str]:
        """Up to *limit* ids of runs that go on, and of which nobody has said so since then."""

    def connect(self) -> None:
        """Connect now instead of at the first use.

        :raises CannotConnect: if that fails.
        """

    def close(self) -> None:
        """Let go of what it holds open."""
