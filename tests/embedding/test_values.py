"""Which values of the request's ``g`` a run finds on its own, and whom it gets as the principal."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, after_this_request, current_app, g, has_app_context, session
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from werkzeug.local import LocalProxy

from flaskcompat import BasePipelineWrapper, FlaskCompat, streaming_generator
from flaskcompat.runtime.bridge import EXECUTOR_THREADS

from ..support import TIMEOUT, chat_body, eventually, post
from .shapes import pipeline_of


class Resource:
    """Something that must be closed."""

    def __init__(self) -> None:
        self.closed_on: threading.Thread | None = None

    def close(self) -> None:
        assert self.closed_on is None, "it is closed twice"
        self.closed_on = threading.current_thread()


class Extension:
    """What an extension keeps under a private name."""


class Unaskable:
    @property
    def close(self) -> Any:
        raise RuntimeError("not now")


class Model(BasePipelineWrapper):
    """Streams the result of a function."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def run_chat_completion(self, model: str, messages: Any, body: Any) -> Iterator[str]:
        yield str(self.function())


class WithPrincipal(Model):
    def run_chat_completion(  # type: ignore[override]
        self, model: str, messages: Any, body: Any, principal: Any
    ) -> Iterator[str]:
        yield str(self.function(principal))


both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@both_ways
def test_values_cross_unless_they_belong_to_their_context(stream: bool) -> None:
    app, seen = Flask("host"), dict[str, Any]()

    @app.before_request
    def fill() -> None:
        g.user = {"name": "ada"}
        g.proxy = LocalProxy(lambda: has_app_context() and current_app.name)
        g.connection = Resource()
        g._extension = Extension()
        g._claims = {"sub": "ada"}
        g.unaskable = Unaskable()

    def look() -> str:
        seen.update({name: g.get(name) for name in g}, proxied=str(g.proxy))
        g.of_the_run = 1
        return "ok"

    after: list[set[str]] = []
    app.teardown_request(lambda _: after.append(set(g)))
    FlaskCompat(app).registry.add("m", Model(look))
    assert post(app, "/v1/chat/completions", chat_body(stream=stream)).status_code == 200
    assert set(seen) == {"user", "proxy", "proxied", "_claims"}
    assert seen["proxied"] == "host" and seen["user"] == {"name": "ada"}
    assert sorted("of_the_run" in names for names in after) == [False, True]


@both_ways
def test_resource_that_is_opened_when_it_is_asked_for(stream: bool) -> None:
    app, opened = Flask("host"), list[Resource]()

    def get_resource() -> Resource:
        if "resource" not in g:
            g.resource = Resource()
            opened.append(g.resource)
        found: Resource = g.resource
        return found

    @app.teardown_appcontext
    def close(_: BaseException | None) -> None:
        if (found := g.pop("resource", None)) is not None:
            found.close()

    app.before_request(lambda: get_resource() and None)
    FlaskCompat(app).registry.add("m", Model(lambda: get_resource() and "ok"))
    assert "ok" in post(app, "/v1/chat/completions", chat_body(stream=stream)).text
    assert len(opened) == 2 and opened[0] is not opened[1]
    assert all(resource.closed_on is not None for resource in opened)
    assert opened[1].closed_on is not threading.current_thread()


@both_ways
def test_generator_finds_what_a_component_has_put_on_g(stream: bool) -> None:
    def work() -> str:
        g.sources = ["a.txt"]
        return "ok "

    class Wrapped(BasePipelineWrapper):
        def run_chat_completion(self, model: str, messages: Any, body: Any) -> Iterator[Any]:
            yield from streaming_generator(pipeline_of(work), pipeline_run_args={"text": "hi"})
            yield g.sources[0]

    app = Flask("host")
    FlaskCompat(app).registry.add("m", Wrapped)
    assert "a.txt" in post(app, "/v1/chat/completions", chat_body(stream=stream)).text


class Uncopyable(SecureCookieSession):
    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("not to be copied")


class Sessions(SecureCookieSessionInterface):
    session_class = Uncopyable


@both_ways
def test_session_that_cannot_be_copied(stream: bool) -> None:
    app = Flask("host")
    app.secret_key = "secret"
    app.session_interface = Sessions()
    app.before_request(lambda: session.update(name="ada"))
    FlaskCompat(app).registry.add("m", Model(lambda: session["name"]))
    assert "ada" in post(app, "/v1/chat/completions", chat_body(stream=stream)).text


