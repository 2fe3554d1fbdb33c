"""A run in an application of somebody else: what it opens is its own, and is closed when it is over."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.metadata import version
from typing import Any

import httpx
import pytest

from flaskcompat.runtime.bridge import bridge

from ..support import TIMEOUT, chat_body, eventually, serving
from . import host
from .asking import WAYS, ask, opened, request_of
from .shapes import SHAPES


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    app = host.create_app(f"sqlite:///{tmp_path_factory.mktemp('host') / 'host.db'}")
    with serving(app, threads=64) as url:
        yield url
    with app.app_context():
        host.db.engine.dispose()


@pytest.fixture
def url(served: str) -> Iterator[str]:
    """The host's address; afterwards nothing that a run has opened is open."""
    yield served
    assert eventually(lambda: _counts(served)["checked_out"] == 0), _counts(served)
    assert _counts(served)["open"] == 0


@pytest.fixture
def faults(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fails a test in which we or Flask logged an error."""
    yield
    assert not [r for r in caplog.records if r.levelno >= 40 and r.name.startswith(("flaskcompat", "host"))]


def _counts(url: str) -> dict[str, Any]:
    answer: dict[str, Any] = httpx.get(f"{url}/counts", timeout=TIMEOUT).json()
    return answer


@pytest.fixture(scope="module")
def cookies(served: str) -> httpx.Cookies:
    return httpx.get(f"{served}/login").cookies


@pytest.mark.usefixtures("faults")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", SHAPES)
def test_run_has_what_it_opens_to_itself(url: str, cookies: httpx.Cookies, shape: str, way: str) -> None:
    assert ask(f"{url}/ai", way, f"everything in {shape}", cookies=cookies).replace(" ", "") in ("1", "11")


@pytest.mark.usefixtures("faults")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_uncommitted_is_committed_by_another_request(
    url: str, cookies: httpx.Cookies, shape: str, way: str
) -> None:
    ask(f"{url}/ai", way, f"uncommitted in {shape}", cookies=cookies)
    for _ in range(3):
        assert httpx.post(f"{url}/note").text == "ok"
    assert set(_counts(url)["notes"]) == {"first", "second", "kept"}


@pytest.mark.usefixtures("faults")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", ["principal", "async principal"])
def test_relation_of_principal_loads(url: str, cookies: httpx.Cookies, model: str, way: str) -> None:
    notes = len(_counts(url)["notes"])
    assert ask(f"{url}/ai", way, model, cookies=cookies) == f"ada {notes}"


@pytest.mark.usefixtures("faults")
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("part", ["generator", "async generator"])
def test_changes_of_the_principal_are_committed(url: str, cookies: httpx.Cookies, part: str, stream: bool) -> None:
    if version("flask-sqlalchemy").startswith("2."):
        pytest.skip("a session of Flask-SQLAlchemy 2 belongs to its thread")
    body = chat_body("Renamer", stream=stream, text=part)
    answer = httpx.post(f"{url}/ai/v1/chat/completions", json=body, cookies=cookies, timeout=TIMEOUT)
    assert "ok" in answer.text
    assert httpx.get(f"{url}/name").text == "ada!"


# -- however a run ends --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["chat stream", "response stream", "chat", "response"])
@pytest.mark.parametrize("model", ["Slow", "SlowAsync"])
def test_run_whose_client_leaves_is_torn_down(url: str, cookies: httpx.Cookies, model: str, way: str) -> None:
    with opened(url, way, model, cookies):
        assert eventually(lambda: _counts(url)["checked_out"] > 0)
    assert eventually(lambda: _counts(url)["checked_out"] == 0)


@pytest.mark.parametrize("way", ["chat stream", "response stream", "chat", "response"])
def test_context_is_kept_for_a_call_that_outlives_its_task(url: str, cookies: httpx.Cookies, way: str) -> None:
    calls = _counts(url).get("late calls", 0)
    torn_down = _counts(url)["torn down after a failure"]
    with opened(url, way, "SlowCall", cookies):
        assert eventually(lambda: bridge.active)
    assert eventually(lambda: _counts(url).get("late calls", 0) == calls + 1)
    assert eventually(lambda: _counts(url)["checked_out"] == 0)
    assert eventually(lambda: _counts(url)["torn down after a failure"] == torn_down + 1)


def test_slow_streams_hold_no_connections_of_the_pool(url: str, cookies: httpx.Cookies) -> None:
    with ExitStack() as streams:
        for _ in range(150):
            connection = streams.enter_context(opened(url, "chat stream", "Greeting", cookies))
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        assert _counts(url)["checked_out"] == 0
        assert httpx.get(url, timeout=TIMEOUT).text == "1 users"


@pytest.mark.parametrize("shape", ["generator", "pipeline", "coroutine", "async generator"])
def test_whole_answers_at_once_do_not_wait_for_each_others_connections(
    url: str, cookies: httpx.Cookies, shape: str
) -> None:
    """Each holds the connection that its user was looked up by, and must not need another one."""
    if version("flask-sqlalchemy").startswith("2."):
        pytest.skip("a session of Flask-SQLAlchemy 2 belongs to its thread")
    work = "session" if shape in ("coroutine", "async generator") else "query"  # a slow one would block the loop
    with ThreadPoolExecutor(40) as clients:
        asked = [clients.submit(ask, f"{url}/ai", "chat", f"{work} in {shape}", cookies=cookies) for _ in range(40)]
        assert {answer.result().split()[0] for answer in asked} == {"1"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", SHAPES)
def test_failure_is_signalled_once(url: str, cookies: httpx.Cookies, shape: str, way: str) -> None:
    pytest.importorskip("blinker")
    before = _counts(url)
    with pytest.raises(AssertionError) as failed:
        ask(f"{url}/ai", way, f"failure in {shape}", cookies=cookies)
    assert "secret" not in str(failed.value)
    assert _counts(url)["exceptions"] == before.get("exceptions", 0) + 1


# -- the session ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["chat", "response"])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_a_whole_answer_writes_to_the_session_is_saved(url: str, shape: str, way: str) -> None:
    with httpx.Client(base_url=url, timeout=TIMEOUT) as client:
        client.get("/login")
        path, body = request_of(way, f"visit in {shape}")
        assert client.post(f"/ai/v1{path}", json=body).status_code == 200
        assert int(client.get("/visits").text) >= 1


@pytest.mark.parametrize("way", ["chat stream", "response stream", "background"])
@pytest.mark.parametrize("model", ["LateVisit", "LateVisitAsync"])
def test_what_a_stream_writes_to_the_session_is_lost_with_a_warning(
    url: str, cookies: httpx.Cookies, model: str, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    host.LateVisit.released.clear()
    path, body = request_of(way, model)
    with httpx.stream("POST", f"{url}/ai/v1{path}", json=body, cookies=cookies, timeout=TIMEOUT) as answer:
        pieces = answer.iter_text()
        assert next(pieces)
        host.LateVisit.released.set()
        for _ in pieces:
            pass
    assert eventually(lambda: any("session" in record.getMessage() for record in caplog.records))
    assert httpx.get(f"{url}/visits", cookies=cookies).text == "0"
