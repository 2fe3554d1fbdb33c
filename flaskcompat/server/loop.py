"""The turns of the server's loop."""

from __future__ import annotations

import select
from typing import Any

from waitress import wasyncore

# The other side has closed its half; not known everywhere.
_LEFT: int = getattr(select, "POLLRDHUP", 0)


def turn(channels: dict[int, Any], timeout: float) -> None:
    """Wait up to *timeout* seconds for something to happen on *channels*, and handle it.

    As wasyncore does it, but that an event goes to the channel that it came for. wasyncore asks for the channel of a
    descriptor only when it comes to its event: one that was accepted in the same turn may have the number of one that
    was closed in it, and would be closed by what happened to that one. And a connection from which nothing is read
    for the moment is closed when its client leaves.

    :param channels: by descriptor; those that are closed take themselves out.
    """
    if not hasattr(select, "poll"):  # Windows
        wasyncore.loop(timeout=timeout, map=channels, count=1)
        return
    poll = select.poll()
    for descriptor, channel in list(channels.items()):
        flags = select.POLLIN | select.POLLPRI if channel.readable() else 0
        if channel.writable() and not channel.accepting:
            flags |= select.POLLOUT
        if not flags and not channel.accepting:
            flags = _LEFT
        if flags:
            poll.register(descriptor, flags)
    events = [(channels.get(descriptor), descriptor, flags) for descriptor, flags in poll.poll(int(timeout * 1000))]
    for channel, descriptor, flags in events:
        if channel is not None and channels.get(descriptor) is channel:
            # What would close it is told in words that wasyncore knows.
            wasyncore.readwrite(channel, flags & ~_LEFT | select.POLLHUP if flags & _LEFT else flags)
