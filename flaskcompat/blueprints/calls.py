"""What is known of each call, for those who want to know: the audit, the metrics. Never what was said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol

from flask import Flask, Response, current_app, has_request_context, request

from flaskcompat.blueprints.servers import Environ, queued_since
from flaskcompat.errors import LOG_LIMIT, APIError, shorten
from flaskcompat.log import log, request_id
from flaskcompat.protocol.machine import StreamMachine

#: The error of a call whose client did not wait for the end.
CLIENT_LEFT = "client_left"

_CALL = "flaskcompat.call"
_OBSERVERS = "flaskcompat.observers"


@dataclass(eq=False)
class Call:
    """What is known of one call by now; times are those of ``time.monotonic()``.

    :param begun: when it came, where the server tells: before it waited for a thread.
    :param queued: seconds that it waited for a thread and for a place.
    :param first: when the first of a streamed answer was there.
    :param principal: the name of whom it comes from.
    :param background: whether it is a response made in the background, rather than a request.
    """

    observers: Sequence[Observer] = ()
    begun: float = field(default_factory=monotonic)
    queued: float = 0.0
    first: float | None = None
    request_id: str = field(default_factory=request_id.get)
    method: str = ""
    path: str = ""
    status: int = 0
    principal: str | None = None
    model: str | None = None
    surface: str | None = None
    stream: bool = False
    background: bool = False
    machine: StreamMachine | None = None
    error: str | None = None
    is_over: bool = False

    def over(self) -> None:
        """Tell the observers, once, that it is over."""
        if self.is_over:
            return
        self.is_over = True
        self._tell(lambda observer: observer.call_over(self))

    def over_with(self, error: str | None) -> None:
        """The same for one that failed with *error*."""
        self.error = error
        self.over()

    def stream_opened(self) -> Callable[[], None]:
        """Tell them that a stream is open; gives what tells them that it is not any more."""
        self._tell(lambda observer: observer.stream_opened(self))
        return lambda: self._tell(lambda observer: observer.stream_closed(self))

    def _tell(self, what: Callable[[Observer], None]) -> None:
        for observer in self.observers:
            try:
                what(observer)
            except Exception as error:  # a call must not fail because somebody watches
                log.opt(exception=error).error("a call was not recorded by {}", type(observer).__name__)


class Observer(Protocol):
    """Somebody who wants to know of calls; is asked on any thread."""

    def call_over(self, call: Call) -> None: ...
    def stream_opened(self, call: Call) -> None: ...
    def stream_closed(self, call: Call) -> None: ...


def observers_of(app: Flask) -> list[Observer]:
    """Those who want to know of the calls of *app*; to be added to."""
    found: list[Observer] = app.extensions.setdefault(_OBSERVERS, [])
    return found


def begin(environ: Environ) -> None:
    """Begin the record of the request of that *environ*, if somebody wants to know."""
    observers = observers_of(current_app)
    if observers and _CALL not in environ:
        now = monotonic()
        begun = queued_since(environ) or now
        environ[_CALL] = Call(observers, begun, now - begun)


def current(environ: Environ | None = None) -> Call | None:
    """The record of the request of that *environ*, of the current one by default; None where nobody wants to know."""
    if environ is None:
        environ = request.environ if has_request_context() else {}
    return environ.get(_CALL)


def note(call: Call | None = None, **known: Any) -> None:
    """Add what is *known* to *call*, that of the current request by default."""
    call = call or current()
    if call is not None:
        for name, value in known.items():
            setattr(call, name, value)


def record_calls(app: Flask) -> None:
    """Have each call of *app* recorded when its response is over.

    After all hooks: one of the host's may return another response. The signal ``request_finished`` would need blinker,
    which Flask 2.2 does without.
    """
    # Flask calls the first one last.
    app.after_request_funcs.setdefault(None, []).insert(0, _finish)


def _finish(response: Response) -> Response:
    call = current()
    if call is not None:
        _name(call, request.method, request.path, response.status_code)
        response.call_on_close(call.over)
    return response


def refused(observers: Sequence[Observer], method: str, path: str, error: APIError, begun: float) -> None:
    """Record a request that was answered with *error* before the application saw it; it came when it *begun*."""
    call = Call(observers, begun, monotonic() - begun, error=error.code or error.type)
    _name(call, method, path, error.status)
    call.over()


def left(observers: Sequence[Observer], method: str, path: str, begun: float) -> None:
    """Record a request whose client has left before the application saw it."""
    call = Call(observers, begun, monotonic() - begun, error=CLIENT_LEFT)
    _name(call, method, path, 499)
    call.over()


def _name(call: Call, method: str, path: str, status: int) -> None:
    call.method, call.path, call.status = shorten(method), shorten(path, LOG_LIMIT), status
