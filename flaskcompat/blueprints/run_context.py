"""Flask's contexts around a run's code.

Flask tears a request's contexts down when its view returns, and so it should: a stream goes on for long, and would hold
what the application opened for the request. A run therefore gets contexts of its own, with the same request and
session, and a ``g`` that begins with what the application's hooks put on theirs. They are torn down where the run's
code ran, so that whatever that code opened is closed there.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from copy import copy
from types import TracebackType
from typing import TYPE_CHECKING, Any

from flask import Flask, current_app, g, has_app_context, has_request_context
from flask.sessions import NullSession
from werkzeug.local import LocalProxy

from flaskcompat.blueprints.host_database import LentSession, in_current_session, is_row
from flaskcompat.blueprints.requests import HAS_ONE_CONTEXT, own_context
from flaskcompat.log import log

if TYPE_CHECKING:
    from flask.ctx import AppContext, RequestContext


class RunContexts:
    """Makes contexts for the parts of a run. Leave it, as a context manager, when the request goes on.

    :param request_waits: whether the current request waits for the run. Its session is then saved after the run, and
        the run has the request's database session. Otherwise the headers do not wait for what the run writes to the
        session: it is lost, with a warning in the log.
    """

    def __init__(self, *, request_waits: bool) -> None:
        self._request_waits = request_waits
        self._lent: LentSession | None = None
        self._lends = request_waits  # to the first part alone: later ones begin before that one has ended

    def __enter__(self) -> RunContexts:
        return self

    def __exit__(self, *error: object) -> None:
        if self._lent is not None:
            self._lent.end()

    def make(self, beside: bool) -> AbstractContextManager[None]:
        """Contexts for a part that the current code begins.

        :param beside: whether that part runs beside the code that begins it.
        """
        if not has_app_context():
            return nullcontext()
        app = current_app._get_current_object()  # type: ignore[attr-defined]
        context = None
        if has_request_context():
            context = _copy_for_response() if self._request_waits else _with_copied_session(own_context())
        lent = None
        if self._lends and not beside:
            self._lends = False
            lent = self._lent = LentSession.of_current_context()
        return FlaskRunContext(app, context, _values_of_g(), lent, warns_of_session=not self._request_waits)


class FlaskRunContext:
    """An application context, and a request context where there is a request, for one part of a run.

    :param request_context: one that has not been pushed.
    :param values: what ``g`` holds at the beginning.
    :param lent: the database session of the request.
    :param warns_of_session: warn if the session has been changed.
    """

    def __init__(
        self,
        app: Flask,
        request_context: RequestContext | None,
        values: dict[str, Any],
        lent: LentSession | None,
        *,
        warns_of_session: bool,
    ) -> None:
        self._app = app
        self._request_context = request_context
        self._values = values
        self._lent = lent
        self._warns_of_session = warns_of_session
        self._pushed: list[AppContext | RequestContext] = []

    def __enter__(self) -> None:
        try:
            if self._request_context is None or not HAS_ONE_CONTEXT:
                self._push(self._app.app_context())
            if self._request_context is not None:
                self._push(self._request_context)
            if self._lent is not None:
                self._lent.use()
            for name, value in self._values.items():
                set_on_g(name, value)
        except BaseException as error:
            self._leave(error)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        context = self._request_context
        if self._warns_of_session and context is not None and context.session.modified:
            log.warning("the session was changed after the headers had been sent: the change is lost")
        self._leave(error)

    def _push(self, context: AppContext | RequestContext) -> None:
        # The request has been matched: to do it again would call the application's URL converters again.
        adapter, context.url_adapter = context.url_adapter, None
        try:
            context.push()
            self._pushed.append(context)
        finally:
            context.url_adapter = adapter

    def _leave(self, error: BaseException | None) -> None:
        if self._lent is not None:
            self._lent.release()
        while self._pushed:
            try:
                self._pushed.pop().pop(error)
            except BaseException as failure:  # the run is over, and the other context has to be left, too
                log.opt(exception=failure).error("a teardown function of the application failed after a run")


# -- g -------------------------------------------------------------------------------------------------------


def _values_of_g() -> dict[str, Any]:
    """What a run finds on its own ``g``.

    Everything on the current one, except values that have a ``close`` method and objects that an extension keeps
    under a private name: those belong to the current context, and the run makes its own when it asks for them.
    """
    return {name: value for name in g if _crosses(name, value := g.get(name))}


def _crosses(name: str, value: Any) -> bool:
    if isinstance(value, LocalProxy):  # finds what it stands for in the context where it is used
        return True
    try:
        if callable(getattr(value, "close", None)):
            return False
    except Exception:  # an object that cannot be asked
        return False
    return not name.startswith("_") or type(value).__module__ == "builtins" or is_row(value)


def set_on_g(name: str, value: Any) -> None:
    """Put *value*, which comes from another context, on the current ``g``."""
    if is_row(value):
        try:
            value = in_current_session(value)
        except LookupError:
            if name.startswith("_"):  # an extension's: it loads the row again
                return
    setattr(g, name, value)


# -- the session ---------------------------------------------------------------------------------------------


def _copy_for_response() -> RequestContext:
    """A copy of the current request context, whose session and ``after_this_request`` reach the response."""
    context = own_context()
    copied = context.copy()
    copied._after_request_functions = context._after_request_functions
    return copied


def _with_copied_session(context: RequestContext) -> RequestContext:
    """A request context as *context*, whose session is a copy that nobody saves."""
    original = context.session
    if isinstance(original, NullSession):
        return context.copy()
    copied = copy(original)
    copied.modified = False
    environ: dict[str, Any] = {} if HAS_ONE_CONTEXT else {"environ": context.request.environ}
    return type(context)(context.app, request=context.request, session=copied, **environ)
