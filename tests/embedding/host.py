"""A host application of the old kind: users in a database, a login by Flask-Login, `sqlite3` on `g`, hooks, pages.

It serves models of every shape of ``shapes.py``, which use all of that, and ``/counts``, which tells what is open.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.util import find_spec
from typing import Any, ClassVar

from flask import Flask, current_app, g, jsonify, request, session, url_for
from flask.signals import got_request_exception
from flask_login import LoginManager, UserMixin, current_user
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.pool import QueuePool

from flaskcompat import BasePipelineWrapper, FlaskCompat, get_last_user_message

from .shapes import SHAPES, Work, shaped

db = SQLAlchemy()


class User(UserMixin, db.Model):  # type: ignore[misc, name-defined]
    id = db.Column(db.Integer, primary_key=True)
    name = db.Column(db.String(20))
    notes = db.relationship("Note")


class Note(db.Model):  # type: ignore[misc, name-defined]
    id = db.Column(db.Integer, primary_key=True)
    text = db.Column(db.String(20))
    user_id = db.Column(db.ForeignKey("user.id"))


class Connection(sqlite3.Connection):
    """Counts itself; may be closed on its own thread alone, as every connection of `sqlite3`."""

    counts: Counter[str] = Counter()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.counts["opened"] += 1

    def close(self) -> None:
        super().close()
        self.counts["closed"] += 1


def get_db() -> sqlite3.Connection:
    """As in Flask's tutorial."""
    if "db" not in g:
        g.db = sqlite3.connect(":memory:", factory=Connection)
    connection: sqlite3.Connection = g.db
    return connection


def close_db(error: BaseException | None = None) -> None:
    connection = g.pop("db", None)
    if connection is not None:
        connection.close()


# -- what the code of a run does -----------------------------------------------------------------------------


def use_sqlite() -> Any:
    return get_db().execute("select 1").fetchone()[0]


def use_session() -> Any:
    return db.session.query(User).count()


def query_slowly() -> Any:
    """So slowly that many requests have looked up their users before the first one goes on."""
    time.sleep(0.2)
    return use_session()


def leave_uncommitted() -> Any:
    db.session.add(Note(text="not to be kept", user_id=1))
    return 1


def use_contexts() -> Any:
    """Everything that Flask offers to code in a request."""
    assert current_app.name == "host"
    assert request.path.startswith("/ai/v1/")
    assert url_for("index") == "/"
    assert session.get("_user_id") == "1"
    assert g.greeting == "hello"
    assert g.setdefault("of_request", id(request.environ)) == id(request.environ)
    assert current_user.name == "ada"
    return 1


def use_relation() -> Any:
    assert len(g.user.notes) == len(g._claims["user"].notes)
    return len(current_user.notes)


def fail() -> Any:
    use_session()
    raise ValueError("the host's own secret")


def count_open() -> Any:
    """How many connections are open: of the pool, and of `sqlite3`."""
    return f"{db.engine.pool.checkedout()} {Connection.counts['opened'] - Connection.counts['closed']}"


def write_session() -> Any:
    session["visits"] = session.get("visits", 0) + 1
    return 1


def use_everything() -> Any:
    use_sqlite()
    use_contexts()
    use_relation()
    return use_session()


WORKS: dict[str, Work] = {
    "everything": use_everything,
    "sqlite": use_sqlite,
    "session": use_session,
    "query": query_slowly,
    "uncommitted": leave_uncommitted,
    "failure": fail,
    "visit": write_session,
    "count": count_open,
}


class Principal(BasePipelineWrapper):
    """Reads a relation of whom it answers."""

    def run_chat_completion(self, model: str, messages: Any, body: Any, principal: User) -> Any:
        return self._told(principal)

    def run_response(self, model: str, input_items: Any, body: Any, principal: User) -> Any:
        return self._told(principal)

    def _told(self, principal: User) -> Any:
        return (text for text in (f"{principal.name} ", str(len(principal.notes))))


class AsyncPrincipal(BasePipelineWrapper):
    async def run_chat_completion_async(self, model: str, messages: Any, body: Any, principal: User) -> Any:
        return f"{principal.name} {len(principal.notes)}"

    async def run_response_async(self, model: str, input_items: Any, body: Any, principal: User) -> Any:
        return f"{principal.name} {len(principal.notes)}"


class Slow(BasePipelineWrapper):
    """Goes on until its client has left, with a connection of the database in its hands."""

    def run_chat_completion(self, model: str, messages: Any, body: Any) -> Iterator[str]:
        while use_session():
            yield "word "
            time.sleep(0.05)

    def run_response(self, model: str, input_items: Any, body: Any) -> Iterator[str]:
        return self.run_chat_completion(model, input_items, body)


class SlowAsync(BasePipelineWrapper):
    async def run_chat_completion_async(self, model: str, messages: Any, body: Any) -> AsyncIterator[str]:
        while use_session():
            yield "word "
            await asyncio.sleep(0.05)

    async def run_response_async(self, model: str, input_items: Any, body: Any) -> Any:
        return self.run_chat_completion_async(model, input_items, body)


class SlowCall(BasePipelineWrapper):
    """Asks the database in a thread, once more after the client has left."""

    async def run_chat_completion_async(self, model: str, messages: Any, body: Any) -> Any:
        return await asyncio.to_thread(self._ask, request.environ["waitress.client_disconnected"])

    async def run_response_async(self, model: str, input_items: Any, body: Any) -> Any:
        return await self.run_chat_completion_async(model, input_items, body)

    def _ask(self, client_left: Callable[[], bool]) -> str:
        while not client_left():
            time.sleep(0.05)
        time.sleep(1.0)  # the task has been cancelled by then
        current_app.extensions["counts"]["late calls"] += bool(use_session())
        return "done"


