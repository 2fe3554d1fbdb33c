"""The hand-off between the code that makes an answer and the thread that writes it."""

from __future__ import annotations

import asyncio
from collections import deque
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from flaskcompat.runtime.abandon import Abandoned

#: Items that may wait for the reader; beyond it the writer waits. Far above what a model is ahead of a client,
#: and large enough that a burst is taken in few, large pieces.
ROOM = 256


class Buffer:
    """Items on their way from one run to one reading thread, which takes all that is there at once.

    Writers are threads (:meth:`put`) or coroutines of one loop (:meth:`put_async`); there may be several. A put is
    a deque's append and one test as long as the reader keeps up; nobody polls.
    """

    def __init__(self, room: int = ROOM) -> None:
        self._items: deque[Any] = deque()
        self._room = room
        self._asleep = False  # the reader waits on _wake
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._full = False  # writers wait
        self._waiting_threads: SimpleQueue[SimpleQueue[None]] = SimpleQueue()
        self._waiting_tasks: deque[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = deque()
        self.abandoned = False
        self.ended = False
        self.error: BaseException | None = None

    # -- writers -------------------------------------------------------------------------------------------

    def put(self, item: Any) -> None:
        """Hand *item* over, from a thread; waits while the buffer is full.

        :raises Abandoned: if the reader has left.
        """
        if self.abandoned:
            raise Abandoned
        self._items.append(item)
        if self._asleep:
            self._rouse()
        if len(self._items) >= self._room:
            self._wait_for_room()

    async def put_async(self, item: Any) -> None:
        """The same from a coroutine."""
        if self.abandoned:
            raise Abandoned
        self._items.append(item)
        if self._asleep:
            self._rouse()
        if len(self._items) >= self._room:
            await self._room_made()

    def finish(self, error: BaseException | None = None) -> None:
        """Nothing more comes; *error* is why, if the run failed."""
        self._items.append(_End(error))
        if self._asleep:
            self._rouse()

    def _rouse(self) -> None:
        self._asleep = False
        self._wake.put(None)

    def _wait_for_room(self) -> None:
        waiter: SimpleQueue[None] = SimpleQueue()
        self._waiting_threads.put(waiter)
        self._full = True
        if len(self._items) < self._room or self.abandoned:  # the reader may just have passed
            self._make_room()
        waiter.get()
        if self.abandoned:
            raise Abandoned

    async def _room_made(self) -> None:
        waiter = asyncio.Event()
        self._waiting_tasks.append((asyncio.get_running_loop(), waiter))
        self._full = True
        if len(self._items) < self._room or self.abandoned:
            self._make_room()
        await waiter.wait()
        if self.abandoned:
            raise Abandoned

    # -- the reader ----------------------------------------------------------------------------------------

    def take(self, timeout: float | None = None) -> list[Any]:
        """All items that wait; waits for the first of them, *timeout* seconds at most.

        An empty list means that time is up or, with :attr:`ended` set, that nothing more comes; :attr:`error` then
        says why.
        """
        deadline = None if timeout is None else monotonic() + timeout
        while not (self._items or self.ended or self.abandoned):
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                break
            self._sleep(left)
        return self._drain()

    def _drain(self) -> list[Any]:
        batch: list[Any] = []
        pop, add = self._items.popleft, batch.append
        try:
            while True:
                item = pop()
                if type(item) is _End:
                    self.ended, self.error = True, item.error
                    self.abandoned = self._full = True  # nobody reads what a straggler still has to say
                    break
                add(item)
        except IndexError:
            pass
        if self._full:
            self._make_room()
        return batch

    def abandon(self) -> None:
        """The reader leaves: writers learn it at their next put, those that wait at once."""
        self.abandoned = True
        self._make_room()
        self._rouse()

    def _sleep(self, timeout: float | None) -> None:
        self._asleep = True
        if self._items or self.abandoned:  # a writer may just have passed
            self._asleep = False
            return
        try:
            # A rousing left over from an earlier turn only makes for one turn more.
            self._wake.get(timeout=timeout)
        except Empty:
            self._asleep = False

    def _make_room(self) -> None:
        self._full = False
        try:
            while True:
                self._waiting_threads.get_nowait().put(None)
        except Empty:
            pass
        try:
            while True:
                _set(*self._waiting_tasks.popleft())
        except IndexError:
            pass


def _set(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    try:
        loop.call_soon_threadsafe(event.set)
    except RuntimeError:  # the loop is closed, nobody waits
        pass


class LoopBuffer(Buffer):
    """A buffer whose reader is a coroutine; made on the loop that it belongs to."""

    def __init__(self, room: int = ROOM) -> None:
        super().__init__(room)
        self.loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()

    def _rouse(self) -> None:
        self._asleep = False
        self.loop.call_soon_threadsafe(self._ready.set)

    async def take_async(self) -> list[Any]:
        """As :meth:`take`, waiting without holding a thread."""
        while not (self._items or self.ended or self.abandoned):
            self._ready.clear()
            self._asleep = True
            if not self._items:
                await self._ready.wait()
            self._asleep = False
        return self._drain()


class _End:
    __slots__ = ("error",)

    def __init__(self, error: BaseException | None) -> None:
        self.error = error
