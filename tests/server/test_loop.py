"""The server's loop, with channels that do what those of a busy server do."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable

import pytest

from flaskcompat.server.loop import Channels

pytestmark = pytest.mark.skipif(not hasattr(select, "poll"), reason="where there is no poll(), wasyncore's loop runs")


class Channel:
    accepting = False

    def __init__(self, channels: Channels, end: socket.socket, on_read: Callable[[], None]) -> None:
        self._channels = channels
        self.end = end
        self.descriptor = end.fileno()
        self._on_read = on_read
        self.closed = False
        self.reads = True
        self.asked = 0
        channels[self.descriptor] = self

    def readable(self) -> bool:
        self.asked += 1
        return self.reads

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        self._on_read()

    def handle_close(self) -> None:
        self.closed = True
        if self._channels.get(self.descriptor) is self:
            del self._channels[self.descriptor]
            self.end.close()


def test_event_of_a_closed_channel_does_not_reach_the_one_that_has_its_descriptor_now() -> None:
    channels = Channels()
    ours, theirs = socket.socketpair()
    old_ours, old_theirs = socket.socketpair()
    new_ours, new_theirs = socket.socketpair()
    fresh: list[Channel] = []

    def closes_one_and_accepts_another() -> None:
        ours.recv(10)
        number = old.descriptor
        old.handle_close()
        os.dup2(new_ours.fileno(), number)
        fresh.append(Channel(channels, socket.socket(fileno=number), lambda: None))

    first = Channel(channels, ours, closes_one_and_accepts_another)
    old = Channel(channels, old_ours, lambda: None)
    try:
        theirs.send(b"x")
        old_theirs.close()  # both happen in one turn
        channels.turn(1)
        assert old.closed and not fresh[0].closed
        new_theirs.close()
        channels.turn(1)
        assert fresh[0].closed
    finally:
        for channel in (first, *fresh):
            channel.handle_close()
        for end in (theirs, new_ours):
            end.close()


def test_turn_ends_when_nothing_happens() -> None:
    channels = Channels()
    ours, theirs = socket.socketpair()
    channel = Channel(channels, ours, lambda: None)
    channels.turn(0.01)
    assert not channel.closed
    channel.handle_close()
    theirs.close()


def test_channel_is_asked_what_it_waits_for_when_something_has_changed_and_not_in_every_turn() -> None:
    channels = Channels()
    ours, theirs = socket.socketpair()
    read: list[bytes] = []
    channel = Channel(channels, ours, lambda: read.append(ours.recv(10)))
    try:
        channel.reads = False
        theirs.send(b"x")
        channels.turn(0.01)
        assert not read and channel.asked == 1
        channel.reads = True
        channels.turn(0.01)
        assert not read and channel.asked == 1, "nobody has told of it"
        channels.changed(channel.descriptor)
        channels.turn(0.01)
        assert read == [b"x"] and channel.asked == 3, "after its event, too"
        channel.reads = False
        channels.ask_all()
        theirs.send(b"y")
        channels.turn(0.01)
        assert read == [b"x"]
    finally:
        channel.handle_close()
        theirs.close()


def test_channel_from_which_nothing_is_read_is_closed_when_its_client_leaves() -> None:
    channels = Channels()
    ours, theirs = socket.socketpair()
    channel = Channel(channels, ours, lambda: None)
    channel.reads = False
    channels.turn(0.01)
    assert not channel.closed
    theirs.close()
    channels.turn(1)
    assert channel.closed and not channels
