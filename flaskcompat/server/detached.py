"""Streams without threads: whoever brings a stream's next event writes it.

A thread of the server's begins each request. Where the answer is an event stream that has nothing to say yet, the
thread leaves it: the stream listens to its run from then on. What comes on an event loop is written by that loop, at
the end of its turn; what comes from a thread is written by that thread or, if more comes at once, by one thread that
all streams share, in larger pieces. Nobody waits for a client that does not read: a stream whose buffer is full stops
taking from its run until the connection's buffer has been drained.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any

from waitress.channel import ClientDisconnected
from waitress.task import WSGITask

from flaskcompat.blueprints.event_stream import Body, EventStream
from flaskcompat.blueprints.servers import DETACHES
from flaskcompat.log import log
from flaskcompat.runtime.bridge import bridge

if TYPE_CHECKING:
    from flaskcompat.server.channel import Channel

#: Seconds in which a second event of a stream is left to the shared thread, with all that come until it gets there.
JOIN = 0.001
# More than what writing an event needs of the stack.
_FRAMES = 200
# What is joined in memory to be written at once, in bytes.
_MOST_JOINED = 64 * 1024


class Detached(BaseException):
    """Takes an answer off the thread that began it; no error."""


class Task(WSGITask):  # type: ignore[misc]
    """One request's answer, which is left by its thread once that would have to wait for a stream."""

    channel: Channel
    wrote_header: bool
    chunked_response: bool
    content_bytes_written: int

    def __init__(self, channel: Channel, request: Any) -> None:
        super().__init__(channel, request)
        self.body: Body | None = None
        #: What the answer's maker wants to be called when its client has left and its thread is given up.
        self.give_up: Callable[[], None] | None = None
        self._head = deque([True])  # popped by whoever answers: popping is atomic

    def take_head(self) -> bool:
        """Whether the caller is the one who answers: there may be somebody who does it from outside."""
        try:
            self._head.pop()
        except IndexError:
            return False
        return True

    def get_environment(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environment()
        environ[DETACHES] = self
        return environ

    def ready_part(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """What of *body* is there without waiting, if it is a stream as our own views give it; else all of it."""
        if type(body) is not Body:  # something of the host's stands between
            return body
        self.body = body
        return self._ready(body.stream)

    def _ready(self, stream: EventStream) -> Iterator[bytes]:
        # Nor is a client waited for that does not read.
        while not self.channel.is_full and (piece := stream.poll()):
            yield piece

    def write(self, data: bytes) -> None:
        """As waitress does it, but head and body, or a chunk and its frame, in one piece.

        :raises ClientDisconnected: if the request has been answered from outside.
        """
        first = not self.wrote_header
        if first and self.complete:
            if not self.take_head():
                raise ClientDisconnected
            if self.channel.detached or self.channel.server.is_leaving:  # its connection ends with it
                self.set_close_on_finish()
        if not self.complete or not data or len(data) > _MOST_JOINED or not (first or self.chunked_response):
            super().write(data)
            return
        head = b""
        if first:
            head = self.build_response_header()
            self.wrote_header = True
        if not self.has_body or (not self.chunked_response and self.content_length != len(data)):
            self.channel.write_soon(head)
            super().write(data)
        elif self.chunked_response:
            self.channel.write_soon(b"%b%X\r\n%b\r\n" % (head, len(data), data))
        else:
            self.content_bytes_written += len(data)
            self.channel.write_soon(head + data)

    def write_last(self, data: bytes) -> None:
        """Write what ends the answer, in one piece where that is possible."""
        if data and self.wrote_header and self.chunked_response and len(data) <= _MOST_JOINED:
            self.channel.write_soon(b"%X\r\n%b\r\n0\r\n\r\n" % (len(data), data))
        else:
            if data:
                self.write(data)
            super().finish()

    def service(self) -> None:
        try:
            try:
                super().service()
            except Detached:
                raise
            except BaseException:
                self._close()
                raise
            self._close()
        except (Detached, Exception):
            raise
        except BaseException as error:
            # waitress would let it pass, and leave the client waiting for ever. Nor is it to look at it.
            log.opt(exception=error).error("the application raised {}", type(error).__name__)
            raise RuntimeError("the application ended its thread") from None

    def finish(self) -> None:
        """:raises Detached: if the stream is not over."""
        if self.body is not None and not self.body.stream.over:
            raise Detached
        if self.chunked_response:  # its connection ends with it, and nothing is to be waited for
            self.channel.waits_for_client = False
        super().finish()

    def _close(self) -> None:
        if self.body is not None:
            self.body.close()


class Application:
    """The application as waitress calls it."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.requests = 0  # about as many: threads that count at once may miss one

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self.requests += 1
        task: Task = environ[DETACHES]
        return task.ready_part(self._app(environ, start_response))


class Writers:
    """The thread that all detached streams share."""

    def __init__(self) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._ended = False

    def add(self, write: Callable[[], None]) -> None:
        """Have *write* called, which must neither raise nor wait; once the thread has ended, by the caller."""
        self._work.put(write)
        if self._ended:
            self._do_what_is_left()

    def start(self) -> None:
        threading.Thread(target=self._run, name="flaskcompat-writer", daemon=True).start()

    def stop(self) -> None:
        self._work.put(None)

    def _run(self) -> None:
        while (write := self._work.get()) is not None:
            self._do(write)
        self._ended = True
        self._do_what_is_left()

    def _do_what_is_left(self) -> None:
        """A stream that nobody closes would keep its wrapper waiting."""
        while True:
            try:
                write = self._work.get_nowait()
            except Empty:
                return
            if write is not None:
                self._do(write)

    def _do(self, write: Callable[[], None]) -> None:
        try:
            write()
        except BaseException as error:  # one that fails must not end the writing of the others
            log.opt(exception=error).error("a stream could not be written")


def _has_room_below() -> bool:
    """Whether the caller's stack leaves room to write: a user's code may be deep in a recursion of its own."""
    try:
        sys._getframe(sys.getrecursionlimit() - _FRAMES)
    except ValueError:  # it is not that deep
        return True
    return False


class DetachedStream:
    """A stream that is written by whoever brings its events.

    One at a time: whoever takes the only entry out of ``_armed`` writes, until nothing is there, and puts it back.
    Writing never waits for the client, whoever does it.
    """

    def __init__(self, channel: Channel, task: Task) -> None:
        assert task.body is not None
        self._channel = channel
        self._task = task
        self._stream = task.body.stream
        self._armed: deque[bool] = deque()
        self._wrote = 0.0

    def listen(self) -> None:
        """Wait for the next event, without a thread."""
        self._armed.append(True)
        self._stream.listen(self._roused)

    def resume(self) -> None:
        """The connection can take more, or is closed; called once for each time that it was asked for."""
        self._channel.server.writers.add(self._write)

    def _roused(self) -> None:
        if bridge.on_loop_thread:  # no other loop: a user's own may end, or wait for this, before its next turn
            # Once the task that brought it waits: with all that it brings until then.
            asyncio.get_running_loop().call_soon(self._take_turn)
        elif monotonic() - self._wrote >= JOIN and _has_room_below():
            self._take_turn()
        else:
            self._channel.server.writers.add(self._take_turn)

    def _take_turn(self) -> None:
        try:
            self._armed.pop()
        except IndexError:  # another was faster
            return
        self._write()

    def _write(self) -> None:
        channel, stream = self._channel, self._stream
        try:
            while channel.connected and not stream.over:
                if channel.is_full and channel.resume_when_drained(self.resume):
                    return
                piece = stream.poll()
                if stream.over:
                    self._task.write_last(piece)
                elif piece:
                    self._task.write(piece)
                else:
                    self._wrote = monotonic()
                    self.listen()
                    return
        except (ClientDisconnected, OSError):
            log.debug("a client left while it was written to")
        except BaseException as error:  # never on to whoever brought the event
            log.opt(exception=error).error("a stream could not be written")
        stream.close()
        self._channel.server.task_dispatcher.answer_over(self._task.request)
        # What a host has to do at its end may take its time.
        channel.server.task_dispatcher.add_short(self)

    # -- as a task of a lane ---------------------------------------------------------------------------------

    def service(self) -> None:
        """End the answer."""
        try:
            if self._task.body is not None:
                self._task.body.close()
        finally:
            self._channel.end_answer()

    def cancel(self) -> None:
        """The server has ended."""
