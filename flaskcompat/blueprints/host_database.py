"""The host's database: rows and sessions of SQLAlchemy, and of Flask-SQLAlchemy, on their way to a run.

Nothing is imported: what is of SQLAlchemy is known by its attributes.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

from flask import current_app


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


class LentSession:
    """The session of a request, which a run uses while the request waits for it.

    A request that has looked up its user holds a connection. If each one waited for a run that needs a connection of
    its own, a few requests could take all of a pool's connections and wait for each other.

    :param registry: finds the session of the current context.
    """

    def __init__(self, registry: Any) -> None:
        self._registry = registry
        self._session = registry()
        self._lock = threading.Lock()
        self._is_used = False
        self._is_over = False

    @classmethod
    def of_current_context(cls) -> LentSession | None:
        """The session of the current context; None if it has none, or none that another thread may use."""
        # Flask-SQLAlchemy 2 has another object here; its sessions belong to a thread.
        session: Any = getattr(current_app.extensions.get("sqlalchemy"), "session", None)
        # Connections to SQLite belong to a thread in SQLAlchemy 1.
        if session is None or sys.modules["sqlalchemy"].__version__.startswith("1."):
            return None
        return cls(session.registry) if session.registry.has() else None

    def use(self) -> None:
        """Make it the session of the current context, which is one of the run."""
        with self._lock:
            if not self._is_over:
                self._is_used = True
                self._registry.set(self._session)

    def release(self) -> None:
        """The run needs it no more. The current context's teardown closes it, unless the request still has it."""
        with self._lock:
            if self._is_used and not self._is_over:
                self._is_used = False
                self._clear()

    def end(self) -> None:
        """The request goes on: in the current context, which is the request's. A run that uses the session keeps it."""
        with self._lock:
            self._is_over = True
            if self._is_used:
                self._clear()

    def _clear(self) -> None:
        if self._registry.has() and self._registry() is self._session:
            self._registry.clear()
