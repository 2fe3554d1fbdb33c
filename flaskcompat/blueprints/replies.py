"""From a run to the response: a stream of events, or one whole answer, out of the same machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

from flask import Response, current_app, request
from werkzeug.exceptions import HTTPException

from flaskcompat.blueprints.requests import client_probe
from flaskcompat.errors import APIError, InvalidRequest, MethodNotAllowed, NotFound, PipelineError, RequestTooLarge
from flaskcompat.log import log, request_id
from flaskcompat.protocol import sse
from flaskcompat.protocol.deltas import deltas, plain_text
from flaskcompat.protocol.machine import Machine
from flaskcompat.runtime.invoke import Ready, Run, invoke
from flaskcompat.runtime.registry import Model
from flaskcompat.runtime.wrapper import Headers, Surface

#: How often a waiting thread looks whether its client has left, in seconds.
PROBE_INTERVAL = 0.5

_STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # nginx would hold the stream back


def reply(
    machine: Machine, model: Model, surface: Surface, payload: list[dict[str, Any]], body: dict[str, Any]
) -> Response:
    """Answer the current request with what *model* gives for *payload* on *surface*.

    :raises APIError: if the run fails before anything of it is known.
    """
    stream = body.get("stream", False)
    try:
        run = invoke(model, surface, payload, body, Headers(request.headers), stream=stream)
    except BaseException as error:
        raise failure(error, f"{model.name}.run_{surface}") from None
    client_left = client_probe(request.environ)
    if not stream:
        return _whole(machine, run, client_left)
    stream_body = EventStream(machine, run, client_left, current_app.config["FLASKCOMPAT_KEEP_ALIVE"])
    stream_body.begin()
    return Response(stream_body, content_type="text/event-stream; charset=utf-8", headers=_STREAM_HEADERS)


def json_reply(value: Any, status: int = 200) -> Response:
    """*value* as a JSON response."""
    return Response(sse.dumps(value), status, content_type="application/json")


def _whole(machine: Machine, run: Run | Ready, client_left: Callable[[], bool]) -> Response:
    try:
        while not run.ended:
            for item in run.take(PROBE_INTERVAL):
                for delta in deltas(item):
                    machine.feed(delta)
            if not run.ended and client_left():
                # Nobody reads this; the status is what servers log for a client that has closed.
                return Response(status=499)
        if run.error is not None:
            raise run.error
        machine.end()
        return json_reply(machine.result())
    except BaseException as error:
        raise failure(error, run.label) from None
    finally:
        run.close()


class EventStream:
    """The body of a streamed response.

    A class rather than a generator: ``close()`` of a generator that was never started would run nothing, and the
    run would go on.
    """

    def __init__(self, machine: Machine, run: Run | Ready, client_left: Callable[[], bool], keep_alive: float) -> None:
        self._machine = machine
        self._run = run
        self._client_left = client_left
        self._keep_alive = keep_alive
        self._request_id = request_id.get()
        self._tracebacks = bool(current_app.config["FLASKCOMPAT_TRACEBACKS"])
        self._first: bytes | None = None
        self._over = False

    def begin(self) -> None:
        """Wait for the first step of the run, until the first keep-alive comment is due at the most.

        :raises APIError: if that step failed: no header has been sent yet.
        """
        try:
            batch = self._next_batch()
            frames = [*map(self._machine.encode, self._machine.start())]
            if batch is None:
                frames.append(sse.KEEP_ALIVE)
            else:
                if not batch and self._run.error is not None:
                    raise self._run.error
                frames += self._frames(batch)
            self._first = "".join([*frames, *self._ending()]).encode("ascii")
        except BaseException as error:
            self.close()
            raise failure(error, self._run.label) from None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        if self._over:
            raise StopIteration
        frames: list[str] = []
        while not frames:
            try:
                batch = self._next_batch()
                if batch is None:
                    return sse.KEEP_ALIVE.encode("ascii")
                frames += self._frames(batch)
                frames += self._ending()
            except BaseException as error:
                # What was made before the failure is not lost.
                frames += self._failed(error)
            if self._over and not frames:
                raise StopIteration
        return "".join(frames).encode("ascii")

    def close(self) -> None:
        """End the run; called by the server when the response is over, however that came."""
        self._over = True
        self._run.close()

    def __del__(self) -> None:
        # A host's hook that raises or puts another response in place of this one leaves it to nobody to close.
        self.close()

    def _next_batch(self) -> list[Any] | None:
        """What comes next; None when a keep-alive comment is due. An empty batch ends the stream."""
        idle_since = monotonic()
        while True:
            due = idle_since + self._keep_alive - monotonic() if self._keep_alive > 0 else PROBE_INTERVAL
            batch = self._run.take(min(PROBE_INTERVAL, max(0.0, due)))
            if batch or self._run.ended:
                return batch
            if self._client_left():
                self.close()
                return []
            if self._keep_alive > 0 and monotonic() - idle_since >= self._keep_alive:
                return None

    def _frames(self, batch: list[Any]) -> list[str]:
        """The frames of all items that were there, for one write."""
        machine = self._machine
        frames: list[str] = []
        add, text_frame = frames.append, machine.text_frame
        try:
            for item in batch:
                text = plain_text(item)
                if text is None:
                    for delta in deltas(item):
                        frames.extend(map(machine.encode, machine.feed(delta)))
                elif text:
                    add(text_frame(text))
        except Exception as error:
            if not frames:
                raise
            # What came before the failure has been made into frames, and is not lost.
            frames += self._failed(error)
        return frames

    def _ending(self) -> list[str]:
        """The frames that end the stream, once the run has ended."""
        if self._over or not self._run.ended:
            return []
        if self._run.error is not None:
            return self._failed(self._run.error)
        self._over = True
        return [*map(self._machine.encode, self._machine.end()), self._machine.good_tail]

    def _failed(self, error: BaseException) -> list[str]:
        token = request_id.set(self._request_id)
        try:
            told = failure(error, self._run.label, tracebacks=self._tracebacks)
        finally:
            request_id.reset(token)
        self.close()
        return [*map(self._machine.encode, self._machine.fail(told)), self._machine.failed_tail]


def failure(error: BaseException, label: str, *, tracebacks: bool | None = None) -> APIError:
    """What the client is told of *error*; the error itself goes to the log alone.

    :param label: whose error it is, for the log.
    :param tracebacks: tell the client the error's type and text; by default as the setting says.
    """
    if isinstance(error, APIError):
        log.info("{} answered {} ({})", label, error.status, error.code)
        return error
    log.opt(exception=error).error("{} failed", label)
    if tracebacks is None:
        tracebacks = current_app.config["FLASKCOMPAT_TRACEBACKS"]
    return PipelineError(f"{type(error).__name__}: {error}" if tracebacks else None)


def error_response(error: Exception) -> Response | HTTPException:
    """Any error as a response in OpenAI's shape; error handler of the blueprint."""
    if isinstance(error, HTTPException):
        if error.response is not None or (error.code or 500) < 400:
            return error  # a host's own response, or a redirect
        error = from_http_exception(error)
    if not isinstance(error, APIError):
        log.opt(exception=error).error("unforeseen error in {} {}", request.method, request.path[:200])
        error = APIError()
    response = json_reply(error.body(), error.status)
    response.headers.update(error.headers)
    return response


_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES = {401: "invalid_api_key", 403: "permission_denied", 429: "rate_limit_exceeded"}


def from_http_exception(error: HTTPException) -> APIError:
    """Werkzeug's exception as one of ours; its own text is not repeated, a host may have put anything there."""
    status = error.code or 500
    match status:
        case 404:
            return NotFound()
        case 405:
            return MethodNotAllowed(getattr(error, "valid_methods", None) or ())
        case 413:
            return RequestTooLarge()
    if status >= 500:
        return APIError(status=status)
    headers = {"Retry-After": str(error.retry_after)} if getattr(error, "retry_after", None) else {}  # type: ignore[attr-defined]
    return InvalidRequest(
        f"The request was refused: {error.name}.",
        status=status,
        type=_TYPES.get(status),
        code=_CODES.get(status),
        headers=headers,
    )
