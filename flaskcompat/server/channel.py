"""One connection."""

from __future__ import annotations

import socket
import sys
from collections import deque
from collections.abc import Callable
from time import monotonic, time
from typing import Any

from waitress.channel import ClientDisconnected, HTTPChannel
from waitress.task import ErrorTask

from flaskcompat.blueprints import calls
from flaskcompat.errors import LOG_LIMIT, APIError, ShuttingDown, shorten
from flaskcompat.log import log, logged_as
from flaskcompat.protocol import sse
from flaskcompat.protocol.ids import new_id
from flaskcompat.server.detached import Detached, DetachedStream, Task
from flaskcompat.server.parser import Parser, as_api_error

try:
    import fcntl
    import termios
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: How long a refused client may go on sending what nobody reads, in seconds. Closed at once, it would not see why.
LINGER = 5.0
#: A client that has taken fewer bytes than this counts as one that has not read.
LEAST_PROGRESS = 1024
# What is read at once of a body, in bytes.
_BODY_PIECE = 256 * 1024
#: How many connections may each keep a long conversation's body in memory. With more, waitress's limit holds for all.
FEW = 100
_LONG_BODY = 2 * 1024 * 1024


class ErrorAnswer(ErrorTask):  # type: ignore[misc]
    """An error that never reached the application, in the shape of all others."""

    def execute(self) -> None:
        id = new_id("req_")
        error = as_api_error(self.request.error)
        with logged_as(id):
            log.info("{} answered before the application: {}", error.status, error.message)
            observers, request = self.channel.server.gate.observers, self.request
            path = request.path if request.path_info is None else request.path_info
            calls.refused(observers, request.command, path, error, self.channel.queued_at or monotonic())
        error = error.for_request(id)
        self.response_headers.append(("x-request-id", id))
        body = sse.dumps(error.body()).encode()
        self.status = f"{error.status} {error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.response_headers.extend(error.headers.items())
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(b"" if self.request.command == "HEAD" else body)