class Greeting(BasePipelineWrapper):
    """Knows whom it answers, and goes on slowly without the database."""

    def run_chat_completion(self, model: str, messages: Any, body: Any, principal: User) -> Iterator[str]:
        while True:
            yield f"{principal.name} {current_user.name} "
            time.sleep(0.25)


class LateVisit(BasePipelineWrapper):
    """Writes to the session when it is told that the client has the beginning of the answer."""

    released: ClassVar[threading.Event] = threading.Event()

    def run_chat_completion(self, model: str, messages: Any, body: Any) -> Iterator[str]:
        yield "word "
        self.released.wait(30)
        write_session()
        yield "last"

    def run_response(self, model: str, input_items: Any, body: Any) -> Iterator[str]:
        return self.run_chat_completion(model, input_items, body)


class LateVisitAsync(BasePipelineWrapper):
    async def run_chat_completion_async(self, model: str, messages: Any, body: Any) -> AsyncIterator[str]:
        yield "word "
        await asyncio.to_thread(LateVisit.released.wait, 30)
        write_session()
        yield "last"

    async def run_response_async(self, model: str, input_items: Any, body: Any) -> Any:
        return self.run_chat_completion_async(model, input_items, body)


class Renamer(BasePipelineWrapper):
    """Changes the row of whom it answers, at different places of a run."""

    def run_chat_completion(self, model: str, messages: Any, body: Any, principal: User) -> Any:
        if get_last_user_message(messages) == "generator":
            return self._renamed(principal)
        return self._renamed_late(principal)

    def _renamed(self, principal: User) -> Iterator[str]:
        principal.name += "!"
        db.session.commit()
        yield "ok"

    async def _renamed_late(self, principal: User) -> AsyncIterator[str]:
        principal.name += "!"
        db.session.commit()
        yield "ok"


# -- the application -----------------------------------------------------------------------------------------


def create_app(database: str) -> Flask:
    """The host, with the user "ada" and her two notes in *database*, a URL for SQLAlchemy."""
    app = Flask("host")
    app.config.update(
        SECRET_KEY="secret",
        SQLALCHEMY_DATABASE_URI=database,
        SQLALCHEMY_ENGINE_OPTIONS={
            **{"poolclass": QueuePool, "pool_size": 5, "max_overflow": 10, "pool_timeout": 5},
            "connect_args": {"check_same_thread": False},
        },
    )
    app.config.from_prefixed_env()
    db.init_app(app)
    logins = LoginManager(app)
    logins.user_loader(lambda id: db.session.get(User, int(id)))
    counts: Counter[str] = Counter()
    app.extensions["counts"] = counts

    @app.before_request
    def greet() -> None:
        g.greeting = "hello"
        g.user = current_user
        g._claims = {"user": current_user._get_current_object()}

    @app.teardown_request
    def count_teardown(error: BaseException | None) -> None:
        counts["teardown_request"] += 1

    app.teardown_appcontext(close_db)

    @app.teardown_appcontext
    def count_failure(error: BaseException | None) -> None:
        counts["torn down after a failure"] += error is not None
        if error is not None and (path := os.environ.get("HOST_TEARDOWNS")):
            with open(path, "a") as file:
                file.write("failed\n")

    if find_spec("blinker") is not None:
        got_request_exception.connect(lambda sender, **_: counts.update(["exceptions"]), app, weak=False)

    @app.get("/")
    def index() -> str:
        return f"{db.session.query(User).count()} users"

    @app.post("/note")
    def commit() -> str:
        db.session.add(Note(text="kept", user_id=1))
        db.session.commit()
        return "ok"

    @app.get("/login")
    def login() -> str:
        session["_user_id"] = "1"
        return "ok"

    @app.get("/name")
    def rename() -> str:
        user = db.session.get(User, 1) if hasattr(db.session, "get") else User.query.get(1)
        name, user.name = user.name, "ada"
        db.session.commit()
        return str(name)

    @app.get("/visits")
    def tell_visits() -> str:
        return str(session.get("visits", 0))

    @app.get("/counts")
    def tell_counts() -> Any:
        close_db()
        notes = [note.text for note in db.session.query(Note).order_by(Note.id)]
        db.session.remove()
        pool = db.engine.pool
        return jsonify(
            checked_out=pool.checkedout() if hasattr(pool, "checkedout") else 0,
            open=Connection.counts["opened"] - Connection.counts["closed"],
            notes=notes,
            threads=threading.active_count(),
            **counts,
        )

    compat = FlaskCompat(
        app,
        url_prefix="/ai",
        authenticate=lambda _: current_user if current_user.is_authenticated else None,
    )
    for work, do in WORKS.items():
        for shape in SHAPES:
            compat.registry.add(f"{work} in {shape}", shaped(shape, do))
    for model in (Slow, SlowAsync, SlowCall, Greeting, LateVisit, LateVisitAsync, Renamer):
        compat.registry.add(model.__name__, model)
    compat.registry.add("principal", Principal)
    compat.registry.add("async principal", AsyncPrincipal)
    with app.app_context():
        db.create_all()
        if db.session.get(User, 1) is None:
            db.session.add(User(id=1, name="ada", notes=[Note(text="first"), Note(text="second")]))
            db.session.commit()
    return app


def app_of_environment() -> Flask:
    """For servers in processes of their own."""
    return create_app(os.environ.get("HOST_DATABASE") or f"sqlite:///{tempfile.mkdtemp()}/host.db")
