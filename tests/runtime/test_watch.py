"""What open runs are watched for."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from math import inf
from typing import Any

import pytest

from flaskcompat.errors import PipelineTimeout
from flaskcompat.runtime.watch import Limits, Watch, Writes
from flaskcompat.runtime.watcher import Watcher

from ..support import eventually, returning, scripted
from .test_invoke import start


class Fake:
    """A run as the watch sees it."""

    label = "m.run"

    def __init__(self) -> None:
        self.waiting_since: float | None = time.monotonic()
        self.silent_since = time.monotonic()
        self.writing_since: float | None = None
        self.told: list[Any] = []

    def leave(self) -> None:
        self.told.append("left")

    def log_warning(self, message: str, *args: Any) -> None:
        self.told.append(message.split(":")[0].split("{}")[-1].strip())

    def fail(self, error: BaseException) -> None:
        self.told.append(type(error))

    def beat(self) -> None:
        self.told.append("beat")


LATE = ["is over its time limit and is ended", PipelineTimeout]


def watch(run: Any, limits: Limits, left: bool = False, writes: Writes | None = None) -> Watch:
    return Watch(run, limits, lambda: left, lambda: None, writes)


def test_write_that_waits_for_its_client_is_cut() -> None:
    run, limit = Fake(), [5.0]
    watching = watch(run, Limits(), writes=Writes(lambda: limit[0], lambda: run.told.append("cut")))
    now = time.monotonic()
    watching.look(now + 9)
    assert run.told == [], "it writes nothing"
    run.writing_since = now
    watching.look(now + 4)
    assert run.told == []
    limit[0] = 2.0  # others wait
    watching.look(now + 4)
    assert run.told == ["a stream is cut", "cut"]
    watching.look(now + 5)
    assert run.told == ["a stream is cut", "cut"], "once"


def test_watch_that_has_ended_does_nothing_in_the_round_that_runs() -> None:
    run = Fake()
    watching = watch(run, Limits(total=1), writes=Writes(lambda: 1.0, lambda: run.told.append("cut")))
    run.writing_since = time.monotonic()
    watching.begin()
    watching.end()
    assert watching.look(time.monotonic() + 9) == inf and run.told == []


def test_time_limit_of_the_whole() -> None:
    run = Fake()
    watching = watch(run, Limits(total=5))
    now = time.monotonic()
    assert now < watching.look(now + 1) <= now + 6 and run.told == []
    assert watching.look(now + 6) == inf and run.told == LATE
    watching.look(now + 7)
    assert run.told == LATE, "it is told once"


def test_time_limit_of_silence_counts_while_the_reader_waits() -> None:
    run = Fake()
    watching = watch(run, Limits(between=5))
    now = time.monotonic()
    run.waiting_since = None
    watching.look(now + 6)
    assert run.told == []
    run.waiting_since = now
    watching.look(now + 4)
    assert run.told == []
    watching.look(now + 6)
    assert run.told == LATE


def test_beats_come_while_the_reader_waits() -> None:
    run = Fake()
    watching = watch(run, Limits(keep_alive=2))
    now = time.monotonic()
    assert watching.look(now + 1) <= now + 2.1 and run.told == []
    assert watching.look(now + 2.5) > now + 2.5 and run.told == ["beat"]
    run.waiting_since = None
    watching.look(now + 9)
    assert run.told == ["beat"]


def test_client_that_left_ends_the_watch() -> None:
    run = Fake()
    assert watch(run, Limits(keep_alive=1, total=1), left=True).look(time.monotonic() + 9) == inf
    assert run.told == ["left"]


def test_reader_that_is_dropped_ends_its_run() -> None:
    class Reader:
        pass

    run, reader = start(scripted_silence(), True), Reader()
    watching = watch(run, Limits())
    watching.follow(reader)
    watching.begin()
    admission = run._ticket._admission
    watching.look(time.monotonic())
    assert admission.active == 1
    del reader
    assert eventually(lambda: admission.active == 0)


class Entry:
    def __init__(self, due: float = inf, error: Exception | None = None) -> None:
        self.looks: list[float] = []
        self._due, self._error = due, error

    def look(self, now: float) -> float:
        self.looks.append(now)
        if self._error is not None:
            raise self._error
        return now + self._due


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    made = Watcher()
    yield made
    made._entries.clear()


def test_entries_are_looked_at_until_they_are_removed(watcher: Watcher) -> None:
    bad, slow, quick = Entry(error=ValueError("x")), Entry(), Entry(due=0.01)
    for entry in (bad, slow, quick):
        watcher.add(entry, inf)
    assert eventually(lambda: len(slow.looks) > 2 and len(bad.looks) > 2 and len(quick.looks) > 30)
    assert len(quick.looks) > len(slow.looks) > 0
    for entry in (bad, slow, quick):
        watcher.remove(entry)
        watcher.remove(entry)
    assert eventually(lambda: not watcher._entries)
    late = Entry()
    watcher.add(late, 0.0)
    assert eventually(lambda: late.looks)


def test_entry_with_something_due_is_not_kept_waiting(watcher: Watcher) -> None:
    first = Entry()
    watcher.add(first, inf)
    assert eventually(lambda: first.looks)
    begun = time.monotonic()
    urgent = Entry()
    watcher.add(urgent, begun)
    assert eventually(lambda: urgent.looks) and urgent.looks[0] - begun < 0.3


def test_reader_that_waits_is_woken() -> None:
    run = start(scripted(["a"]), True)
    assert run.take() == ["a"]
    while not run.ended:
        run.take()
    silent = start(scripted_silence(), True)
    timer = threading.Timer(0.05, silent.beat)
    timer.start()
    assert silent.take() == [] and not silent.ended
    silent.fail(PipelineTimeout())
    assert silent.take() == [] and isinstance(silent.error, PipelineTimeout)
    silent.close()
    other = start(scripted_silence(), True)
    other.leave()
    assert other.take() == [] and other.left
    other.close()


def scripted_silence() -> Any:
    go = threading.Event()

    def items() -> Iterator[str]:
        go.wait(0.2)
        yield "late"

    return returning(items)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_forked_child_has_a_watcher_of_its_own() -> None:
    code = """
import os, threading
from flaskcompat.runtime.watcher import Watcher
watcher = Watcher()
class Entry:
    def __init__(self): self.seen = threading.Event()
    def look(self, now):
        self.seen.set()
        return now + 1
first = Entry()
watcher.add(first, 0.0)
assert first.seen.wait(10)
if os.fork() == 0:
    second = Entry()
    watcher.add(second, 0.0)
    os._exit(0 if second.seen.wait(10) and len(watcher._entries) == 1 else 1)
assert os.wait()[1] == 0
print("both")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "both", done.stderr
