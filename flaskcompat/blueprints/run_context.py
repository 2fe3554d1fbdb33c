"""Flask's contexts around a run's code.

Flask tears a request's contexts down when its view returns, and so it should: a stream goes on for long, and would hold
what the application opened for the request. A run therefore gets contexts of its own, with the same request and
session, and a ``g`` that begins with what the application's hooks put on theirs. They are torn down where the run's
code ran, so that whatever that code opened is closed there.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from copy import copy
from types import TracebackType
from typing import TYPE_CHECKING, Any

from flask import Flask, current_app, g, has_app_context, has_request_context
from flask.sessions import NullSession, SessionMixin
from werkzeug.local import LocalProxy

from flaskcompat.blueprints.host_database import LentSession, in_current_session, is_row
from flaskcompat.blueprints.requests import HAS_ONE_CONTEXT, own_context
from flaskcompat.log import log
from flaskcompat.runtime.run_context import Start

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

    def __enter__(self) -> RunContexts:
        return self

    def __exit__(self, *error: object) -> None:
        if self._lent is not None:
            self._lent.end()

    def make(self, start: Start) -> AbstractContextManager[None]:
        """Contexts for a part that the current code begins."""
        if not has_app_context():
            return nullcontext()
        part = FlaskRunContext(self._request_waits, start)
        if start != "beside":
            part.borrow(self._lend(start))
        return part

    def _lend(self, start: Start) -> LentSession | None:
        if (lender := _part.get()) is not None:
            return lender.lend(start)
        if not self._request_waits or self._lent is not None:
            return None
        self._lent = LentSession.of_current_context(new=False)
        return self._lent and self._lent.promise()


class FlaskRunContext:
    """An application context, and a request context where there is a request, for one part of a run.

    Made in the context of the code that begins the part, from which it takes the request and the values on ``g``.
    """

    def __init__(self, request_waits: bool, start: Start) -> None:
        self._app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        self._start = start
        self._starter_g: Any = g._get_current_object()
        self._values = _values_of(self._starter_g)
        self._request_context: RequestContext | None = None
        # The answer's headers do not wait for this part: what it writes to the session is lost.
        self._lost_session: SessionMixin | None = None
        if has_request_context():
            context = own_context()
            self._lost_session = None if request_waits else _copied_session(context)
            self._request_context = _copied_context(context, self._lost_session)
        self._has_been_left = False
        self._borrowed: LentSession | None = None
        self._own: LentSession | None = None
        self._pushed: list[AppContext | RequestContext] = []

    def borrow(self, session: LentSession | None) -> None:
        """Use that database session in place of one of its own."""
        self._borrowed = session

    def lend(self, start: Start) -> LentSession | None:
        """The database session of this part, which is the current one, for a part that it begins."""
        if self._has_been_left:  # by code that goes on in a task of its own
            return None
        session = self._borrowed or self._own
        if session is None:
            session = self._own = LentSession.of_current_context(new=True)
        if session is None or (start == "call" and not session.begin_call()):
            return None
        return session.promise()

    def __enter__(self) -> None:
        try:
            if self._request_context is None or not HAS_ONE_CONTEXT:
                self._push(self._app.app_context())
            if self._request_context is not None:
                self._push(self._request_context)
            if self._borrowed is not None:
                self._borrowed.use()
            for name, value in self._values.items():
                set_on_g(name, value)
            _part.set(self)
        except BaseException as error:
            self._leave(error)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if getattr(self._lost_session, "modified", False):
                log.warning("the session was changed after the headers had been sent: the change is lost")
            if self._start != "after":
                self._return_values()
        finally:
            self._leave(error)

    def _return_values(self) -> None:
        """Let the code that began this part find on ``g`` what the part has put there."""
        for name, value in _values_of(g._get_current_object()).items():
            if not is_row(value) and self._values.get(name) is not value:
                setattr(self._starter_g, name, value)

    def _push(self, context: AppContext | RequestContext) -> None:
        # The request has been matched: to do it again would call the application's URL converters again.
        adapter, context.url_adapter = context.url_adapter, None
        try:
            context.push()
            self._pushed.append(context)
        finally:
            context.url_adapter = adapter

    def _leave(self, error: BaseException | None) -> None:
        self._has_been_left = True
        if self._own is not None:
            self._own.end()
        if self._borrowed is not None:
            self._borrowed.release()
            if self._start == "call":
                self._borrowed.end_call()
        while self._pushed:
            try:
                self._pushed.pop().pop(error)
            except BaseException as failure:  # the run is over, and the other context has to be left, too
                log.opt(exception=failure).error("a teardown function of the application failed after a run")


_part: ContextVar[FlaskRunContext | None] = ContextVar("flaskcompat_part", default=None)


# -- g -------------------------------------------------------------------------------------------------------


def _values_of(values: Any) -> dict[str, Any]:
    """What a run finds on its own ``g``, from that of the code that begins it.

    Everything, except values that have a ``close`` method and objects that an extension keeps under a private name:
    those belong to their context, and the run makes its own when it asks for them.
    """
    return {name: value for name, value in list(vars(values).items()) if _crosses(name, value)}


def _crosses(name: str, value: Any) -> bool:
    if isinstance(value, LocalProxy) or is_row(value):  # these are made to fit the context where they are used
        return True
    try:
        if callable(getattr(value, "close", None)):
            return False
    except Exception:  # an object that cannot be asked
        return False
    return not name.startswith("_") or type(value).__module__ == "builtins"


def set_on_g(name: str, value: Any) -> None:
    """Put *value*, which comes from another context, on the current ``g``."""
    try:
        value = _fitted(value)
    except LookupError:
        if is_row(value) and name.startswith("_"):  # an extension's: it loads the row again
            return
    setattr(g, name, value)


def _fitted(value: Any) -> Any:
    """*value* with rows of the current session in place of those of another one."""
    if is_row(value):
        return in_current_session(value)
    if type(value) is dict and any(map(is_row, value.values())):
        return {key: in_current_session(item) if is_row(item) else item for key, item in value.items()}
    if type(value) in (list, tuple) and any(map(is_row, value)):
        return type(value)(in_current_session(item) if is_row(item) else item for item in value)
    return value


# -- the session ---------------------------------------------------------------------------------------------


def _copied_context(context: RequestContext, session: SessionMixin | None) -> RequestContext:
    """A copy of *context* that has not been pushed.

    :param session: its session; if None, the same as that of *context*, and what ``after_this_request`` is given in the
        copy is called for the response.
    """
    if session is None:
        made = context.copy()
        made._after_request_functions = context._after_request_functions
    else:
        environ: dict[str, Any] = {} if HAS_ONE_CONTEXT else {"environ": context.request.environ}
        made = type(context)(context.app, request=context.request, session=session, **environ)
    # What the application or an extension has put on the context itself.
    for name, value in vars(context).items():
        if name not in vars(made) and _crosses(name, value):
            setattr(made, name, value)
    return made


def _copied_session(context: RequestContext) -> SessionMixin | None:
    """A copy of the session that is not saved; None if the session is a null session or cannot be copied."""
    # Asked for by its public name, Flask marks it as accessed, and the response varies with the cookie.
    original: SessionMixin | None = getattr(context, "_session", None)
    try:
        copied = copy(context.session if original is None else original)
        if isinstance(copied, NullSession):
            return None
        copied.modified = False
        return copied
    except Exception:
        return None
