"""waitress with our connections and lanes, looked after all the time and stopped in order."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from flask import Flask
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.server import BaseWSGIServer, TcpWSGIServer

from flaskcompat.blueprints.servers import DETACHED_ANSWERS, SPARE_THREADS
from flaskcompat.log import log
from flaskcompat.runtime import plan
from flaskcompat.runtime.watch import STALL_WHILE_OTHERS_WAIT
from flaskcompat.server.channel import Channel
from flaskcompat.server.detached import Application, Writers
from flaskcompat.server.gate import Gate
from flaskcompat.server.lanes import Lanes
from flaskcompat.server.loop import Channels

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
# Seconds in which a connection that was accepted before the stop may bring its request.
_LAST_REQUESTS = 0.25
# From this number on, threads leave each other the interpreter for this many seconds before they ask for it: hundreds
# that ask in turn cost more than what they ask for. Few ask sooner: one that computes holds them up less.
_MANY_THREADS = 300
_SWITCH_INTERVAL = 0.02
# How many connections are accepted in one turn.
_MOST_ACCEPTED = 64


def places_of(app: Flask) -> int | None:
    """How many answers may be made at once; None for any number."""
    setting: int | None = app.config.get("FLASKCOMPAT_MAX_GENERATIONS")
    return DETACHED_ANSWERS if setting is None else setting or None


class _Listener(BaseWSGIServer):  # type: ignore[misc]
    """One listening socket."""

    channel_class = Channel

    def __init__(self, runner: Runner, **options: Any) -> None:
        self.gate = runner.gate
        self.writers = runner.writers
        self.map = runner.map
        self._runner = runner
        self._pulled = False
        super().__init__(runner.application, **options)

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

    def readable(self) -> bool:
        self._pulled = False  # what was changed until now is found in the turn that begins
        return bool(super().readable()) and not self.is_leaving

    @property
    def is_leaving(self) -> bool:
        """Whether other processes take the clients from now on."""
        return self._runner.stopping and self._runner.shares_sockets

    def pull_trigger(self) -> None:
        if not self._pulled:
            self._pulled = True
            super().pull_trigger()

    def maintenance(self, now: float) -> None:
        self._runner.look_after(list(self.active_channels.values()))


class _Server(_Listener, TcpWSGIServer):  # type: ignore[misc]
    pass


_KINDS: dict[int, type[_Listener]] = {socket.AF_INET: _Server, socket.AF_INET6: _Server}
if hasattr(socket, "AF_UNIX"):
    from waitress.server import UnixWSGIServer

    class _UnixServer(_Listener, UnixWSGIServer):  # type: ignore[misc]
        pass

    _KINDS[socket.AF_UNIX] = _UnixServer


def _listener(runner: Runner, bound: socket.socket, **options: Any) -> _Listener:
    """Listens on a socket that is there."""
    info = (bound.family, bound.type, bound.proto, bound.getsockname())
    return _KINDS[bound.family](runner, _sock=bound, bind_socket=False, sockinfo=info, **options)


class Runner:
    """A server for *app*, bound and not yet running.

    :param options: waitress's settings, ``threads`` among them.
    :param sockets: bound ones that other processes listen on, too, in place of what the options say.
    :param on_round: called again and again while the server runs, each :data:`_ROUND` seconds.
    """

    def __init__(
        self,
        app: Flask,
        options: dict[str, Any],
        *,
        sockets: Sequence[socket.socket] = (),
        on_round: Callable[[], None] | None = None,
    ) -> None:
        self.gate = Gate(app)
        self.application = Application(app)
        self.writers = Writers()
        self.map = Channels()
        self.adj = Adjustments(**options)
        self.adj.cleanup_interval = self.adj.asyncore_loop_timeout = _ROUND
        self.stall_timeout: float = app.config.get("FLASKCOMPAT_STALL_TIMEOUT", 0.0)
        answers, at_once = max(1, self.adj.threads - SPARE_THREADS), places_of(app)
        # A host's own pages may be as slow as answers, and must not wait for those.
        short = SPARE_THREADS + (answers if self.gate.has_other_routes else 0)
        self.lanes = Lanes(min(answers, at_once or answers), short, at_once)
        self.stopping = False
        self.shares_sockets = bool(sockets)
        self._on_round = on_round
        self._switch_interval = sys.getswitchinterval()
        self._ended = False
        common = {"map": self.map, "dispatcher": self.lanes, "adj": self.adj}
        if sockets:
            self.servers = [_listener(self, shared, **common) for shared in sockets]
        else:
            self.servers = [_Server(self, sockinfo=address, **common) for address in self.adj.listen]

    @property
    def port(self) -> int:
        return int(self.servers[0].effective_port)

    @property
    def requests(self) -> int:
        """How many requests have reached the application."""
        return self.application.requests

    def run(self) -> None:
        """Serve until :meth:`end`."""
        self.writers.start()
        # Beside the first requests, which may be about something else.
        threading.Thread(target=plan.prepare, name="flaskcompat-prepare", daemon=True).start()
        while not self._ended:
            try:
                self.map.turn(self.adj.asyncore_loop_timeout)
            except Exception as error:  # of one connection; the others are served
                log.opt(exception=error).error("the server's loop failed")

    def end(self) -> None:
        """Let :meth:`run` return."""
        self._ended = True
        self.servers[0].pull_trigger()

    def close(self) -> None:
        """Close every connection, and let the threads go without waiting for them."""
        sys.setswitchinterval(self._switch_interval)
        self.lanes.let_go()
        self.writers.stop()
        for channel in self._channels():
            channel.close_now()
        wasyncore.close_all(self.map, ignore_all=True)
        self.map.close()

    def stop(self, grace: float) -> None:
        """Begin nothing new, let what runs end within *grace* seconds, end the rest, then :meth:`end`."""
        deadline = monotonic() + grace
        self.stopping = True
        if self.shares_sockets:  # what was accepted is answered, and the rest left to other processes
            self.servers[0].pull_trigger()
            time.sleep(min(_LAST_REQUESTS, grace))
        if (admission := self.gate.admission) is not None:
            admission.begin_stop(grace)
        self.lanes.stop()
        if self.shares_sockets:  # clients come back to a process that goes on
            for channel in self._channels():
                channel.close_if_idle()
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
        self.map.ask_all()  # waitress does not tell of everything that it does
        if self._on_round is not None:
            self._on_round()
        self.lanes.look_after(now)
        many = threading.active_count() >= _MANY_THREADS
        sys.setswitchinterval(max(_SWITCH_INTERVAL, self._switch_interval) if many else self._switch_interval)
        admission = self.gate.admission
        for_place = self.lanes.held > 0 or (admission is not None and admission.waiting > 0)
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
