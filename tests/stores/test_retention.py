"""What is too old or too much goes by itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flaskcompat.errors import NothingStored
from flaskcompat.stores import memory, retention
from flaskcompat.stores.memory import MemoryRecords
from flaskcompat.stores.records import Record, Records
from flaskcompat.stores.responses import Context, ResponseStore

from .places import Clock


def answer(id: str, text: str = "x") -> dict[str, Any]:
    return {"id": id, "object": "response", "status": "completed", "output": [{"type": "message", "content": text}]}


def keep(store: ResponseStore, id: str, context: Context) -> None:
    store.save_response("alice", answer(id), json.dumps(answer(id)), given=[], context=context)


def test_saving_deletes_what_is_over(records: Records, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_INTERVAL", 0.0)
    store = ResponseStore(records, max_age=100, most=None, clock=clock)
    keep(store, "resp_1", Context())
    clock.now += 100
    keep(store, "resp_2", Context())
    assert store.purge() == 0
    assert records.purge(("response",), clock.now, 0, 100) != []
    with pytest.raises(NothingStored):
        store.response("alice", "resp_1")


def test_chain_lives_as_long_as_its_last_response(records: Records, clock: Clock) -> None:
    store = ResponseStore(records, max_age=100, most=None, clock=clock)
    keep(store, "resp_1", Context())
    for number in range(2, 6):
        clock.now += 80
        keep(store, f"resp_{number}", store.continued("alice", f"resp_{number - 1}"))
    assert len(store.continued("alice", "resp_5").items) == 5
    clock.now += 101
    with pytest.raises(NothingStored):
        store.continued("alice", "resp_5")
    assert store.purge() == 5


def test_conversation_lives_as_long_as_it_is_used(records: Records, clock: Clock) -> None:
    store = ResponseStore(records, max_age=100, most=None, clock=clock)
    id = store.create_conversation("alice", [{"role": "user", "content": "x"}], {})["id"]
    for _ in range(3):
        clock.now += 80
        store.add_items("alice", id, [{"role": "user", "content": "x"}])
    assert len(store.in_conversation("alice", id).items) == 4
    clock.now += 101
    with pytest.raises(NothingStored):
        store.in_conversation("alice", id)
    assert store.purge() == 5


def test_failure_to_tidy_up_is_no_failure_to_save(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> list[Record]:
        raise OSError

    monkeypatch.setattr(records, "purge", fail)
    store = ResponseStore(records, max_age=100, most=None)
    keep(store, "resp_1", Context())
    assert store.response("alice", "resp_1")["id"] == "resp_1"


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_RECORDS", 3)
    records = MemoryRecords(most=1000)
    for number in range(5):
        records.save([Record(str(number), "response", "a", "{}")])
    assert [records.get("response", "a", str(number)) is not None for number in range(5)] == [False] * 2 + [True] * 3
    records.save([Record("big", "response", "a", "x" * 990)])
    assert records.get("response", "a", "4") is not None and records.get("response", "a", "2") is None
    records.save([Record("bigger", "response", "a", "x" * 999)])
    assert records.get("response", "a", "big") is None and records.get("response", "a", "bigger") is not None


def test_whole_conversation_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_RECORDS", 4)
    store = ResponseStore(MemoryRecords(), max_age=0, most=None)
    first = store.create_conversation("a", [{"role": "user", "content": "1"}], {})["id"]
    second = store.create_conversation("a", [{"role": "user", "content": "2"}], {})["id"]
    store.add_items("a", second, [{"role": "user", "content": "3"}])
    with pytest.raises(NothingStored):
        store.conversation("a", first)
    assert len(store.in_conversation("a", second).items) == 2


def test_logs_count_as_bytes() -> None:
    records = MemoryRecords(most=1000)
    records.save([Record("old", "response", "a", "{}")])
    records.begin_run(Record("r", "response", "a", "{}"), "worker", ["x" * 400], 0.0)
    assert records.get("response", "a", "old") is not None
    assert records.add_events("r", 1, ["x" * 590, "y" * 8])
    assert records.get("response", "a", "old") is None and records.get("response", "a", "r") is not None
    assert records.delete("response", "a", "r") and records._bytes == 0


def test_chain_that_goes_on_in_the_background_is_kept(records: Records, clock: Clock) -> None:
    store = ResponseStore(records, max_age=100, most=None, clock=clock)
    keep(store, "resp_1", Context())
    clock.now += 90
    store.begin("alice", {**answer("resp_2"), "status": "queued"}, [], store.continued("alice", "resp_1"), "w", [])
    clock.now += 50
    store.purge()
    assert store.response("alice", "resp_2")["id"] == "resp_2"


def test_item_that_comes_twice_is_there_twice(records: Records) -> None:
    store = ResponseStore(records, max_age=100, most=None)
    item = {"id": "msg_" + "0" * 32, "role": "user", "content": "x"}
    id = store.create_conversation("alice", [item, item], {})["id"]
    assert len(store.in_conversation("alice", id).items) == 2
    store.add_items("alice", id, [item])
    assert len(store.in_conversation("alice", id).items) == 2
