"""Records in a SQL database: SQLite beside the process, PostgreSQL for several hosts."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from sqlite3 import OperationalError
from time import monotonic
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    MetaData,
    Table,
    and_,
    create_engine,
    delete,
    event,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import Pool
from sqlalchemy.types import BigInteger, Boolean, Double, Integer, String

from flaskcompat.errors import LOG_LIMIT, CannotConnect, shorten
from flaskcompat.fork import reset_in_child
from flaskcompat.log import log
from flaskcompat.stores.groups import GroupCommit
from flaskcompat.stores.migrations import NewerDatabase, is_current, migrate
from flaskcompat.stores.records import EndRun, Kind, LogPart, Page, Query, Record, StorageUnavailable, UnknownCursor

# Seconds that a transaction of SQLite's may wait for the one that writes.
_BUSY_TIMEOUT = 30.0
# How long to wait, in seconds, before another try at what SQLite does not wait for.
_BUSY_PAUSE = 0.01
# Pages of its log after which SQLite puts them into the database, and waits for the disk: 16 MB.
_CHECKPOINT = 4000
# Connections of one process. Each is held for a transaction, never while a model runs.
_POOL, _MORE, _POOL_TIMEOUT = 10, 20, 30.0
# What is saved in one transaction at most, of those who wait for it.
_MOST_SAVES = 64
# A group whose end is no more than this part of its time away from where it would be moved stays as it is: else each
# response of a chain would write all that came before it.
_SLACK = 0.05

_records = Table(
    "flaskcompat_records",
    MetaData(),
    Column("position", BigInteger, primary_key=True, autoincrement=True),
    Column("kind", String),
    Column("owner", String),
    Column("place", String),  # the conversation of an item, else empty
    Column("id", String),
    Column("parent", String),
    Column("group", String),
    Column("label", String),
    Column("size", BigInteger),
    Column("created_at", Double),
    Column("expires_at", Double),
    Column("text", String),
)
_runs = Table(
    "flaskcompat_runs",
    MetaData(),
    Column("id", String, primary_key=True),
    Column("owner", String),
    Column("worker", String),
    Column("beat", Double),
    Column("ended", Boolean),
)
_events = Table(
    "flaskcompat_events",
    MetaData(),
    Column("run", String, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("text", String),
)
_c = _records.c
_columns = (_c.id, _c.kind, _c.owner, _c.text, _c.parent, _c.group, _c.label, _c.size, _c.created_at, _c.expires_at)


def check_url(text: str) -> URL:
    """*text* as the URL of a database that is known here, with the driver that is used for it.

    :raises ValueError: for any other; it does not repeat the text, which may hold a password.
    """
    try:
        url = make_url(text)
    except ArgumentError:
        raise ValueError("must be a URL such as sqlite:///path or postgresql://host/name") from None
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise ValueError("must begin with sqlite: or postgresql:")
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise ValueError("must name a file: sqlite:///path")
    try:
        url.get_dialect().import_dbapi()
    except (ImportError, NoSuchModuleError):
        raise ValueError("needs its driver: pip install 'flaskcompat[postgres]'") from None
    return url


@dataclass(slots=True, eq=False)
class _Save:
    """What one thread wants to have saved."""

    records: Sequence[Record]
    keep: float | None = None
    error: StorageUnavailable | None = None


class SqlRecords:
    """See :class:`~flaskcompat.stores.records.Records`. Connects, and makes or changes its tables, at its first use.

    :param clock: gives seconds since the epoch.
    :raises ValueError: for a *url* that cannot be used.
    """

    waits = True

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._engine = _make_engine(check_url(url))
        self._reading = self._engine.execution_options(reads=True)
        self._is_ready = False
        self._closed_pool: Pool | None = None
        self._make_locks()
        reset_in_child(self)
        # Whoever is busy with a connection holds this store, so that none is in use then.
        weakref.finalize(self, _close_pool, self._engine).atexit = False

    def _make_locks(self) -> None:
        self._lock = threading.Lock()
        self._group = GroupCommit(self._save_all, _MOST_SAVES)

    def reset_after_fork(self) -> None:
        """In a forked child: open connections of its own."""
        self._make_locks()
        self._engine.dispose(close=False)

    def save(self, records: Sequence[Record], *, keep: float | None = None) -> None:
        save = _Save(records, keep)
        try:
            self._group.commit(save)
        except StorageUnavailable:
            raise StorageUnavailable from None  # others are told of that one
        if save.error is not None:
            raise save.error

    def _save_all(self, saves: list[_Save]) -> None:
        try:
            with self._transaction(tells_conflicts=True) as connection:
                self._insert(connection, saves)
        except StorageUnavailable:
            raise
        except Exception:
            # An id that a wrapper has made may have been there before; or one of them is none for a database.
            for save in saves:
                self._replace(save)

    def _replace(self, save: _Save) -> None:
        try:
            with self._transaction() as connection:
                for record in save.records:
                    same = _is(record.kind, record.owner, record.id, _place(record))
                    connection.execute(delete(_records).where(*same))
                self._insert(connection, [save])
        except StorageUnavailable as error:  # of this one; the others may be in order
            save.error = error
        except Exception as error:
            log.opt(exception=error).error("what is to be saved has no form in a database")
            save.error = StorageUnavailable()

    def _insert(self, connection: Connection, saves: Sequence[_Save]) -> None:
        connection.execute(insert(_records), [_row(record) for save in saves for record in save.records])
        for save in saves:
            if save.keep is not None:
                until = self._clock() + save.keep
                connection.execute(
                    update(_records)
                    .where(
                        _in_groups({record.group for record in save.records}),
                        _c.owner == save.records[0].owner,
                        _c.expires_at < until - save.keep * _SLACK,
                    )
                    .values(expires_at=until)
                )

    def get(self, kind: Kind, owner: str, id: str, parent: str | None = None) -> Record | None:
        wanted = select(*_columns).where(*_is(kind, owner, id, parent or ""), self._is_alive())
        with self._transaction(reads=True) as connection:
            row = connection.execute(wanted).one_or_none()
        return None if row is None else _record(row)

    def line(self, owner: str, id: str) -> list[Record]:
        alive, kept = self._is_alive(), (_c.kind == "response", _c.owner == owner)
        line = select(_c.id, _c.parent).where(_c.id == id, *kept, alive).cte("line", recursive=True)
        line = line.union(select(_c.id, _c.parent).where(_c.id == line.c.parent, *kept, alive))
        wanted = select(*_columns).where(_c.id.in_(select(line.c.id)), *kept)
        with self._transaction(reads=True) as connection:
            found = {row.id: _record(row) for row in connection.execute(wanted)}
        records: list[Record] = []
        step: str | None = id
        while step is not None:
            record = found.pop(step, None)
            if record is None:
                # A wrapper's own ids may make a circle; else something is missing.
                return records[::-1] if any(known.id == step for known in records) else []
            records.append(record)
            step = record.parent
        return records[::-1]

    def change(self, record: Record) -> bool:
        with self._transaction() as connection:
            return _change(connection, record, self._is_alive())

    def delete(self, kind: Kind, owner: str, id: str, parent: str | None = None) -> bool:
        with self._transaction() as connection:
            gone = connection.execute(delete(_records).where(*_is(kind, owner, id, parent or ""), self._is_alive()))
            if kind == "conversation" and gone.rowcount:
                connection.execute(delete(_records).where(_in_groups({id}), _c.owner == owner, _c.kind == "item"))
            if kind == "response" and gone.rowcount:
                _delete_runs(connection, owner, [id])
        return bool(gone.rowcount)

    def page(self, query: Query) -> Page:
        fits = [_c.owner == query.owner, _c.kind == query.kind]
        if query.parent is not None:
            fits.append(_c.place == query.parent)
        if query.label is not None:
            fits.append(_c.label == query.label)
        with self._transaction(reads=True) as connection:
            wanted = select(*_columns).where(*fits, self._is_alive())
            if query.after is not None:
                start = connection.execute(select(_c.position).where(*fits, _c.id == query.after)).scalar()
                if start is None:
                    raise UnknownCursor(query.after)
                wanted = wanted.where(_c.position < start if query.descending else _c.position > start)
            wanted = wanted.order_by(_c.position.desc() if query.descending else _c.position).limit(query.limit + 1)
            found = [_record(row) for row in connection.execute(wanted)]
        return Page(found[: query.limit], len(found) > query.limit)

    def purge(self, kinds: Sequence[Kind], now: float, most: int | None, limit: int) -> list[Record]:
        of_kinds = _c.kind.in_(kinds)
        groups = select(_c.owner, _c.group).where(of_kinds, _c.expires_at <= now).distinct().limit(limit)
        with self._transaction(reads=True) as connection:
            over = [tuple(row) for row in connection.execute(groups)]
            if most is not None:
                over += self._surplus(connection, of_kinds, most, limit)
        if not over:
            return []
        in_groups = and_(_in_groups({group for _, group in over}), tuple_(_c.owner, _c.group).in_(over))
        with self._transaction() as connection:
            gone = [_record(row) for row in connection.execute(select(*_columns).where(in_groups, of_kinds))]
            connection.execute(delete(_records).where(in_groups, of_kinds))
            for owner in {record.owner for record in gone}:
                of_owner = [record.id for record in gone if record.kind == "response" and record.owner == owner]
                _delete_runs(connection, owner, of_owner)
        return gone

    def _surplus(self, connection: Connection, of_kinds: Any, most: int, limit: int) -> list[tuple[Any, ...]]:
        surplus = (connection.execute(select(func.sum(_c.size)).where(of_kinds)).scalar() or 0) - most
        if surplus <= 0:
            return []
        oldest = (
            select(_c.owner, _c.group, func.sum(_c.size))
            .where(of_kinds)
            .group_by(_c.owner, _c.group)
            .order_by(func.max(_c.position))
            .limit(limit)
        )
        over = []
        for owner, group, size in connection.execute(oldest):
            if surplus <= 0:
                break
            over.append((owner, group))
            surplus -= size
        return over

    # -- responses that are made in the background -----------------------------------------------------------

    def begin_run(
        self, record: Record, worker: str, events: Sequence[str], beat: float, *, keep: float | None = None
    ) -> None:
        run = {"id": record.id, "owner": record.owner, "worker": worker, "beat": beat, "ended": False}
        with self._transaction() as connection:
            self._insert(connection, [_Save([record], keep)])
            connection.execute(insert(_runs), run)
            _add_events(connection, record.id, 0, events)

    def add_events(self, id: str, first: int, events: Sequence[str], record: Record | None = None) -> bool:
        with self._transaction() as connection:
            going = connection.execute(update(_runs).where(_runs.c.id == id, ~_runs.c.ended).values(beat=self._clock()))
            if not going.rowcount:
                return False
            _add_events(connection, id, first, events)
            if record is not None:
                _change(connection, record)
        return True

    def end_run(self, id: str, end: EndRun) -> Record | None:
        ending = update(_runs).where(_runs.c.id == id, ~_runs.c.ended).values(ended=True)
        with self._transaction() as connection:
            # Holds the row: nobody adds or ends beside this.
            owner = connection.execute(ending.returning(_runs.c.owner)).scalar_one_or_none()
            if owner is None:
                return None
            row = connection.execute(select(*_columns).where(*_is("response", owner, id, ""))).one_or_none()
            if row is None:
                return None
            numbers = select(func.max(_events.c.number)).where(_events.c.run == id)
            last = connection.execute(numbers).scalar()
            number = 0 if last is None else last + 1
            record, events, more = end(_record(row), number)
            _add_events(connection, id, number, events)
            logged = select(func.sum(func.length(_events.c.text))).where(_events.c.run == id)
            _change(connection, replace(record, size=int(connection.execute(logged).scalar() or 0)))
            if more:
                connection.execute(insert(_records), [_row(other) for other in more])
        return record

    def read_events(self, id: str, first: int, limit: int) -> LogPart | None:
        wanted = select(_events.c.text).where(_events.c.run == id, _events.c.number >= first)
        with self._transaction(reads=True) as connection:
            ended = connection.execute(select(_runs.c.ended).where(_runs.c.id == id)).scalar_one_or_none()
            if ended is None:
                return None
            found = list(connection.execute(wanted.order_by(_events.c.number).limit(limit + 1)).scalars())
        return LogPart(found[:limit], bool(ended) and len(found) <= limit)

    def progress(self, ids: Sequence[str]) -> dict[str, tuple[int, bool]]:
        last = select(func.max(_events.c.number)).where(_events.c.run == _runs.c.id).scalar_subquery()
        wanted = select(_runs.c.id, last, _runs.c.ended).where(_runs.c.id.in_(ids))
        with self._transaction(reads=True) as connection:
            found = connection.execute(wanted).all()
        return {id: (0 if number is None else number + 1, bool(ended)) for id, number, ended in found}

    def beat(self, worker: str, ids: Sequence[str], now: float) -> list[str]:
        going = update(_runs).where(_runs.c.id.in_(ids), ~_runs.c.ended).values(beat=now, worker=worker)
        with self._transaction() as connection:
            left = set(connection.execute(going.returning(_runs.c.id)).scalars())
        return [id for id in ids if id not in left]

    def silent_runs(self, since: float, limit: int) -> list[str]:
        wanted = select(_runs.c.id).where(~_runs.c.ended, _runs.c.beat < since).limit(limit)
        with self._transaction(reads=True) as connection:
            return list(connection.execute(wanted).scalars())

    def connect(self) -> None:
        try:
            self._make_ready()
        except (SQLAlchemyError, NewerDatabase) as error:
            # The driver's own words; SQLAlchemy adds lines about its documentation.
            words = " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())
            raise CannotConnect(f"The database cannot be opened: {shorten(words, LOG_LIMIT)}") from error

    def close(self) -> None:
        """Close the connections; those that somebody is busy with when they are done."""
        self._closed_pool = self._engine.pool
        self._engine.dispose()

    def _is_alive(self) -> Any:
        return or_(_c.expires_at.is_(None), _c.expires_at > self._clock())

    @contextmanager
    def _transaction(self, *, reads: bool = False, tells_conflicts: bool = False) -> Iterator[Connection]:
        try:
            if not self._is_ready:
                self._make_ready()
            with (self._reading if reads else self._engine).begin() as connection:
                yield connection
        except (SQLAlchemyError, NewerDatabase) as error:
            if tells_conflicts and isinstance(error, DataError | IntegrityError):
                raise
            log.opt(exception=error).error("the database did not answer in order")
            raise StorageUnavailable from None
        finally:
            if self._closed_pool is not None:  # meanwhile
                self._closed_pool.dispose()
                self._engine.dispose()

    def _make_ready(self) -> None:
        with self._lock:
            if not self._is_ready:
                with self._reading.begin() as connection:
                    is_ready = is_current(connection)
                if not is_ready:
                    with self._engine.begin() as connection:
                        migrate(connection)
                self._is_ready = True


def _change(connection: Connection, record: Record, *more: Any) -> bool:
    changed = update(_records).where(*_is(record.kind, record.owner, record.id, _place(record)), *more)
    done = connection.execute(changed.values(text=record.text, size=record.size + len(record.text)))
    return bool(done.rowcount)


def _add_events(connection: Connection, run: str, first: int, events: Sequence[str]) -> None:
    if events:
        rows = [{"run": run, "number": first + index, "text": text} for index, text in enumerate(events)]
        connection.execute(insert(_events), rows)


def _delete_runs(connection: Connection, owner: str, ids: Sequence[str]) -> None:
    if ids:
        gone = delete(_runs).where(_runs.c.id.in_(ids), _runs.c.owner == owner).returning(_runs.c.id)
        runs = list(connection.execute(gone).scalars())
        connection.execute(delete(_events).where(_events.c.run.in_(runs)))


def _place(record: Record) -> str:
    return record.parent or "" if record.kind == "item" else ""


def _record(row: Any) -> Record:
    record = Record(*row)
    return replace(record, size=record.size - len(record.text))


def _row(record: Record) -> dict[str, Any]:
    return {
        "kind": record.kind,
        "owner": record.owner,
        "place": _place(record),
        "id": record.id,
        "parent": record.parent,
        "group": record.group,
        "label": record.label,
        "size": record.size + len(record.text),
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "text": record.text,
    }


def _in_groups(groups: set[str]) -> Any:
    # The index of groups has no entries for records that are groups of their own.
    return or_(and_(_c.group.in_(groups), _c.group != _c.id), and_(_c.id.in_(groups), _c.group == _c.id))


def _is(kind: Kind, owner: str, id: str, place: str) -> tuple[Any, ...]:
    return _c.id == id, _c.kind == kind, _c.owner == owner, _c.place == place


def _make_engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(
            url,
            hide_parameters=True,
            pool_size=_POOL,
            max_overflow=_MORE,
            pool_timeout=_POOL_TIMEOUT,
            pool_pre_ping=True,
            pool_recycle=1800,
        )
    engine = create_engine(
        url,
        hide_parameters=True,  # contents do not belong in logs
        pool_size=_POOL,
        max_overflow=_MORE,
        pool_timeout=_POOL_TIMEOUT,
        pool_use_lifo=True,  # the pages that the last one has seen need not be read again
        connect_args={"timeout": _BUSY_TIMEOUT, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions are begun below
        _use_wal(connection)
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # One that reads first and writes then would be refused where another one has written meanwhile.
        reads = connection.get_execution_options().get("reads")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _use_wal(connection: Any) -> None:
    """Let readers and the writer of an SQLite file not wait for each other; the file remembers it."""
    deadline = monotonic() + _BUSY_TIMEOUT
    while True:
        try:
            # SQLite waits for others in anything but this.
            if connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
                return
            connection.execute("PRAGMA journal_mode=WAL")
        except OperationalError:
            if monotonic() > deadline:
                raise
            time.sleep(_BUSY_PAUSE)


def _close_pool(engine: Engine) -> None:
    """Close the connections of *engine*, whose store is gone; may be called on any thread, within anything."""
    engine.pool.dispose()  # the engine's own dispose() would make another pool
