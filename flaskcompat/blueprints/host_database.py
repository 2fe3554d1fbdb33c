"""The host's database: rows and sessions of SQLAlchemy, and of Flask-SQLAlchemy, on their way to a run.

Nothing is imported: what is of SQLAlchemy is known by its attributes.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

from flask import current_app

from flaskcompat.log import log


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


def roll_back() -> None:
    """Roll the current context's session of Flask-SQLAlchemy back: its wrapper has failed.

    Flask tells an application's teardown functions nothing of an error that has been handled: one that commits at the
    end of a request would commit what the wrapper has left half done.
    """
    session: Any = getattr(current_app.extensions.get("sqlalchemy"), "session", None)
    try:
        if session is not None and session.registry.has():
            session.rollback()
    except Exception as error:
        log.warning("the database session of a wrapper that failed was not rolled back: {}", type(error).__name__)


class LentSession:
    """A session of Flask-SQLAlchemy that code lends to parts of a run: to those that it waits for, or that follow it.

    A request that has looked up its user holds a connection. If each one waited for a run that needs a connection of
    its own, a few requests could take all of a pool's connections and wait for each other. Rows also stay attached.

    :param registry: finds the session of the current context, which is the lender's.
    """

    def __init__(self, registry: Any) -> None:
        self._registry = registry
        self._session = registry()
        self._lock = threading.Lock()
        self._users = 0
        self._has_ended = False
        self._is_called = False

    @classmethod
    def of_current_context(cls, *, new: bool) -> LentSession | None:
        """The session of the current context; None if other threads may not use it.

        :param new: whether to make one if the context has none; else that is None, too.
        """
        # Flask-SQLAlchemy 2 has another object here; its sessions belong to a thread.
        session: Any = getattr(current_app.extensions.get("sqlalchemy"), "session", None)
        # Connections to SQLite belong to a thread in SQLAlchemy 1.
        if session is None or sys.modules["sqlalchemy"].__version__.startswith("1."):
            return None
        return cls(session.registry) if new or session.registry.has() else None

    def promise(self) -> LentSession:
        """Lend it to a part that begins later, and calls :meth:`use` and :meth:`release`."""
        with self._lock:
            self._users += 1
        return self

    def use(self) -> None:
        """Make it the session of the current context, which is the borrower's."""
        self._registry.set(self._session)

    def release(self) -> None:
        """The borrower needs it no more. Its context's teardown closes it, if nobody else has it."""
        with self._lock:
            self._users -= 1
            if self._users or not self._has_ended:
                self._clear()

    def end(self) -> None:
        """The lender's context ends, or goes on: parts that have been promised the session keep it."""
        with self._lock:
            self._has_ended = True
            if self._users:
                self._clear()

    def begin_call(self) -> bool:
        """Whether a call in the executor may have it: one at a time."""
        with self._lock:
            was_called, self._is_called = self._is_called, True
            return not was_called

    def end_call(self) -> None:
        self._is_called = False

    def _clear(self) -> None:
        if self._registry.has() and self._registry() is self._session:
            self._registry.clear()
