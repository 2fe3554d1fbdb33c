"""Records in the memory of this process, bounded in number and size."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import dropwhile, islice

from flaskcompat.stores.records import EndRun, Kind, LogPart, Page, Query, Record, UnknownCursor

#: Records that are kept.
MOST_RECORDS = 10_000
#: Bytes that their bodies may take.
MOST_BYTES = 64 * 2**20

_Key = tuple[Kind, str, str | None, str]  # kind, owner, conversation of an item, id
_Group = tuple[str, str]  # owner, group


@dataclass(slots=True)
class _Log:
    """The events of a response that is or was made in the background."""

    key: _Key
    beat: float
    events: list[str]
    ended: bool = False


class MemoryRecords:
    """See :class:`~flaskcompat.stores.records.Records`. When there are too many, those not used for longest go.

    :param most: bytes that the bodies may take.
    :param clock: gives seconds since the epoch.
    """

    waits = False

    def __init__(self, most: int = MOST_BYTES, clock: Callable[[], float] = time.time) -> None:
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._records: dict[_Key, Record] = {}  # in the order in which they came
        self._groups: dict[_Group, set[_Key]] = {}  # in the order in which they were used
        self._bytes = 0
        self._logs: dict[str, _Log] = {}  # by the id of a response

    def save(self, records: Sequence[Record], *, keep: float | None = None) -> None:
        with self._lock:
            self._save(records, keep)

    def get(self, kind: Kind, owner: str, id: str, parent: str | None = None) -> Record | None:
        with self._lock:
            return self._find((kind, owner, parent, id))

    def line(self, owner: str, id: str) -> list[Record]:
        found: dict[str, Record] = {}
        with self._lock:
            wanted: str | None = id
            while wanted is not None and wanted not in found:
                record = self._find(("response", owner, None, wanted))
                if record is None:
                    return []
                found[wanted] = record
                wanted = record.parent
        return list(found.values())[::-1]

    def change(self, record: Record) -> bool:
        with self._lock:
            return self._change(record)

    def delete(self, kind: Kind, owner: str, id: str, parent: str | None = None) -> bool:
        key: _Key = (kind, owner, parent, id)
        with self._lock:
            if self._find(key) is None:
                return False
            self._remove(key)
            if kind == "conversation":
                for other in [key for key in self._groups.get((owner, id), ()) if key[0] == "item"]:
                    self._remove(other)
            return True

    def page(self, query: Query) -> Page:
        with self._lock:
            now = self._clock()
            found = [record for record in self._records.values() if _fits(record, query) and not _is_over(record, now)]
        rows = iter(found[::-1] if query.descending else found)
        if query.after is not None:
            rows = dropwhile(lambda record: record.id != query.after, rows)
            if next(rows, None) is None:
                raise UnknownCursor(query.after)
        page = list(islice(rows, query.limit + 1))
        return Page(page[: query.limit], len(page) > query.limit)

    def purge(self, kinds: Sequence[Kind], now: float, most: int | None, limit: int) -> list[Record]:
        gone: list[Record] = []
        with self._lock:
            size = sum(record.size + len(record.text) for record in self._records.values() if record.kind in kinds)
            for group, keys in list(self._groups.items()):
                records = [self._records[key] for key in keys]
                if len(gone) >= limit or all(record.kind not in kinds for record in records):
                    continue
                if any(_is_over(record, now) for record in records) or (most is not None and size > most):
                    size -= sum(record.size + len(record.text) for record in records)
                    self._remove_group(group)
                    gone += records
        return gone

    # -- responses that are made in the background -----------------------------------------------------------

    def begin_run(
        self, record: Record, worker: str, events: Sequence[str], beat: float, *, keep: float | None = None
    ) -> None:
        with self._lock:
            self._save([record], keep)
            self._logs[record.id] = log = _Log(_key(record), beat, [])
            self._log(log, events)

    def add_events(self, id: str, first: int, events: Sequence[str], record: Record | None = None) -> bool:
        with self._lock:
            log = self._logs.get(id)
            if log is None or log.ended or first != len(log.events):
                return False
            self._log(log, events)
            log.beat = self._clock()
            if record is not None:
                self._change(record)
            return True

    def end_run(self, id: str, end: EndRun) -> Record | None:
        with self._lock:
            log = self._logs.get(id)
            known = self._records.get(log.key) if log is not None and not log.ended else None
            if log is None or known is None:
                return None
            record, events, more = end(known, len(log.events))
            self._log(log, events)
            log.ended = True
            self._change(record)
            self._save(more, None)
            return record

    def read_events(self, id: str, first: int, limit: int) -> LogPart | None:
        with self._lock:
            log = self._logs.get(id)
            if log is None:
                return None
            events = log.events[first : first + limit]
            return LogPart(events, log.ended and first + len(events) >= len(log.events))

    def progress(self, ids: Sequence[str]) -> dict[str, tuple[int, bool]]:
        with self._lock:
            logs = {id: log for id in ids if (log := self._logs.get(id)) is not None}
            return {id: (len(log.events), log.ended) for id, log in logs.items()}

    def beat(self, worker: str, ids: Sequence[str], now: float) -> list[str]:
        with self._lock:
            logs = {id: self._logs.get(id) for id in ids}
            for log in logs.values():
                if log is not None:
                    log.beat = now
            return [id for id, log in logs.items() if log is None or log.ended]

    def silent_runs(self, since: float, limit: int) -> list[str]:
        with self._lock:
            return [id for id, log in self._logs.items() if not log.ended and log.beat < since][:limit]

    def connect(self) -> None:
        pass

    def close(self) -> None:
        pass

    # -- under the lock --------------------------------------------------------------------------------------

    def _save(self, records: Sequence[Record], keep: float | None) -> None:
        for record in records:
            self._remove(_key(record))
            self._add(record)
        if keep is not None:
            for group in {_group(record) for record in records}:
                self._extend(group, self._clock() + keep)
        self._make_room()

    def _change(self, record: Record) -> bool:
        key = _key(record)
        known = self._find(key)
        if known is None:
            return False
        self._records[key] = replace(known, text=record.text)
        self._bytes += len(record.text) - len(known.text)
        return True

    def _log(self, log: _Log, events: Sequence[str]) -> None:
        log.events += events
        self._bytes += sum(map(len, events))
        group = _group(self._records[log.key])
        self._groups[group] = self._groups.pop(group)  # as the last one
        self._make_room()

    def _make_room(self) -> None:
        while len(self._records) > MOST_RECORDS or self._bytes > self._most:
            self._remove_group(next(iter(self._groups)))

    def _find(self, key: _Key) -> Record | None:
        record = self._records.get(key)
        return None if record is None or _is_over(record, self._clock()) else record

    def _add(self, record: Record) -> None:
        key, group = _key(record), _group(record)
        self._records[key] = record
        self._bytes += len(record.text)
        keys = self._groups.pop(group, set())
        keys.add(key)
        self._groups[group] = keys  # as the last one

    def _remove(self, key: _Key) -> None:
        record = self._records.pop(key, None)
        if record is None:
            return
        self._bytes -= len(record.text)
        log = self._logs.get(record.id)
        if log is not None and log.key == key:
            del self._logs[record.id]
            self._bytes -= sum(map(len, log.events))
        group = _group(record)
        self._groups[group].discard(key)
        if not self._groups[group]:
            del self._groups[group]

    def _remove_group(self, group: _Group) -> None:
        for key in list(self._groups.get(group, ())):
            self._remove(key)

    def _extend(self, group: _Group, until: float) -> None:
        for key in self._groups.get(group, ()):
            record = self._records[key]
            if record.expires_at is not None and record.expires_at < until:
                self._records[key] = replace(record, expires_at=until)


def _key(record: Record) -> _Key:
    return record.kind, record.owner, record.parent if record.kind == "item" else None, record.id


def _group(record: Record) -> _Group:
    return record.owner, record.group


def _is_over(record: Record, now: float) -> bool:
    return record.expires_at is not None and record.expires_at <= now


def _fits(record: Record, query: Query) -> bool:
    return (
        (record.kind, record.owner) == (query.kind, query.owner)
        and query.parent in (None, record.parent)
        and query.label in (None, record.label)
    )