class NotLoggedIn(Exception):
    """What an extension for logins raises, and has a handler for."""


def test_error_that_the_host_has_a_handler_for_is_told_as_the_host_tells_it(caplog: pytest.LogCaptureFixture) -> None:
    app = Flask("host")

    def refuse(*_: Any) -> Any:
        raise NotLoggedIn

    app.register_error_handler(NotLoggedIn, lambda _: ({"msg": "Log in first"}, 401))
    FlaskCompat(app, authenticate=refuse).registry.add("m", Model(lambda: "ok"))
    refused = post(app, "/v1/chat/completions", chat_body())
    assert (refused.status_code, refused.json["error"]["message"]) == (401, "Log in first")
    assert refused.json["error"]["type"] == "authentication_error"
    assert not [record for record in caplog.records if record.levelno == logging.ERROR]


def test_hook_that_fails_is_told_with_the_id_of_its_request() -> None:
    app = Flask("host")

    @app.before_request
    def fail() -> None:
        raise ValueError("secret")

    FlaskCompat(app).registry.add("m", Model(lambda: "ok"))
    failed = post(app, "/v1/chat/completions", chat_body())
    assert failed.status_code == 500 and "secret" not in failed.text
    assert failed.headers["x-request-id"] in failed.json["error"]["message"]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_function_after_this_request_is_called_for_a_whole_answer(elsewhere: bool) -> None:
    app = Flask("host")
    app.config["FLASKCOMPAT_REQUEST_TIMEOUT"] = 60.0 if elsewhere else 0.0

    def mark(response: Any) -> Any:
        response.headers["X-Marked"] = "yes"
        return response

    FlaskCompat(app).registry.add("m", Model(lambda: after_this_request(mark) and "ok"))
    assert post(app, "/v1/chat/completions", chat_body()).headers["X-Marked"] == "yes"


@both_ways
def test_run_over_its_time_limit_is_torn_down(stream: bool) -> None:
    app, torn_down = Flask("host"), list[bool]()
    app.config["FLASKCOMPAT_REQUEST_TIMEOUT"] = 0.2
    app.teardown_appcontext(lambda error: torn_down.append(error is not None))

    class Endless(BasePipelineWrapper):
        def run_chat_completion(self, model: str, messages: Any, body: Any) -> Iterator[str]:
            while True:
                yield "word "
                time.sleep(0.01)

    FlaskCompat(app).registry.add("m", Endless)
    assert "pipeline_timeout" in post(app, "/v1/chat/completions", chat_body(stream=stream)).text
    assert eventually(lambda: sorted(torn_down) == [False, True])


@both_ways
def test_redis_client_of_a_run_is_its_own(stream: bool) -> None:
    redis = pytest.importorskip("redis")
    url = os.environ.get("FLASKCOMPAT_TEST_REDIS_URL")
    if url is None:
        pytest.skip("FLASKCOMPAT_TEST_REDIS_URL is not set")
    app, clients = Flask("host"), list[Any]()

    def get_client() -> Any:
        if "redis" not in g:
            g.redis = redis.Redis.from_url(url)
            clients.append(g.redis)
        return g.redis

    app.before_request(lambda: get_client().ping() and None)
    app.teardown_appcontext(lambda _: g.redis.close() if "redis" in g else None)
    FlaskCompat(app).registry.add("m", Model(lambda: get_client().ping()))
    assert "True" in post(app, "/v1/chat/completions", chat_body(stream=stream)).text
    assert len(clients) == 2
    assert not any(client.connection_pool._in_use_connections for client in clients)


