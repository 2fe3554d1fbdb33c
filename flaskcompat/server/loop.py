"""The turns of the server's loop."""

from __future__ import annotations

import select
from collections import deque
from contextlib import suppress
from typing import Any

from waitress import wasyncore

# The other side has closed its half; not known everywhere.
_LEFT: int = getattr(select, "POLLRDHUP", 0)
_MILLISECONDS = 1000.0


class Channels(dict[int, Any]):
    """All channels by descriptor, as wasyncore keeps them, and what each of them waits for.

    wasyncore asks every channel in every turn. Here one is asked after something has happened to it: when it is new,
    after its own events, and once :meth:`changed` has been called for it. So a turn costs what it has to do, however
    many connections are open. And an event goes to the channel that it came for: wasyncore asks for the channel of a
    descriptor only when it comes to its event, when another may have that number.

    The numbers of ``poll()`` and ``epoll()`` for what may happen are the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self._changed: deque[int] = deque()
        self._flags: dict[int, int] = {}  # what is waited for by now
        self._listening: set[int] = set()
        self._poll: Any = None  # Windows has neither
        self._unit = 1.0  # of a timeout, in seconds
        if hasattr(select, "epoll"):
            self._poll = select.epoll()
        elif hasattr(select, "poll"):
            self._poll, self._unit = select.poll(), _MILLISECONDS

    def __setitem__(self, descriptor: int, channel: Any) -> None:
        super().__setitem__(descriptor, channel)
        self.changed(descriptor)

    def __delitem__(self, descriptor: int) -> None:
        super().__delitem__(descriptor)
        self._listening.discard(descriptor)
        self._register(descriptor, 0)

    def changed(self, descriptor: int) -> None:
        """Have the channel of *descriptor* asked in the next turn; may be called on any thread.

        A turn that has begun to wait is ended by waitress's trigger alone.
        """
        self._changed.append(descriptor)

    def ask_all(self) -> None:
        """Have every channel asked in the next turn."""
        self._changed.extend(self)

    def turn(self, timeout: float) -> None:
        """Wait up to *timeout* seconds for something to happen, and handle it."""
        if self._poll is None:
            self._changed.clear()  # all are asked
            wasyncore.loop(timeout=timeout, map=self, count=1)
            return
        for descriptor in tuple(self._listening):  # they look after all others when they are asked
            self._ask(descriptor)
        self._ask_changed()
        events = [
            (self.get(descriptor), descriptor, flags) for descriptor, flags in self._poll.poll(timeout * self._unit)
        ]
        for channel, descriptor, flags in events:
            if channel is not None and self.get(descriptor) is channel:
                # What would close it is told in words that wasyncore knows.
                wasyncore.readwrite(channel, flags & ~_LEFT | select.POLLHUP if flags & _LEFT else flags)
                self._ask(descriptor)

    def close(self) -> None:
        """Let go of what the system keeps for this; nothing more is waited for."""
        if hasattr(self._poll, "close"):
            self._poll.close()
        self._flags.clear()

    def _ask_changed(self) -> None:
        try:
            while True:
                self._ask(self._changed.popleft())
        except IndexError:
            pass

    def _ask(self, descriptor: int) -> None:
        channel = self.get(descriptor)
        if channel is None:
            return
        if channel.accepting:
            self._listening.add(descriptor)  # first of all: it is asked again, even if it fails now
        # In this order: what is written meanwhile makes it unreadable for a moment, of which its writing tells.
        flags = select.POLLOUT if channel.writable() and not channel.accepting else 0
        if channel.readable():
            flags |= select.POLLIN | select.POLLPRI
        if not flags and not channel.accepting:
            flags = _LEFT  # nothing is read for the moment; it is closed when its client leaves
        if self.get(descriptor) is channel:
            self._register(descriptor, flags)

    def _register(self, descriptor: int, flags: int) -> None:
        before = self._flags.get(descriptor, 0)
        if flags == before:
            return
        if not flags:
            self._flags.pop(descriptor, None)
            with suppress(OSError, KeyError):  # closed by a thread that wrote to it
                self._poll.unregister(descriptor)
        elif before:
            self._poll.modify(descriptor, flags)
            self._flags[descriptor] = flags
        else:
            self._poll.register(descriptor, flags)
            self._flags[descriptor] = flags
