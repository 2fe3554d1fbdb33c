"""What a store of records promises, whichever it is."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import Any

import pytest

from flaskcompat.stores.records import LogPart, Page, Query, Record, Records, UnknownCursor

from .places import Clock

T0 = Clock().now


def response(id: str, parent: str | None = None, **more: Any) -> Record:
    return Record(id, "response", "alice", json.dumps({"id": id}), parent=parent, created_at=1.0, **more)


def item(id: str, conversation: str = "conv_1", **more: Any) -> Record:
    body = json.dumps({"id": id})
    return Record(id, "item", "alice", body, parent=conversation, group=conversation, created_at=1.0, **more)


def ids(page: Page) -> list[str]:
    return [record.id for record in page.records]


def test_record_comes_back_as_it_was(records: Records) -> None:
    saved = Record("file-1", "file", "bob", '{"a":"\\u0000\\ud83d"}', label="user_data", size=7, created_at=2.5)
    records.save([saved])
    assert records.get("file", "bob", "file-1") == saved
    assert saved.group == "file-1" and saved.body == {"a": "\x00\ud83d"}


def test_nobody_else_sees_it(records: Records) -> None:
    records.save([response("r")])
    assert records.get("response", "bob", "r") is None
    assert records.get("file", "alice", "r") is None
    assert records.line("bob", "r") == []
    assert not records.delete("response", "bob", "r")
    assert not records.change(replace(response("r"), owner="bob"))
    assert records.page(Query("response", "bob")).records == []
    assert records.get("response", "alice", "r") is not None


def test_same_id_of_two_owners_and_two_kinds(records: Records) -> None:
    records.save([response("x"), replace(response("x"), owner="bob", text='{"of":"bob"}')])
    records.save([Record("x", "file", "alice", "{}")])
    found = records.get("response", "bob", "x")
    assert found is not None and found.body == {"of": "bob"}
    assert records.delete("response", "bob", "x")
    assert records.get("response", "alice", "x") is not None and records.get("file", "alice", "x") is not None


def test_later_one_of_the_same_id_takes_the_place(records: Records) -> None:
    records.save([response("r")])
    records.save([response("other"), replace(response("r"), text='{"second":true}')])
    found = records.get("response", "alice", "r")
    assert found is not None and found.body == {"second": True}
    assert ids(records.page(Query("response", "alice", descending=False))) == ["other", "r"]


def test_line_is_in_order_and_whole(records: Records) -> None:
    records.save([response("a")])
    records.save([response("b", "a", group="a")])
    records.save([response("c", "b", group="a"), response("d", "a", group="a")])
    assert [record.id for record in records.line("alice", "c")] == ["a", "b", "c"]
    assert [record.id for record in records.line("alice", "d")] == ["a", "d"]
    assert records.line("alice", "nothing") == []
    records.delete("response", "alice", "b")
    assert records.line("alice", "c") == []  # never a part of it
    assert [record.id for record in records.line("alice", "d")] == ["a", "d"]


def test_line_that_leads_back_to_itself_ends(records: Records) -> None:
    records.save([response("a", "b"), response("b", "a")])
    assert [record.id for record in records.line("alice", "a")] == ["b", "a"]
    records.save([response("self", "self")])
    assert [record.id for record in records.line("alice", "self")] == ["self"]


def test_long_line(records: Records) -> None:
    records.save([response("0"), *(response(str(n), str(n - 1), group="0") for n in range(1, 300))])
    assert [record.id for record in records.line("alice", "299")] == [str(n) for n in range(300)]


def test_change_keeps_all_but_the_body(records: Records) -> None:
    before = response("r", label="l", expires_at=1.8e9)
    records.save([before])
    assert records.change(before.with_body({"new": 1}))
    assert records.get("response", "alice", "r") == replace(before, text='{"new":1}')
    assert not records.change(response("other"))


def test_pages(records: Records) -> None:
    records.save([response(str(number)) for number in range(5)])
    query = Query("response", "alice", limit=2)
    first = records.page(query)
    assert (ids(first), first.has_more) == (["4", "3"], True)
    second = records.page(replace(query, after="3"))
    assert (ids(second), second.has_more) == (["2", "1"], True)
    last = records.page(replace(query, after="1"))
    assert (ids(last), last.has_more) == (["0"], False)
    upwards = records.page(replace(query, after="1", descending=False))
    assert (ids(upwards), upwards.has_more) == (["2", "3"], True)
    assert ids(records.page(replace(query, after="0"))) == []
    with pytest.raises(UnknownCursor):
        records.page(replace(query, after="nothing"))


def test_pages_by_label_and_conversation(records: Records) -> None:
    records.save([Record(str(n), "file", "alice", "{}", label=("odd" if n % 2 else "even")) for n in range(4)])
    assert ids(records.page(Query("file", "alice", label="odd"))) == ["3", "1"]
    with pytest.raises(UnknownCursor):
        records.page(Query("file", "alice", label="odd", after="2"))
    records.save([item("1"), item("2"), item("1", "conv_2")])
    assert ids(records.page(Query("item", "alice", parent="conv_1", descending=False))) == ["1", "2"]
    found = records.get("item", "alice", "1", "conv_2")
    assert found is not None and found.parent == "conv_2"
    assert records.delete("item", "alice", "1", "conv_1")
    assert records.get("item", "alice", "1", "conv_2") is not None


def test_conversation_goes_with_its_items(records: Records) -> None:
    records.save([Record("conv_1", "conversation", "alice", "{}"), item("1"), item("2")])
    records.save([item("1", "conv_2")])
    records.save([replace(item("1"), owner="bob"), response("r", group="conv_1")])
    assert records.delete("conversation", "alice", "conv_1")
    assert records.page(Query("item", "alice", parent="conv_1")).records == []
    assert records.get("item", "alice", "1", "conv_2") is not None
    assert records.get("item", "bob", "1", "conv_1") is not None
    assert records.get("response", "alice", "r") is not None


def test_expired_is_not_there(records: Records, clock: Clock) -> None:
    records.save([response("r", expires_at=clock.now + 10), response("s", "r", expires_at=clock.now + 30)])
    assert len(records.line("alice", "s")) == 2
    clock.now += 10
    assert records.get("response", "alice", "r") is None
    assert records.line("alice", "s") == []
    assert not records.delete("response", "alice", "r")
    assert not records.change(response("r"))
    assert ids(records.page(Query("response", "alice"))) == ["s"]


def test_use_keeps_a_group(records: Records, clock: Clock) -> None:
    records.save([response("a", expires_at=clock.now + 100), response("other", expires_at=clock.now + 100)])
    clock.now += 90
    records.save([response("b", "a", group="a", expires_at=clock.now + 100)], keep=100)
    clock.now += 90
    assert [record.id for record in records.line("alice", "b")] == ["a", "b"]
    assert records.get("response", "alice", "other") is None


def test_purge_of_what_is_over(records: Records, clock: Clock) -> None:
    records.save(
        [response("a", expires_at=clock.now + 1), response("b"), Record("f", "file", "alice", "{}", expires_at=1)]
    )
    records.save([Record("conv_1", "conversation", "alice", "{}", expires_at=clock.now + 1)])
    records.save([item("1", expires_at=clock.now + 1)])
    clock.now += 2
    kinds = ("response", "conversation", "item")
    assert {record.id for record in records.purge(kinds, clock.now, None, 100)} == {"a", "conv_1", "1"}
    assert records.purge(kinds, clock.now, None, 100) == []
    assert records.get("response", "alice", "b") is not None
    assert [record.id for record in records.purge(("file",), clock.now, None, 100)] == ["f"]


def test_purge_of_what_is_too_much(records: Records, clock: Clock) -> None:
    big = "x" * 1000
    records.save([Record("old", "file", "alice", "{}", size=1000, label=big[:10])])
    records.save([Record("new", "file", "bob", "{}", size=1000)])
    assert records.purge(("file",), clock.now, 5000, 100) == []
    assert [record.id for record in records.purge(("file",), clock.now, 1500, 100)] == ["old"]
    assert records.purge(("file",), clock.now, 1500, 100) == []
    records.save([response("a"), response("b")])
    records.save([response("c", "a", group="a")])
    size = len(response("a").text)
    assert [record.id for record in records.purge(("response",), clock.now, size * 2, 100)] == ["b"]


def test_many_threads(records: Records) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(10):
                id = f"{number}-{step}"
                records.save([response(id)])
                found = records.get("response", "alice", id)
                assert found is not None
                assert records.change(found.with_body({"step": step}))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(records.page(Query("response", "alice", limit=1000)).records) == 320


# -- responses that are made in the background -----------------------------------------------------------------


def test_log_of_a_run(records: Records) -> None:
    made = response("r")
    records.begin_run(made, "worker", ["0", "1"], T0)
    assert records.get("response", "alice", "r") == made
    assert records.read_events("r", 0, 10) == LogPart(["0", "1"], False)
    assert records.add_events("r", 2, ["2", "3"])
    assert records.add_events("r", 4, ["4"], made.with_body({"so": "far"}))
    found = records.get("response", "alice", "r")
    assert found is not None and found.body == {"so": "far"}
    assert records.read_events("r", 1, 2) == LogPart(["1", "2"], False)
    ended = records.end_run(
        "r", lambda record, number: (record.with_body({"at": number}), ["5", "6"], [response("more")])
    )
    found = records.get("response", "alice", "r")
    assert ended is not None and found is not None and ended.body == found.body == {"at": 5}
    assert records.read_events("r", 3, 3) == LogPart(["3", "4", "5"], False)
    assert records.read_events("r", 6, 3) == LogPart(["6"], True)
    assert records.read_events("r", 7, 3) == LogPart([], True)
    assert records.read_events("other", 0, 3) is None


def test_run_ends_once(records: Records) -> None:
    records.begin_run(response("r"), "worker", ["0"], T0)
    assert records.end_run("r", lambda record, number: (record.with_body({"first": True}), ["end"], [])) is not None
    assert records.end_run("r", lambda record, number: (record.with_body({"second": True}), ["end"], [])) is None
    assert not records.add_events("r", 2, ["2"], response("r"))
    found = records.get("response", "alice", "r")
    assert found is not None and found.body == {"first": True}
    assert records.read_events("r", 0, 9) == LogPart(["0", "end"], True)
    assert records.end_run("other", lambda record, number: (record, [], [])) is None


def test_end_that_fails_is_none(records: Records) -> None:
    records.begin_run(response("r"), "worker", ["0"], T0)
    with pytest.raises(ZeroDivisionError):
        records.end_run("r", lambda record, number: 1 / 0)  # type: ignore[arg-type, return-value]
    assert records.add_events("r", 1, ["1"])


def test_runs_of_whom_nobody_speaks(records: Records, clock: Clock) -> None:
    for id in ("a", "b", "c"):
        records.begin_run(response(id), "worker", [], T0)
    records.end_run("c", lambda record, number: (record, [], []))
    assert records.silent_runs(clock.now, 10) == []
    clock.now += 10
    assert records.beat("worker", ["a", "c", "unknown"], clock.now) == ["c", "unknown"]
    assert records.silent_runs(clock.now, 10) == ["b"]
    clock.now += 10
    assert records.add_events("a", 0, ["0"])
    assert sorted(records.silent_runs(clock.now, 10)) == ["b"]
    assert len(records.silent_runs(clock.now + 1, 1)) == 1


def test_log_goes_with_its_response(records: Records, clock: Clock) -> None:
    records.begin_run(response("a"), "worker", ["0"], T0)
    records.begin_run(response("b", expires_at=clock.now + 1), "worker", ["0"], T0)
    assert not records.delete("response", "bob", "a") and records.read_events("a", 0, 1) is not None
    assert records.delete("response", "alice", "a")
    assert records.read_events("a", 0, 1) is None and not records.add_events("a", 1, ["1"])
    clock.now += 2
    records.purge(("response",), clock.now, None, 10)
    assert records.read_events("b", 0, 1) is None