@both_ways
def test_teardown_function_that_fails_is_logged_and_the_others_run(
    stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    app, torn_down = Flask("host"), list[str]()
    app.teardown_appcontext(lambda _: torn_down.append("app"))

    @app.teardown_request
    def fail(_: BaseException | None) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise ValueError("cannot tear down")

    FlaskCompat(app).registry.add("m", Model(lambda: "ok"))
    assert "ok" in post(app, "/v1/chat/completions", chat_body(stream=stream)).text
    assert torn_down == ["app", "app"]
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "teardown function" in record.getMessage()


# -- principals of a database without Flask-SQLAlchemy ---------------------------------------------------------


@pytest.fixture
def database() -> Iterator[tuple[Any, Any]]:
    """A session by thread, as Flask's documentation has it for SQLAlchemy, and a class of users with notes."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    from sqlalchemy import orm

    engine = sqlalchemy.create_engine(
        "sqlite://", poolclass=sqlalchemy.pool.StaticPool, connect_args={"check_same_thread": False}
    )
    session = orm.scoped_session(orm.sessionmaker(bind=engine))
    base = orm.declarative_base()

    class User(base):  # type: ignore[misc, valid-type]
        __tablename__ = "user"
        id = sqlalchemy.Column(sqlalchemy.Integer, primary_key=True)
        name = sqlalchemy.Column(sqlalchemy.String(20))
        notes = orm.relationship("Note")

    class Note(base):  # type: ignore[misc, valid-type]
        __tablename__ = "note"
        id = sqlalchemy.Column(sqlalchemy.Integer, primary_key=True)
        user_id = sqlalchemy.Column(sqlalchemy.ForeignKey("user.id"))

    base.metadata.create_all(engine)
    session.add(User(id=1, name="ada", notes=[Note(), Note()]))
    session.commit()
    session.remove()
    yield session, User
    session.remove()
    engine.dispose()


@both_ways
def test_relation_of_a_principal_loads_in_the_run(database: tuple[Any, Any], stream: bool) -> None:
    session, user = database
    app = Flask("host")
    app.teardown_appcontext(lambda _: session.remove())
    compat = FlaskCompat(app, authenticate=lambda _: session.get(user, 1))
    compat.registry.add("m", WithPrincipal(lambda principal: f"{principal.name} {len(principal.notes)}"))
    assert "ada 2" in post(app, "/v1/chat/completions", chat_body(stream=stream)).text


@both_ways
def test_login_that_fails_in_the_run_leaves_the_principal_of_the_request(
    database: tuple[Any, Any], stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    session, user = database
    app, asked = Flask("host"), list[int]()
    app.teardown_appcontext(lambda _: session.remove())

    def authenticate(_: Any) -> Any:
        asked.append(1)
        if len(asked) > 1:
            raise ValueError("only once")
        return session.get(user, 1)

    FlaskCompat(app, authenticate=authenticate).registry.add("m", WithPrincipal(lambda principal: principal.name))
    assert "ada" in post(app, "/v1/chat/completions", chat_body(stream=stream)).text
    assert any("authenticate() failed in a run" in record.getMessage() for record in caplog.records)


@both_ways
def test_login_is_asked_once_for_a_principal_that_is_no_row(stream: bool) -> None:
    app, asked = Flask("host"), list[int]()
    compat = FlaskCompat(app, authenticate=lambda _: asked.append(1) or "ada")
    compat.registry.add("m", WithPrincipal(lambda principal: principal))
    assert "ada" in post(app, "/v1/chat/completions", chat_body(stream=stream)).text
    assert asked == [1]


def test_call_that_is_cancelled_before_it_has_a_thread_leaves_nothing() -> None:
    """A run that is cancelled while its call waits for one of the executor's threads."""
    app, counts = Flask("host"), list[str]()
    app.teardown_appcontext(lambda _: counts.append("torn down"))
    released = threading.Event()

    class Caller(BasePipelineWrapper):
        async def run_chat_completion_async(self, model: str, messages: Any, body: Any) -> str:
            blocked = [asyncio.to_thread(released.wait, TIMEOUT) for _ in range(EXECUTOR_THREADS)]
            waiting = asyncio.gather(*blocked, asyncio.to_thread(counts.append, "called"))
            await asyncio.wait([waiting], timeout=0.2)
            waiting.cancel()
            released.set()
            return "ok"

    FlaskCompat(app).registry.add("m", Caller)
    assert "ok" in post(app, "/v1/chat/completions", chat_body()).text
    assert eventually(lambda: counts.count("torn down") == EXECUTOR_THREADS + 3)
    assert "called" not in counts


@pytest.mark.parametrize("handler", [lambda _: ("secret", 500), lambda _: 1 / 0], ids=["a 500", "fails"])
def test_failure_of_the_host_s_own_handler_is_logged_and_not_repeated(
    handler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = Flask("host")

    def refuse(*_: Any) -> Any:
        raise NotLoggedIn

    app.register_error_handler(NotLoggedIn, handler)
    FlaskCompat(app, authenticate=refuse).registry.add("m", Model(lambda: "ok"))
    failed = post(app, "/v1/chat/completions", chat_body())
    assert failed.status_code == 500 and "secret" not in failed.text
    assert failed.json["error"]["type"] == "server_error"
    assert "unforeseen error" in caplog.text
