"""The hand-off between the code that makes an answer and whoever writes it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from haystack.dataclasses import StreamingChunk

from flaskcompat.errors import PipelineError
from flaskcompat.protocol.deltas import length, read
from flaskcompat.runtime.abandon import Abandoned

#: Items that may wait for the reader; beyond it the writer waits. Far above what a model is ahead of a client,
#: and large enough that a burst is taken in few, large pieces.
ROOM = 256
#: After an item of more characters its writer waits until it is taken: memory is bounded however large they are.
LARGE = 16 * 1024


class Buffer:
    """Items on their way from one run to one reader, which takes all that is there at once.

    The reader is a thread that waits in :meth:`take`, or waits nowhere and is called by whoever brings something
    (:meth:`take_ready`, :meth:`listen`).

    Writers are threads (:meth:`put`) or coroutines of one loop (:meth:`put_async`); there may be several. A put is
    a deque's append and one test as long as the reader keeps up; nobody polls.
    """

    def __init__(self, room: int = ROOM) -> None:
        self._items: deque[Any] = deque()
        self._room = room
        self._asleep = False  # the reader waits on _wake, or for its listener to be called
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._listener: Callable[[], None] | None = None
        self._full = False  # writers wait
        self._waiting_threads: SimpleQueue[SimpleQueue[None]] = SimpleQueue()
        self._waiting_tasks: deque[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = deque()
        self._beat = False
        self.abandoned = False  # whether puts are refused: the reader has left, or the end has come
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
        if len(self._items) >= self._room or _is_large(item):
            self._wait_for_room(1 if _is_large(item) else self._room)

    async def put_async(self, item: Any) -> None:
        """The same from a coroutine."""
        if self.abandoned:
            raise Abandoned
        self._items.append(item)
        if self._asleep:
            self._rouse()
        if len(self._items) >= self._room or _is_large(item):
            await self._room_made(1 if _is_large(item) else self._room)

    def put_ready(self, items: list[Any]) -> None:
        """Hand *items* over without waiting for room; how many may wait is the caller's care (:attr:`waiting`)."""
        self._items.extend(items)
        if self._asleep:
            self._rouse()

    @property
    def waiting(self) -> int:
        """How many items wait for the reader."""
        return len(self._items)

    def finish(self, error: BaseException | None = None) -> None:
        """Nothing more comes; *error* is why, if the run failed."""
        self._items.append(_End(error))
        self._rouse()

    def _rouse(self) -> None:
        self._asleep = False
        if self._listener is None:
            self._wake.put(None)
            return
        try:
            self._listener()
        except BaseException:  # there is no room left on the stack of whoever brings something: the next one calls
            self._asleep = True
            raise

    def _wait_for_room(self, room: int) -> None:
        waiter: SimpleQueue[None] = SimpleQueue()
        self._waiting_threads.put(waiter)
        self._full = True
        if len(self._items) < room or self.abandoned:  # the reader may just have passed
            self._make_room()
        waiter.get()
        if self.abandoned:
            raise Abandoned

    async def _room_made(self, room: int) -> None:
        waiter = asyncio.Event()
        self._waiting_tasks.append((asyncio.get_running_loop(), waiter))
        self._full = True
        if len(self._items) < room or self.abandoned:
            self._make_room()
        await waiter.wait()
        if self.abandoned:
            raise Abandoned

    # -- the reader ----------------------------------------------------------------------------------------

    def take(self) -> list[Any]:
        """All items that wait; waits for the first of them.

        An empty list means a :meth:`beat`, that the buffer was abandoned or, with :attr:`ended` set, that nothing
        more comes; :attr:`error` then says why.
        """
        while not (self._items or self.ended or self.abandoned or self._beat):
            self._sleep()
        self._beat = False
        return self._drain()

    def take_ready(self) -> list[Any] | None:
        """What :meth:`take` gives; None where it would wait."""
        if not (self._items or self.ended or self.abandoned or self._beat):
            return None
        self._beat = False
        return self._drain()

    def listen(self, listener: Callable[[], None]) -> None:
        """Have *listener* called, on any thread, as soon as there is something to take; at once if that is now.

        It may be called several times for one thing: whoever ends a run calls it even where an earlier call has not
        yet led to a :meth:`take_ready`.
        """
        self._listener = listener
        self._asleep = True
        if self._items or self.ended or self.abandoned or self._beat:  # a writer may just have passed
            self._rouse()

    def beat(self) -> None:
        """Let the reader come back with nothing, where it waits."""
        self._beat = True
        self._rouse()

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

    def _sleep(self) -> None:
        self._asleep = True
        if self._items or self.abandoned or self._beat:  # a writer may just have passed
            self._asleep = False
            return
        # A rousing left over from an earlier turn only makes for one turn more.
        self._wake.get()

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


def _is_large(item: Any) -> bool:
    """Whether *item* fills the buffer by itself; what may hold anything does."""
    kind = type(item)
    if kind is str:
        return len(item) > LARGE
    if kind is StreamingChunk:
        texts = [item.content, *(call.arguments for call in item.tool_calls or ())]
        texts += [item.reasoning.reasoning_text] if item.reasoning else []
        return item.tool_call_result is not None or sum(len(text) for text in texts if type(text) is str) > LARGE
    if kind is not tuple:
        return True
    lengths = [length(delta) for delta in item]
    return None in lengths or sum(filter(None, lengths)) > LARGE


class AnswerBuffer(Buffer):
    """A buffer of what items say (:func:`~flaskcompat.protocol.deltas.read`).

    That is found out by whoever brings them, since it may run code of the user's: readers share their threads. What
    is no part of an answer ends the run at its place, whoever brought it: raised where it was brought, it might be
    taken for something else, as by a pipeline that goes on with another model, or by nobody.

    :param tell: makes what the reader gets of an error.
    """

    def __init__(self, tell: Callable[[BaseException], BaseException]) -> None:
        super().__init__()
        self._tell = tell

    def put(self, item: Any) -> None:
        """:raises Abandoned: also for an item that is no part of an answer."""
        super().put(self._read(item))

    async def put_async(self, item: Any) -> None:
        await super().put_async(self._read(item))

    def told(self, error: BaseException) -> BaseException:
        """What the reader gets of *error*; to be called where it was raised."""
        try:
            return self._tell(error)
        except BaseException:  # an error that cannot be looked at
            return PipelineError()

    def fail(self, told: BaseException) -> None:
        """End the run with what its reader is *told*; everything that is put later is refused."""
        self.finish(told)
        self.abandoned = True
        self._make_room()

    def _read(self, item: Any) -> Any:
        if self.abandoned:
            raise Abandoned
        try:
            return read(item)
        except BaseException as error:
            self.fail(self.told(error))
        raise Abandoned


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
