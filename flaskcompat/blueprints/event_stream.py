"""A streamed response and its body."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from time import monotonic
from typing import Any

from flask import Response, current_app

from flaskcompat.blueprints import calls
from flaskcompat.blueprints.failures import failure
from flaskcompat.errors import APIError, PipelineError
from flaskcompat.log import log, logged_as, request_id
from flaskcompat.protocol import sse
from flaskcompat.protocol.machine import StreamEvent, StreamMachine
from flaskcompat.runtime.invoke import Run
from flaskcompat.stores.saving import Keep

# What is written at once where a write waits for the client, in bytes: each such part that it reads is progress.
_PART = 64 * 1024
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # nginx would hold the stream back


class EventStream:
    """The events of one run, as pieces to write: waited for one after the other, or asked for when there are some.

    A class rather than a generator: ``close()`` of a generator that was never started would run nothing, and the
    run would go on. Nor has it a finalizer: that may run at any moment on any thread, also inside of a lock that
    closing needs. Whoever watches over the run sees to it when a stream is dropped unclosed.

    :param on_close: called once, when the response is over.
    :param keep: how the answer is kept, before its last event is given.
    """

    def __init__(
        self, machine: StreamMachine, run: Run, on_close: Callable[[], None], keep: Keep | None = None
    ) -> None:
        self._machine = machine
        self._run = run
        self._on_close: Callable[[], None] | None = on_close
        self._request_id = request_id.get()
        self._tracebacks = bool(current_app.config["FLASKCOMPAT_TRACEBACKS"])
        self._call = calls.current()
        self._first: bytes | None = None
        self._rest = memoryview(b"")
        self._begun = False
        self._over = False
        self._keep = keep
        # The events that end the stream, while the answer is being kept, and whether it is a good end.
        self._ending: tuple[list[StreamEvent], bool] | None = None
        self._kept: Future[None] | None = None
        #: Makes the response a refusal, as long as nothing of it was sent; gives the body of that.
        self.refuse: Callable[[APIError], bytes] | None = None

    def begin(self) -> None:
        """Wait for the first step of the run, until the first keep-alive comment is due at the most.

        The first events are made with it, so that they go out together. Without this, a first step that fails
        turns the response into a refusal by :attr:`refuse`.

        :raises APIError: if that step failed: no header has been sent yet.
        """
        try:
            self._first = self._opening(self._run.take())
        except BaseException as error:
            self.close()
            raise failure(error, self._run.label) from None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        while not self._rest:
            self._rest = memoryview(self._piece(self._run.take))
            if not self._rest and self._over:
                raise StopIteration
        self._run.writes()
        piece, self._rest = bytes(self._rest[:_PART]), self._rest[_PART:]
        return piece

    def poll(self) -> bytes:
        """What there is to write at this moment; nothing where that would have to be waited for, or it is over."""
        return self._piece(self._run.take_ready)

    def listen(self, listener: Callable[[], None]) -> None:
        """Have *listener* called, on any thread and perhaps more than once, when :meth:`poll` may have something."""
        if self._kept is not None:
            self._kept.add_done_callback(lambda _: listener())
        else:
            self._run.listen(listener)

    @property
    def over(self) -> bool:
        """Whether nothing more comes."""
        return self._over and self._first is None

    def close(self) -> None:
        """End the run; called by the server when the response is over, however that came."""
        if not self._over:
            calls.note(self._call, error=calls.CLIENT_LEFT)
        self._over = True
        self._release()

    def _release(self) -> None:
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            self._run.close()
            on_close()

    def _piece(self, take: Callable[[], list[Any] | None]) -> bytes:
        """The next events, in one piece; empty if there are none."""
        first, self._first = self._first, None
        if first is not None:
            return first
        if self._over:
            return b""
        frames: list[str] = []
        if self._kept is not None:
            if take == self._run.take:
                wait([self._kept])
            return "".join(self._last_frames()).encode("ascii")
        try:
            batch = take()
            if batch is None:
                return b""
            if not self._begun:
                return self._opening(batch)
            if self._run.left:
                self.close()
            elif not batch and not self._run.ended:
                return sse.KEEP_ALIVE.encode("ascii")
            frames += self._frames(batch)
            frames += self._end()
        except BaseException as error:
            if not self._begun and self.refuse is not None:
                return self._refused(self.refuse, self._told(error))
            if not self._begun:
                frames += map(self._machine.encode, self._machine.start())
            # What was made before the failure is not lost.
            frames += self._failed(error)
        return "".join(frames).encode("ascii")

    def _refused(self, refuse: Callable[[APIError], bytes], told: APIError) -> bytes:
        calls.note(self._call, status=told.status)
        self._over = True
        try:
            return refuse(told)
        except Exception as error:  # a header of the wrapper's that is not for an application to set
            with logged_as(self._request_id):
                log.opt(exception=error).error("an error could not be told as it is")
                return refuse(PipelineError().for_request(self._request_id))

    def _opening(self, batch: list[Any]) -> bytes:
        """The first piece.

        :raises BaseException: if the run failed at its first step.
        """
        if self._run.left:
            self.close()
            return b""
        if not batch and self._run.error is not None:
            raise self._run.error
        frames = [*map(self._machine.encode, self._machine.start())]
        frames += self._frames(batch) if batch or self._run.ended else [sse.KEEP_ALIVE]
        piece = "".join([*frames, *self._end()]).encode("ascii")
        self._begun = True
        return piece

    def _frames(self, batch: list[Any]) -> list[str]:
        """The frames of all items that were there, for one write."""
        machine = self._machine
        frames: list[str] = []
        add, text_frame = frames.append, machine.text_frame
        try:
            for item in batch:
                if type(item) is not str:
                    frames.extend(map(machine.encode, machine.take(item)))
                elif item:
                    add(text_frame(item))
            if frames and self._call is not None and self._call.first is None:
                self._call.first = monotonic()
            machine.check_size()
        except BaseException as error:
            if not frames:
                raise
            # What came before the failure has been made into frames, and is not lost.
            frames += self._failed(error)
        return frames

    def _end(self) -> list[str]:
        """The frames that end the stream, once the run has ended."""
        if self._over or self._ending is not None or not self._run.ended:
            return []
        if self._run.error is not None:
            return self._failed(self._run.error)
        return self._end_with(self._machine.end(), True, self._keep)

    def _failed(self, error: BaseException) -> list[str]:
        told = self._told(error)
        keep = self._keep if self._keep is not None and self._keep.failures else None
        return self._end_with(self._machine.fail(told), False, keep)

    def _end_with(self, events: list[StreamEvent], good: bool, keep: Keep | None) -> list[str]:
        """The frames of what ends the stream; none as long as the answer is not kept."""
        self._ending = events, good
        if keep is not None:
            with logged_as(self._request_id):
                self._kept = keep.begin(self._machine.streamed_result())
        return self._last_frames()

    def _last_frames(self) -> list[str]:
        assert self._ending is not None
        if self._kept is not None and not self._kept.done():
            return []
        events, good = self._ending
        error = self._kept.exception() if self._kept is not None else None
        self._kept = None
        if error is not None and good:  # it would seem whole, and could not be had again
            events, good = self._machine.fail_instead(events, self._told(error)), False
        self._over = True
        self._release()
        return [*map(self._machine.encode, events), self._machine.good_tail if good else self._machine.failed_tail]

    def _told(self, error: BaseException) -> APIError:
        """What the client is told of *error*; its run is over."""
        with logged_as(self._request_id):
            told = failure(error, self._run.label, tracebacks=self._tracebacks)
        calls.note(self._call, error=told.code or told.type)
        self._release()
        return told


class StreamResponse(Response):
    """A response whose body is an event stream."""

    def __init__(self, stream: EventStream) -> None:
        super().__init__(stream, content_type="text/event-stream; charset=utf-8", headers=_HEADERS)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        stream = self.response
        if not isinstance(stream, EventStream):  # a host's hook has put another one in its place
            return super().__call__(environ, start_response)
        _, status, headers = self.get_wsgi_response(environ)
        start_response(status, headers)

        def refuse(error: APIError) -> bytes:
            body = sse.dumps(error.body()).encode()
            own = {"Content-Type": "application/json", "Content-Length": str(len(body)), **error.headers}
            replaced = {name.lower() for name in (*own, *_HEADERS)}
            kept = [(name, value) for name, value in headers if name.lower() not in replaced]
            start_response(
                f"{error.status} {error.reason.upper()}",
                [*kept, *own.items()],
                (type(error), error, None),
            )
            return body

        stream.refuse = refuse
        return Body(stream, self.close)


class Body:
    """An event stream as its response hands it to the server, if nothing has been put in between.

    :param close: ends the stream and calls what waits for the response's end.
    """

    __slots__ = ("close", "stream")

    def __init__(self, stream: EventStream, close: Callable[[], None]) -> None:
        self.stream = stream
        self.close = close

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.stream)
