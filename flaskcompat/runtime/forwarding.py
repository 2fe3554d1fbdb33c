"""Events that come from outside of a run, through a queue of the user's."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Iterable
from queue import Empty
from typing import Any

from flaskcompat.runtime.abandon import Abandoned
from flaskcompat.runtime.buffer import Buffer

# How often the forwarder of a thread's queue looks whether the run is over, in seconds.
_CHECK_INTERVAL = 0.1


class Forwarder:
    """Puts what comes into a thread's queue into the buffer, from a thread of its own, until stopped."""

    def __init__(self, events: Any, buffer: Buffer) -> None:
        self._events = events
        self._buffer = buffer
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._forward, name="flaskcompat-events", daemon=True)
        self._thread.start()

    def _forward(self) -> None:
        try:
            while not self._over.is_set():
                try:
                    self._buffer.put(self._events.get(timeout=_CHECK_INTERVAL))
                except Empty:
                    pass
            for item in _waiting(self._events):
                self._buffer.put(item)
        except Abandoned:
            pass

    def stop(self) -> None:
        """Forward what still waits, and end."""
        self._over.set()
        self._thread.join()


def forward_async(events: Any, buffer: Buffer) -> Callable[[], Awaitable[None]]:
    """Start forwarding *events* into *buffer*; gives what stops it."""
    if events is None:
        return _nothing
    if not inspect.iscoroutinefunction(events.get):
        forwarder = Forwarder(events, buffer)
        return lambda: asyncio.to_thread(forwarder.stop)

    async def forward() -> None:
        while True:
            await buffer.put_async(await events.get())

    task = asyncio.create_task(forward())

    async def stop() -> None:
        task.cancel()
        await asyncio.wait([task])
        if buffer.abandoned:
            return
        for item in _waiting(events):
            await buffer.put_async(item)

    return stop


async def _nothing() -> None:
    pass


def _waiting(events: Any) -> Iterable[Any]:
    while not events.empty():
        yield events.get_nowait()
