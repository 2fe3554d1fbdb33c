"""waitress with our connections and lanes, looked after all the time and stopped in order."""

from __future__ import annotations

import socket
import time
from time import monotonic
from typing import Any

from flask import Flask
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.server import TcpWSGIServer

from flaskcompat.blueprints.servers import DETACHED_ANSWERS, SPARE_THREADS
from flaskcompat.log import log
from flaskcompat.runtime.watch import STALL_WHILE_OTHERS_WAIT
from flaskcompat.server.channel import Channel
from flaskcompat.server.detached import Application, Writers
from flaskcompat.server.gate import Gate
from flaskcompat.server.lanes import Lanes
from flaskcompat.server.loop import turn

#: Seconds that the head of a request may take.
HEAD_TIMEOUT = 60.0
# What the kernel may hold of an answer, in bytes: a client that does not read is seen then, not megabytes later.
_SEND_BUFFER = 64 * 1024
# How often the connections are looked after, in seconds.
_ROUND = 0.25
# An idle connection is this old, in seconds, before it must make room when there are too many.
_IDLE_BEFORE_CLOSED = 5.0
# Seconds before the end of the grace when what has no answer yet is answered from outside.
_LAST_CALL = 0.5
# How many connections are accepted in one turn.
_MOST_ACCEPTED = 64


def places_of(app: Flask) -> int | None:
    """How many answers may be made at once; None for any number."""
    setting: int | None = app.config.get("FLASKCOMPAT_MAX_GENERATIONS")
    return DETACHED_ANSWERS if setting is None else setting or None


class _Server(TcpWSGIServer):  # type: ignore[misc]
    """One listening socket."""

    channel_class = Channel

    def __init__(self, runner: Runner, app: Flask, *args: Any, **kwargs: Any) -> None:
        self.gate = runner.gate
        self.writers = runner.writers
        self._runner = runner
        super().__init__(Application(app), *args, **kwargs)

    def set_socket_options(self, conn: socket.socket) -> None:
        super().set_socket_options(conn)
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)

    def handle_accept(self) -> None:
        # All that wait: one in each turn would make every turn look at all connections for one new one.
        for _ in range(min(_MOST_ACCEPTED, self.adj.connection_limit - len(self._map))):
            known = len(self.active_channels)
            super().handle_accept()
            if len(self.active_channels) == known:
                break

    def maintenance(self, now: float) -> None:
        self._runner.look_after(list(self.active_channels.values()))


class Runner:
    """A server for *app*, bound and not yet running.

    :param options: waitress's settings, ``threads`` among them.
    """

    def __init__(self, app: Flask, options: dict[str, Any]) -> None:
        self.gate = Gate(app)
        self.writers = Writers()
        self.map: dict[int, Any] = {}
        self.adj = Adjustments(**options)
        self.adj.cleanup_interval = self.adj.asyncore_loop_timeout = _ROUND
        self.stall_timeout: float = app.config.get("FLASKCOMPAT_STALL_TIMEOUT", 0.0)
        answers, at_once = max(1, self.adj.threads - SPARE_THREADS), places_of(app)
        # A host's own pages may be as slow as answers, and must not wait for those.
        short = SPARE_THREADS + (answers if self.gate.has_other_routes else 0)
        self.lanes = Lanes(min(answers, at_once or answers), short, at_once)
        self.stopping = False
        self._ended = False
        self.servers = [
            _Server(self, app, self.map, dispatcher=self.lanes, adj=self.adj, sockinfo=address)
            for address in self.adj.listen
        ]

    @property
    def port(self) -> int:
        return int(self.servers[0].effective_port)

    def run(self) -> None:
        """Serve until :meth:`end`."""
        self.writers.start()
        while not self._ended:
            try:
                turn(self.map, self.adj.asyncore_loop_timeout)
            except Exception as error:  # of one connection; the others are served
                log.opt(exception=error).error("the server's loop failed")

    def end(self) -> None:
        """Let :meth:`run` return."""
        self._ended = True
        self.servers[0].pull_trigger()

    def close(self) -> None:
        """Close every connection, and let the threads go without waiting for them."""
        self.lanes.let_go()
        self.writers.stop()
        for channel in self._channels():
            channel.close_now()
        wasyncore.close_all(self.map, ignore_all=True)

    def stop(self, grace: float) -> None:
        """Begin nothing new, let what runs end within *grace* seconds, end the rest, then :meth:`end`."""
        deadline = monotonic() + grace
        self.stopping = True
        state = self.gate.state
        if state is not None:
            state.admission.begin_stop(grace)
        self.lanes.stop()
        self._wait_until_quiet(deadline - _LAST_CALL)
        for channel in self._channels():
            channel.answer_stopped()
        self._wait_until_quiet(deadline, flushed=True)
        self.end()

    def _wait_until_quiet(self, deadline: float, *, flushed: bool = False) -> None:
        """Wait until no connection is being answered; with *flushed*, until nothing is on its way."""
        while monotonic() < deadline:
            if not any(c.total_outbufs_len if flushed else c.answering for c in self._channels()):
                return
            time.sleep(0.02)

    def _channels(self) -> list[Channel]:
        return [channel for server in self.servers for channel in list(server.active_channels.values())]

    def look_after(self, channels: list[Channel]) -> None:
        """Cut whoever keeps others waiting; called every :data:`_ROUND` seconds, on the thread of :meth:`run`."""
        now, wall = monotonic(), time.time()
        self.lanes.look_after(now)
        for_place = self.lanes.held > 0 or (self.gate.state is not None and self.gate.state.admission.waiting > 0)
        for_thread = self.lanes.waiting > 0
        while_others_wait = min(STALL_WHILE_OTHERS_WAIT, self.stall_timeout)
        for channel in channels:
            if (
                channel.has_lingered
                or channel.head_missing_for(now) >= HEAD_TIMEOUT
                or not channel.requests
                and wall - channel.last_activity >= self.adj.channel_timeout
            ):
                channel.cut()
                continue
            waited_for = channel.requests and (for_place or (for_thread and not channel.detached))
            limit = while_others_wait if waited_for else self.stall_timeout
            if channel.unread_for(now) >= limit > 0:
                log.warning("a stream is cut: its client has read nothing for {:.0f} s", channel.unread_for(now))
                channel.cut()
        if len(self.map) >= self.adj.connection_limit:
            self._make_room(channels)

    def _make_room(self, channels: list[Channel]) -> None:
        """Close the oldest tenth of the connections on which nothing is asked."""
        now, wall = monotonic(), time.time()
        idle = [
            (age, channel)
            for channel in channels
            if not channel.requests
            and (age := channel.head_missing_for(now) or wall - channel.last_activity) > _IDLE_BEFORE_CLOSED
        ]
        idle.sort(key=lambda pair: -pair[0])
        for _, channel in idle[: max(1, self.adj.connection_limit // 10)]:
            channel.cut()