class Channel(HTTPChannel):  # type: ignore[misc]
    """waitress's connection, which judges requests by their head and knows whether its client reads.

    Its server has a ``gate``.
    """

    error_task_class = ErrorAnswer
    will_close: bool
    close_when_flushed: bool
    current_outbuf_count: int
    requests: list[Any]

    def __init__(self, server: Any, *args: Any, **kwargs: Any) -> None:
        self.sent = 0
        self.queued_at = 0.0  # when its request began to wait for a thread
        self._task: Task | None = None
        self.detached = False  # whether its answer holds no thread
        self.waits_for_client = True  # whether a write waits while too much is unread
        self._on_drained: deque[Callable[[], None]] = deque()
        # When the client last took a good piece, and what it had taken by then; None while nothing waits for it.
        self._mark: tuple[float, int] | None = None
        self._lingers_until: float | None = None
        super().__init__(server, *args, **kwargs)

    def parser_class(self, adj: Any) -> Parser:
        return Parser(adj, self.server.gate, _LONG_BODY if len(self.server.map) <= FEW else adj.inbuf_overflow)

    # -- reading ---------------------------------------------------------------------------------------------

    def readable(self) -> bool:
        return self._lingers_until is not None or bool(super().readable())

    def recv(self, buffer_size: int) -> bytes:
        # Of a body with a length, and no more than is left of it: a piece that holds many chunks or requests would be
        # copied for each of them.
        request = self.request
        left = getattr(request.body_rcv, "remain", 0) if request is not None and request.headers_finished else 0
        return bytes(super().recv(max(buffer_size, min(left, _BODY_PIECE))))

    def received(self, data: bytes) -> bool:
        return self._lingers_until is None and bool(super().received(data))

    def head_missing_for(self, now: float) -> float:
        """For how many seconds the head of a request has been coming in, beside no answer; asked now and then."""
        if self.request is None or self.request.headers_finished:
            return 0.0
        if self.answering:
            self.request.begun = now
        return float(now - self.request.begun)

    # -- writing ---------------------------------------------------------------------------------------------

    def send(self, data: bytes, do_close: bool = True) -> int:
        sent = int(super().send(data, do_close))
        self.sent += sent
        return sent

    def write_soon(self, data: Any) -> int:
        # Whoever closes the connection takes the lock, too: after that its descriptor may be another client's.
        with self.outbuf_lock:
            if self.total_outbufs_len or type(data) is not bytes or not self.connected:
                return self._write_later(data)
            # Straight to the socket where nothing waits before it: only what that does not take needs a buffer.
            size = len(data)
            try:
                sent = self.send(data, do_close=False)
            except OSError as error:
                self.will_close = True
                raise ClientDisconnected from error
            self.last_activity = time()
            if sent < size:
                self._write_later(data[sent:] if sent else data)
            return size

    def _write_later(self, data: Any) -> int:
        size = int(super().write_soon(data))
        self.changed()  # the loop may have asked meanwhile, and been told to wait
        return size

    def _flush_outbufs_below_high_watermark(self) -> None:
        if self.waits_for_client:
            super()._flush_outbufs_below_high_watermark()

    @property
    def is_full(self) -> bool:
        """Whether a write would wait for the client to read."""
        return bool(self.total_outbufs_len >= self.adj.outbuf_high_watermark)

    def resume_when_drained(self, resume: Callable[[], None]) -> bool:
        """Have *resume* called, on any thread, once a write would not wait; False if that is already so."""
        self._on_drained.append(resume)
        if self.is_full and self.connected:
            return True
        try:
            self._on_drained.pop()
        except IndexError:  # being called
            return True
        return False

    def _flush_some(self, do_close: bool = True) -> bool:
        flushed = bool(super()._flush_some(do_close))
        if self._on_drained and not self.is_full:
            self._call_on_drained()
        return flushed

    def _call_on_drained(self) -> None:
        try:
            self._on_drained.pop()()
        except IndexError:
            pass

    def unread_for(self, now: float) -> float:
        """For how many seconds the client has left unread what waits for it; asked now and then."""
        if not self.total_outbufs_len:
            self._mark = None
            return 0.0
        arrived = self.sent - self._held_by_kernel()
        if self._mark is None or arrived - self._mark[1] >= LEAST_PROGRESS:
            self._mark = (now, arrived)
        return now - self._mark[0]

    def _held_by_kernel(self) -> int:
        """Bytes that were sent and have not arrived; the kernel takes new ones in large steps alone."""
        if fcntl is None:  # Windows
            return 0
        try:
            return int.from_bytes(fcntl.ioctl(self.socket, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        except OSError:  # closed, or not known here
            return 0

    @property
    def answering(self) -> bool:
        """Whether a request is being answered, or its answer is on its way."""
        return bool(self.requests or self.total_outbufs_len)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is asked on it, not in part either."""
        return self.request is None and not self.answering

    def answer_stopped(self) -> None:
        """Answer a request whose wrapper does not return, from outside; the process ends after it."""
        requests = self.requests
        if requests and self.connected and (self._task is None or self._task.take_head()):
            requests[0].error = ShuttingDown()
            try:
                ErrorAnswer(self, requests[0]).service()
            except Exception as error:  # the client has gone
                log.debug("no answer at the end: {}", type(error).__name__)

    # -- closing ---------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """End the connection, whoever is writing to it."""
        self._lingers_until = 0.0
        # On the loop's thread; it closes by itself only what can be written to.
        self.server.trigger.pull_trigger(self.handle_close)

    def close_if_idle(self) -> None:
        """Close the connection on the loop's thread, unless something is asked on it by then."""
        self.server.trigger.pull_trigger(lambda: self.close_now() if self.is_idle else None)

    def service(self) -> None:
        """Answer the first request; called on a thread of a lane."""
        request = self.requests[0]
        if request.error is not None and not _has_whole_body(request):
            self._lingers_until = monotonic() + LINGER
        if not self.connected:
            calls.left(self.server.gate.observers, request.command, request.path_info, self.queued_at)
        try:
            keeps_open = self.connected and self._answer(request)
        except Detached:
            assert self._task is not None
            self.detached = True
            self.waits_for_client = False  # whoever brings the events of a stream must not
            DetachedStream(self, self._task).listen()
            return
        self.server.task_dispatcher.answer_over(request)
        self._end(keeps_open=keeps_open)

    def _answer(self, request: Any) -> bool:
        """Answer *request*; gives whether the connection serves another one after it.

        :raises Detached: if it is answered without a thread from now on.
        """
        if request.error is None:
            self._task = Task(self, request)
            try:
                self._task.service()
                return not self._task.close_on_finish
            except ClientDisconnected:
                return False
            except Exception as error:
                log.opt(exception=error).error("{} was not answered in order", shorten(request.path, LOG_LIMIT))
                if self._task.wrote_header:
                    return False
                request.error = APIError()
        try:
            ErrorAnswer(self, request).service()
        except ClientDisconnected:
            pass
        except Exception as error:  # the connection ends all the same
            log.opt(exception=error).error("{} was not answered at all", shorten(request.path, LOG_LIMIT))
        return False

    def _end(self, *, keeps_open: bool) -> None:
        """The end of the first request."""
        with self.requests_lock:
            # Then the loop waits for what the client sends next, as it has all the time.
            is_read = keeps_open and len(self.requests) <= self.adj.channel_request_lookahead
            over = self.requests[:1] if keeps_open else self.requests
            self.requests = self.requests[len(over) :]
            for request in over:
                request.close()
            if not keeps_open:
                self.close_when_flushed = True
            else:
                # The next answer gets a buffer of its own: one that never rests would never be let go.
                if self.current_outbuf_count > 0:
                    self.current_outbuf_count = self.adj.outbuf_high_watermark
                if self.requests:
                    self.server.add_task(self)
                elif self._expects_to_go_on():
                    self.send_continue()
        self.last_activity = time()
        if self.connected and (self.total_outbufs_len or not is_read):
            self.changed()

    def _expects_to_go_on(self) -> bool:
        """Whether a client that has sent a head waits to be told to send the body."""
        request = self.request
        return bool(
            self.connected
            and request is not None
            and request.expect_continue
            and request.headers_finished
            and not self.sent_continue
        )

    def end_answer(self) -> None:
        """The end of an answer that was detached; its connection ends with it."""
        self._end(keeps_open=False)

    def changed(self) -> None:
        """Have the server's loop ask what the connection waits for, after something that is not of its own doing."""
        if (descriptor := self._fileno) is not None:
            self.server.map.changed(descriptor)
            self.server.pull_trigger()

    def handle_close(self) -> None:
        if self._lingers_until is not None and self.connected and monotonic() < self._lingers_until:
            if self.will_close and not self.total_outbufs_len:
                # The answer is out; say that nothing more comes, and let the client finish its sentence.
                self.will_close = self.close_when_flushed = False
                try:
                    self.socket.shutdown(socket.SHUT_WR)
                    return
                except OSError:
                    pass
        super().handle_close()
        if self.request is not None:  # it is not whole; its file would be closed some time later
            self.request.close()
        self._call_on_drained()
        if self.requests and not self.detached:
            request, task = self.requests[0], self._task
            give_up = task.give_up if task is not None and task.request is request else None
            self.server.task_dispatcher.client_left(request, give_up)

    def close_now(self) -> None:
        """Close the connection and the files of what waits for it, on the thread of the server's loop."""
        self._lingers_until = None
        self.handle_close()

    @property
    def has_lingered(self) -> bool:
        return self._lingers_until is not None and monotonic() >= self._lingers_until


def _has_whole_body(request: Any) -> bool:
    return request.body_rcv is None or bool(request.body_rcv.completed)
