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

from flaskcompat.blueprints.requests import HAS_ONE_CONTEXT, own_context
from flaskcompat.log import log

if TYPE_CHECKING:
    from flask.ctx import AppContext, RequestContext


def make_run_context(*, saves_session: bool = False) -> AbstractContextManager[None]:
    """Contexts for a part of a run that the current code begins.

    :param saves_session: whether the request's session is saved after the run, as it is where the answer waits for it.
        Otherwise the headers are sent meanwhile, and a change of the session is a warning in the log.
    """
    if not has_app_context():
        return nullcontext()
    context = None
    if has_request_context():
        context = own_context().copy() if saves_session else _with_copied_session(own_context())
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    return FlaskRunContext(app, context, _values_of_g(), warns_of_session=not saves_session)


class FlaskRunContext:
    """An application context, and a request context where there is a request, for one part of a run.

    :param request_context: one that has not been pushed.
    :param values: what ``g`` holds at the beginning.
    :param warns_of_session: warn if the session has been changed.
    """

    def __init__(
        self, app: Flask, request_context: RequestContext | None, values: dict[str, Any], *, warns_of_session: bool
    ) -> None:
        self._app = app
        self._request_context = request_context
        self._values = values
        self._warns_of_session = warns_of_session
        self._pushed: list[AppContext | RequestContext] = []

    def __enter__(self) -> None:
        try:
            if self._request_context is None or not HAS_ONE_CONTEXT:
                self._push(self._app.app_context())
            if self._request_context is not None:
                self._push(self._request_context)
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


# -- rows of a database --------------------------------------------------------------------------------------


def is_row(value: object) -> bool:
    """Whether *value* is an object that SQLAlchemy has mapped to a row."""
    return hasattr(type(value), "_sa_class_manager")


def in_current_session(row: Any) -> Any:
    """*row*, from the session of another context, as one of the current context's session of Flask-SQLAlchemy.

    This asks the database nothing and takes no connection: what has been loaded of the row is copied, and the rest is
    loaded when it is used.

    :raises LookupError: if the row is not one of Flask-SQLAlchemy's, or has changes that have not been written.
    """
    extension: Any = current_app.extensions.get("sqlalchemy")
    database = getattr(extension, "db", extension)  # Flask-SQLAlchemy 2 keeps it in a state object
    if not isinstance(row, getattr(database, "Model", ())):
        raise LookupError
    try:
        return database.session.merge(row, load=False)
    except Exception:
        raise LookupError from None


# -- the session ---------------------------------------------------------------------------------------------


def _with_copied_session(context: RequestContext) -> RequestContext:
    """A request context as *context*, whose session is a copy that nobody saves."""
    original = context.session
    if isinstance(original, NullSession):
        return context.copy()
    copied = copy(original)
    copied.modified = False
    environ: dict[str, Any] = {} if HAS_ONE_CONTEXT else {"environ": context.request.environ}
    return type(context)(context.app, request=context.request, session=copied, **environ)
