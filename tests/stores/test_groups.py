"""Threads whose parts are written together."""

from __future__ import annotations

import threading

import pytest

from flaskcompat.stores import groups
from flaskcompat.stores.groups import GroupCommit

from ..support import TIMEOUT, eventually


class Slow:
    """Writes when it is let go."""

    def __init__(self, most: int) -> None:
        self.groups: list[list[str]] = []
        self.inside = threading.Event()
        self.go = threading.Event()
        self.commit = GroupCommit(self.write, most)

    def write(self, group: list[str]) -> None:
        self.inside.set()
        assert self.go.wait(TIMEOUT)
        self.groups.append(group)

    def start(self, part: str) -> threading.Thread:
        thread = threading.Thread(target=self.commit.commit, args=[part])
        thread.start()
        return thread


def test_those_who_come_while_one_is_written_are_the_next_groups_in_their_order() -> None:
    slow = Slow(3)
    threads = [slow.start("first")]
    assert slow.inside.wait(TIMEOUT)
    for number in range(5):
        threads.append(slow.start(str(number)))
        assert eventually(lambda: slow.commit.waiting == len(threads) - 1)
    assert slow.groups == []  # nobody is told before it is written
    slow.go.set()
    for thread in threads:
        thread.join(TIMEOUT)
    assert slow.groups == [["first"], ["0", "1", "2"], ["3", "4"]]


def test_everything_is_written_once() -> None:
    written: list[int] = []
    commits = GroupCommit(written.extend, 4)

    def commit(first: int) -> None:
        for number in range(first, first + 200):
            commits.commit(number)
            assert number in written

    threads = [threading.Thread(target=commit, args=[thread * 1000]) for thread in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert sorted(written) == [thread * 1000 + number for thread in range(16) for number in range(200)]


def test_what_is_not_written_fails_for_each_and_leaves_nobody_waiting() -> None:
    slow = Slow(2)

    def fail(group: list[str]) -> None:
        slow.write(group)
        raise OSError

    commits = GroupCommit(fail, 2)
    failed: list[OSError] = []

    def commit() -> None:
        try:
            commits.commit("part")
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=commit) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert eventually(lambda: commits.waiting == 3)
    slow.go.set()
    for thread in threads:
        thread.join(TIMEOUT)
    assert commits.waiting == 0 and len(failed) == 4
    with pytest.raises(OSError):
        commits.commit("later")


def test_interrupt_of_one_that_waits_leaves_nobody_waiting() -> None:
    slow = Slow(8)
    first = slow.start("first")
    assert slow.inside.wait(TIMEOUT)
    interrupted = groups._Member("interrupted")
    with slow.commit._lock:
        slow.commit._waiting.append(interrupted)
    interrupted.turn = Interrupted()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        slow.commit._wait(interrupted)
    slow.go.set()
    first.join(TIMEOUT)
    slow.start("last").join(TIMEOUT)
    assert slow.groups[-1] == ["last"] and slow.commit.waiting == 0


class Interrupted:
    def acquire(self) -> None:
        raise KeyboardInterrupt

    def release(self) -> None: ...
