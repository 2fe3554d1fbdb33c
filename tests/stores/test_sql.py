"""What is particular to databases: their tables, several processes, failures."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
from dataclasses import replace

import pytest
import sqlalchemy

from flaskcompat.errors import CannotConnect
from flaskcompat.stores import migrations, opening, sql
from flaskcompat.stores.records import Query, Record, StorageUnavailable
from flaskcompat.stores.sql import SqlRecords, check_url

from ..support import TIMEOUT, eventually

PROCESSES, THREADS, STEPS = 4, 8, 10


def response(id: str) -> Record:
    return Record(id, "response", "alice", json.dumps({"id": id}), created_at=1.0)


def test_all_are_saved_or_none(database_url: str) -> None:
    records = SqlRecords(database_url)
    records.save([response("before")])
    broken = replace(response("b"), owner=None)  # type: ignore[arg-type]
    with pytest.raises(StorageUnavailable):
        records.save([response("a"), response("before"), broken])
    assert [record.id for record in records.page(Query("response", "alice")).records] == ["before"]
    records.close()


def _write(url: str, number: int) -> None:
    records = SqlRecords(url)

    def work(thread: int) -> None:
        for step in range(STEPS):
            id = f"{number}-{thread}-{step}"
            records.save([response(id)])
            found = records.get("response", "alice", id)
            assert found is not None and records.change(found.with_body({"step": step}))
            if step % 2:
                assert records.delete("response", "alice", id)

    failures: list[BaseException] = []

    def run(thread: int) -> None:
        try:
            work(thread)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records.close()
    sys.exit(1 if failures else 0)


def test_processes_and_threads_make_the_tables_and_write_at_once(database_url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_write, args=(database_url, number)) for number in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    records = SqlRecords(database_url)
    left = records.page(Query("response", "alice", limit=10_000)).records
    assert len(left) == PROCESSES * THREADS * STEPS // 2
    assert all("step" in record.body for record in left)
    records.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*")
def test_forked_child_opens_connections_of_its_own(database_url: str) -> None:
    records = SqlRecords(database_url)
    records.save([response("parent")])
    child = os.fork()
    if not child:
        try:
            records.save([response("child")])
            os._exit(0 if records.get("response", "alice", "parent") else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert {record.id for record in records.page(Query("response", "alice")).records} == {"parent", "child"}
    records.close()


def test_tables_of_a_later_version_are_left_alone(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    records = SqlRecords(database_url)
    records.save([response("a")])
    engine = sqlalchemy.create_engine(check_url(database_url))
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("INSERT INTO flaskcompat_version VALUES (99)"))
    engine.dispose()
    other = SqlRecords(database_url)
    with pytest.raises(StorageUnavailable):
        other.get("response", "alice", "a")
    assert "version 99" in caplog.text
    with pytest.raises(CannotConnect, match="version 99"):
        other.connect()
    records.connect()
    records.close()
    other.close()


def test_tables_of_an_earlier_version_are_changed(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    records = SqlRecords(database_url)
    records.save([response("a")])
    step = ("ALTER TABLE flaskcompat_records ADD COLUMN extra VARCHAR",)
    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, step))
    later = SqlRecords(database_url)
    assert later.get("response", "alice", "a") is not None
    again = SqlRecords(database_url)
    assert again.get("response", "alice", "a") is not None
    engine = sqlalchemy.create_engine(check_url(database_url))
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("SELECT extra FROM flaskcompat_records"))
    for made in (records, later, again, engine):
        made.dispose() if made is engine else made.close()  # type: ignore[union-attr]


def test_database_that_does_not_answer(caplog: pytest.LogCaptureFixture) -> None:
    records = SqlRecords("postgresql://nobody:s3cret@127.0.0.1:1/none?connect_timeout=1")
    with pytest.raises(CannotConnect, match="^The database cannot be opened: .*127.0.0.1.*") as refused:
        records.connect()
    assert "s3cret" not in str(refused.value) and "\n" not in str(refused.value)
    with pytest.raises(StorageUnavailable) as caught:
        records.save([response("a")])
    assert caught.value.status == 503 and "s3cret" not in str(caught.value) and "s3cret" not in caplog.text
    records.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense s3cret", "must be a URL such as sqlite:///path"),
        ("sqlite://", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("oracle://u:s3cret@h/x", "must begin with sqlite: or postgresql:"),
        ("postgresql+nosuchdriver://u:s3cret@h/x", "flaskcompat\\[postgres\\]"),
    ],
)
def test_url_that_cannot_be_used(url: str, words: str) -> None:
    config = dict.fromkeys(("FLASKCOMPAT_FILES_URL", "FLASKCOMPAT_FILES_MAX_BYTES"))
    with pytest.raises(ValueError, match=f"^FLASKCOMPAT_DATABASE_URL .*{words}") as caught:
        opening.open_stores({**config, "FLASKCOMPAT_DATABASE_URL": url})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "absent", "words"),
    [
        ({"FLASKCOMPAT_DATABASE_URL": "sqlite:///x"}, "flaskcompat.stores.sql", "flaskcompat\\[state\\]"),
        ({"FLASKCOMPAT_DATABASE_URL": "postgresql://h/x"}, "psycopg", "flaskcompat\\[postgres\\]"),
    ],
)
def test_missing_extra_is_named_at_the_start(
    setting: dict[str, str], absent: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    config = {"FLASKCOMPAT_FILES_URL": None, "FLASKCOMPAT_FILES_MAX_BYTES": None}
    with pytest.raises(ValueError, match=words):
        opening.open_stores({**config, **setting})


def test_files_without_a_database_would_be_forgotten() -> None:
    with pytest.raises(ValueError, match="FLASKCOMPAT_FILES_URL needs FLASKCOMPAT_DATABASE_URL"):
        opening.open_stores({"FLASKCOMPAT_FILES_URL": "file:///x", "FLASKCOMPAT_DATABASE_URL": None})


def test_transaction_of_sqlite_waits_for_the_one_that_writes(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "_BUSY_TIMEOUT", 0.05)
    records, other = SqlRecords(sqlite_url), SqlRecords(sqlite_url)
    records.save([response("a")])
    with records._transaction():
        assert other.get("response", "alice", "a") is not None  # a reader waits for nobody
        with pytest.raises(StorageUnavailable):
            other.save([response("b")])
    other.save([response("b")])
    records.close()
    other.close()


def test_those_who_wait_are_saved_together(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    records = SqlRecords(database_url)
    records.save([response("first")])
    transactions: list[int] = []
    insert, go, inside = records._insert, threading.Event(), threading.Event()

    def watched(connection: sqlalchemy.Connection, saves: list[sql._Save]) -> None:
        transactions.append(len(saves))
        inside.set()
        assert go.wait(TIMEOUT)
        insert(connection, saves)

    monkeypatch.setattr(records, "_insert", watched)
    broken = replace(response("broken"), owner=None)  # type: ignore[arg-type]
    failures: list[BaseException] = []

    def save(record: Record) -> None:
        try:
            records.save([record])
        except StorageUnavailable as error:
            failures.append(error)

    threads = [threading.Thread(target=save, args=[response("0")])]
    threads[0].start()
    assert inside.wait(TIMEOUT)
    threads += [threading.Thread(target=save, args=[record]) for record in (response("1"), broken, response("first"))]
    for thread in threads[1:]:
        thread.start()
    assert eventually(lambda: records._group.waiting == 3)
    go.set()
    for thread in threads:
        thread.join(TIMEOUT)
    # The one that cannot be saved, and the one whose id is there, hold up nobody.
    assert transactions == [1, 3, 1, 1, 1] and len(failures) == 1
    found = {record.id for record in records.page(Query("response", "alice")).records}
    assert found == {"first", "0", "1"}
    records.close()


def test_value_that_has_no_bytes_hurts_nobody_else(database_url: str) -> None:
    records = SqlRecords(database_url)
    together = [sql._Save([replace(response("odd"), label="\ud800")]), sql._Save([response("good")])]
    records._save_all(together)
    assert isinstance(together[0].error, StorageUnavailable) and together[1].error is None
    assert records.get("response", "alice", "good") is not None
    records.close()


def test_value_that_a_database_does_not_take_hurts_nobody_else(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    records = SqlRecords(postgres_url)
    records.save([response("first")])
    odd = replace(response("odd"), label="a\0b", text='{"secret":"s3cret"}')
    together = [sql._Save([odd]), sql._Save([response("good")])]
    records._save_all(together)
    assert isinstance(together[0].error, StorageUnavailable) and together[1].error is None
    assert records.get("response", "alice", "odd") is None
    assert records.get("response", "alice", "good") is not None
    assert "s3cret" not in caplog.text
    records.close()


def test_connection_that_is_in_use_is_closed_when_it_is_done(sqlite_url: str) -> None:
    records = SqlRecords(sqlite_url)
    open_ones: list[object] = []
    sqlalchemy.event.listen(records._engine, "connect", lambda connection, _: open_ones.append(connection))
    sqlalchemy.event.listen(records._engine, "close", lambda connection, _: open_ones.remove(connection))
    with records._transaction(reads=True) as connection:
        records.close()
        connection.execute(sqlalchemy.text("select 1"))
    assert open_ones == []
    assert records.get("response", "", "resp_0") is None  # who comes too late is answered
    assert open_ones == []
