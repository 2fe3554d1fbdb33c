"""Group commit: what several threads want to have written at the same time is written by one of them, for all."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


def _taken_lock() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass(slots=True, eq=False)
class _Member(Generic[T]):
    """A thread's part of a group.

    :param turn: released once it is written, or once this thread is to write.
    """

    part: T
    turn: threading.Lock = field(default_factory=_taken_lock)
    written: bool = False
    error: BaseException | None = None


class GroupCommit(Generic[T]):
    """Writes the parts of those who come while another group is being written as one group.

    Each thread has a lock of its own to wait on: a shared one wakes them one after the other, and whoever has just
    written would take it again before the next one has woken, so that groups stay small (measured: of one, mostly).

    :param write: writes the parts of a group; what went wrong with one of them it notes there, what it raises
        is the error of each.
    :param most: parts of one group.
    """

    def __init__(self, write: Callable[[list[T]], None], most: int) -> None:
        self._write = write
        self._most = most
        self._lock = threading.Lock()
        self._waiting: deque[_Member[T]] = deque()
        self._busy = False

    def commit(self, part: T) -> None:
        """Return once *part* is written.

        :raises BaseException: what the write of its group raised.
        """
        member = _Member(part)
        with self._lock:
            leads = not self._busy
            self._busy = True
            if not leads:
                self._waiting.append(member)
        if not leads:
            member.turn.acquire()
        if not member.written:
            self._lead(member)
        if member.error is not None:
            raise member.error

    @property
    def waiting(self) -> int:
        """How many wait for the group that is being written."""
        return len(self._waiting)

    def _lead(self, first: _Member[T]) -> None:
        with self._lock:
            others = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._most - 1))]
        error: BaseException | None = None
        try:
            self._write([first.part, *(member.part for member in others)])
        except BaseException as raised:
            error = raised
        first.error = error
        for member in others:
            member.written, member.error = True, error
            member.turn.release()
        with self._lock:
            self._busy = bool(self._waiting)
            if self._busy:
                self._waiting.popleft().turn.release()
