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
    :param leads: whether it is to write.
    :param gone: whether its thread was interrupted while it waited.
    """

    part: T
    turn: threading.Lock = field(default_factory=_taken_lock)
    leads: bool = False
    gone: bool = False
    error: BaseException | None = None


class GroupCommit(Generic[T]):
    """Writes the parts of those who come while another group is being written as one group.

    Each thread has a lock of its own to wait on: a shared one wakes them one after the other, and whoever has just
    written would take it again before the next one has woken, so that groups stay small (measured: of one, mostly).

    :param write: writes the parts of a group; what went wrong with one of them it notes there, what it raises is the
        error of each.
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
            member.leads = not self._busy
            self._busy = True
            if not member.leads:
                self._waiting.append(member)
        if not member.leads:
            self._wait(member)
        if member.leads:
            self._lead(member)
        if member.error is not None:
            raise member.error

    @property
    def waiting(self) -> int:
        """How many wait for the group that is being written."""
        return len(self._waiting)

    def _wait(self, member: _Member[T]) -> None:
        try:
            member.turn.acquire()
        except BaseException:  # an interrupt: whether its part was written is not known
            with self._lock:
                member.gone = True
                leads = member.leads
            if leads:
                self._hand_on()
            raise

    def _lead(self, first: _Member[T]) -> None:
        group = [first]
        try:
            with self._lock:
                while self._waiting and len(group) < self._most:
                    group.append(self._waiting.popleft())
            self._write([member.part for member in group])
        except BaseException as error:
            for member in group:
                member.error = error
        finally:
            for member in group[1:]:
                member.turn.release()
            self._hand_on()

    def _hand_on(self) -> None:
        """Have another one lead who waits, if any does."""
        with self._lock:
            while self._waiting:
                member = self._waiting.popleft()
                if not member.gone:
                    member.leads = True
                    member.turn.release()
                    return
            self._busy = False
