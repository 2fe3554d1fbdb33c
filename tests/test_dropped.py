"""Applications that are made, used and dropped, as by a host's tests: what is left of them."""

from __future__ import annotations

import gc
import io
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask import Flask
from flask.testing import FlaskClient
from haystack.core.component import component

from flaskcompat import BasePipelineWrapper, FlaskCompat, Registry, create_app
from flaskcompat.runtime import imports
from flaskcompat.runtime.bridge import bridge
from flaskcompat.runtime.loader import PipelinesFolder, load_folder
from flaskcompat.runtime.reloading import Reloader
from flaskcompat.runtime.state import State

from .support import TIMEOUT, chat_body, events_of, eventually, frames, response_body, serving

APPS = 20
# Those of the process, which all of its applications share.
SHARED = ("flaskcompat-loop", "flaskcompat-executor", "flaskcompat-watcher", "flaskcompat-save")


class Counting(BasePipelineWrapper):
    def run_chat_completion(self, model: str, messages: Any, body: Any) -> Iterator[str]:
        yield from map(str, range(5))

    def run_response(self, model: str, input_items: Any, body: Any) -> Iterator[str]:
        yield from map(str, range(5))


class AsyncCounting(BasePipelineWrapper):
    async def run_chat_completion_async(self, model: str, messages: Any, body: Any) -> AsyncIterator[str]:
        for number in range(5):
            yield str(number)

    async def run_response_async(self, model: str, input_items: Any, body: Any) -> AsyncIterator[str]:
        for number in range(5):
            yield str(number)


class Steps(BasePipelineWrapper):
    """Says a word for each step that it is let go; tells how it ended."""

    def __init__(self) -> None:
        self.steps = threading.Semaphore(0)
        self.went_to_the_end = threading.Event()
        self.is_over = threading.Event()

    def run_response(self, model: str, input_items: Any, body: Any) -> Iterator[str]:
        try:
            for number in range(10):
                assert self.steps.acquire(timeout=TIMEOUT)
                yield f"{number} "
            self.went_to_the_end.set()
        finally:
            self.is_over.set()


class Endless(BasePipelineWrapper):
    """Never ends by itself, on a thread (responses) and on the loop (chat completions)."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def run_response(self, model: str, input_items: Any, body: Any) -> Iterator[str]:
        try:
            while True:
                yield "more "
        finally:
            self.closed.set()

    async def run_chat_completion_async(self, model: str, messages: Any, body: Any) -> AsyncIterator[str]:
        try:
            while True:
                yield "more "
        finally:
            self.closed.set()


# -- ways to make and to use one -----------------------------------------------------------------------------


def embedded(config: dict[str, Any]) -> Flask:
    app = Flask("host")
    app.config.update(config)
    FlaskCompat(app)
    return app


def standalone(config: dict[str, Any]) -> Flask:
    """With the demos, and all that can be had with it."""
    return create_app({"FLASKCOMPAT_METRICS": True, "FLASKCOMPAT_AUDIT": True, **config})


def whole(client: FlaskClient, model: str) -> None:
    assert client.post("/v1/chat/completions", json=chat_body(model)).status_code == 200


def streamed_chat(client: FlaskClient, model: str) -> None:
    assert "[DONE]" in client.post("/v1/chat/completions", json=chat_body(model, stream=True)).text


def streamed(client: FlaskClient, model: str) -> None:
    assert "response.completed" in client.post("/v1/responses", json=response_body(model, stream=True)).text


def in_background(client: FlaskClient, model: str) -> None:
    begun = client.post("/v1/responses", json=response_body(model, background=True)).get_json()
    assert eventually(lambda: client.get(f"/v1/responses/{begun['id']}").get_json()["status"] == "completed")


def followed(client: FlaskClient, model: str) -> None:
    response = client.post("/v1/responses", json=response_body(model, background=True, stream=True))
    assert "response.completed" in response.text


def continued(client: FlaskClient, model: str) -> None:
    first = client.post("/v1/responses", json=response_body(model)).get_json()
    second = client.post("/v1/responses", json=response_body(model, previous_response_id=first["id"]))
    assert second.status_code == 200


def uploaded(client: FlaskClient, model: str) -> None:
    file = (io.BytesIO(b"bytes"), "a.txt")
    answer = client.post("/v1/files", data={"purpose": "user_data", "file": file}).get_json()
    assert client.get(f"/v1/files/{answer['id']}").status_code == 200


def half_read(client: FlaskClient, model: str) -> None:
    next(iter(client.post("/v1/responses", json=response_body(model, stream=True)).response))


USES = (whole, streamed_chat, streamed, in_background, followed, continued, uploaded, half_read)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The settings of a store."""
    if request.param == "memory":
        return {}
    url = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return {"FLASKCOMPAT_DATABASE_URL": url, "FLASKCOMPAT_FILES_URL": str(tmp_path / "files")}


# -- what is left --------------------------------------------------------------------------------------------


def state_of(app: Flask) -> State:
    state: State = app.extensions["flaskcompat"]
    return state


def own_threads() -> set[str]:
    return {str(t) for t in threading.enumerate() if t.name.startswith("flaskcompat") and not t.name.startswith(SHARED)}


def descriptors() -> int:
    """How many this process has open, where that can be found out."""
    folder = Path("/proc/self/fd")
    return len(os.listdir(folder)) if folder.is_dir() else 0


def kept_by_the_interpreter() -> int:
    """How many entries there are for modules of wrappers, and for classes in them."""
    tables: tuple[dict[str, Any], ...] = (sys.modules, component.registry, imports.finder._stand_ins)
    return sum(name.startswith("flaskcompat_pipelines_") for table in tables for name in list(table))


class Left:
    """Counts what is there beside what was there when this was made."""

    def __init__(self) -> None:
        gc.collect()
        self._before = own_threads(), descriptors(), kept_by_the_interpreter()
        self._made: list[weakref.ref[Any]] = []

    def made(self, app: Flask) -> None:
        self._made += [weakref.ref(app), weakref.ref(state_of(app))]

    def now(self) -> dict[str, Any]:
        gc.collect()
        threads, opened, entries = self._before
        found = {
            "alive": [found for ref in self._made if (found := ref()) is not None],
            "threads": own_threads() - threads,
            "descriptors": max(0, descriptors() - opened),
            "entries": max(0, kept_by_the_interpreter() - entries),
        }
        return {name: value for name, value in found.items() if value}

    def check(self) -> None:
        deadline = time.monotonic() + 3 * TIMEOUT
        while left := self.now():
            assert time.monotonic() < deadline, f"left: {left}"
            del left  # it holds what is not to be held
            # In a large process the collector takes long, and keeps the threads that are to end from running.
            time.sleep(0.5)


def make_use_drop(make: Callable[[], Flask], use: Callable[[FlaskClient, str], None], left: Left) -> None:
    app = make()
    left.made(app)
    for name, wrapper in (("sync", Counting), ("async", AsyncCounting)):
        state_of(app).registry.add(name, wrapper)
        use(app.test_client(), name)


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_embedded_applications_leave_nothing(use: Callable[[FlaskClient, str], None], config: dict[str, Any]) -> None:
    make_use_drop(lambda: embedded(config), use, Left())  # what is made once
    left = Left()
    for _ in range(APPS):
        make_use_drop(lambda: embedded(config), use, left)
    left.check()


def test_loop_does_not_keep_the_application_that_it_was_made_for() -> None:
    bridge.close()  # the next request makes one
    left = Left()
    make_use_drop(lambda: embedded({}), whole, left)
    assert eventually(lambda: "alive" not in left.now()), left.now()  # the loop has descriptors


def test_standalone_applications_leave_nothing(config: dict[str, Any]) -> None:
    def use(client: FlaskClient, model: str) -> None:
        for use in USES:
            use(client, model)
        for path in ("/", "/docs", "/openapi.json", "/metrics", "/healthz", "/v1/models"):
            assert client.get(path).status_code == 200

    make_use_drop(lambda: standalone(config), use, Left())
    left = Left()
    for _ in range(APPS):
        make_use_drop(lambda: standalone(config), use, left)
    left.check()


def test_served_applications_leave_nothing() -> None:
    def serve(left: Left) -> None:
        app = embedded({})
        left.made(app)
        state_of(app).registry.add("m", Counting)
        with serving(app) as url:
            for stream in (False, True):
                answer = httpx.post(f"{url}/v1/responses", json=response_body(stream=stream), timeout=TIMEOUT)
                assert answer.status_code == 200

    serve(Left())
    left = Left()
    for _ in range(5):
        serve(left)
    left.check()


# -- what is still going on ----------------------------------------------------------------------------------


def test_background_response_of_a_dropped_application_is_made_to_its_end(config: dict[str, Any]) -> None:
    wrapper, left = Steps(), Left()

    def begin() -> str:
        app = embedded(config)
        left.made(app)
        state_of(app).registry.add("m", wrapper)
        answer = app.test_client().post("/v1/responses", json=response_body(background=True))
        return str(answer.get_json()["id"])

    id = begin()
    wrapper.steps.release(2)
    gc.collect()
    assert left.now()["alive"]
    wrapper.steps.release(8)
    assert wrapper.went_to_the_end.wait(TIMEOUT)
    left.check()
    if config:
        found = embedded(config).test_client().get(f"/v1/responses/{id}").get_json()
        assert found["status"] == "completed"
        assert found["output"][0]["content"][0]["text"] == "0 1 2 3 4 5 6 7 8 9 "


@pytest.mark.parametrize("background", [False, True], ids=["in front", "in the background"])
def test_stream_of_a_dropped_application_can_be_read_to_its_end(background: bool) -> None:
    wrapper, left = Steps(), Left()

    def begin() -> Iterator[bytes]:
        app = embedded({})
        left.made(app)
        state_of(app).registry.add("m", wrapper)
        body = response_body(stream=True, background=background)
        return iter(app.test_client().post("/v1/responses", json=body).response)  # type: ignore[arg-type]

    wrapper.steps.release(1)
    stream = begin()
    read = next(stream)
    gc.collect()
    wrapper.steps.release(9)
    read += b"".join(stream)
    assert "9 " in [event.get("delta") for event in events_of(read.decode())]
    assert b"response.completed" in read
    del stream
    left.check()


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/chat/completions"])
def test_half_read_stream_that_is_dropped_with_its_application_ends_its_run(path: str) -> None:
    wrapper, left = Endless(), Left()

    def begin() -> None:
        app = embedded({})
        left.made(app)
        state_of(app).registry.add("m", wrapper)
        body = response_body(stream=True) if path == "/v1/responses" else chat_body(stream=True)
        next(iter(app.test_client().post(path, json=body).response))

    begin()
    assert not wrapper.closed.is_set()
    gc.collect()
    assert wrapper.closed.wait(TIMEOUT)
    left.check()


def test_test_client_gets_a_stream_as_it_is_made() -> None:
    wrapper, app = Steps(), embedded({})
    state_of(app).registry.add("m", wrapper)
    wrapper.steps.release(1)
    response = app.test_client().post("/v1/responses", json=response_body(stream=True))
    assert response.is_streamed and response.mimetype == "text/event-stream"
    pieces = response.iter_encoded()
    read = next(pieces)
    assert [data["delta"] for _, data in frames(read.decode()) if "delta" in data] == ["0 "]
    for number in range(1, 9):
        wrapper.steps.release(1)
        piece = next(pieces)
        assert [data["delta"] for _, data in frames(piece.decode())] == [f"{number} "]
        read += piece
    assert not wrapper.is_over.is_set()
    wrapper.steps.release(1)
    read += b"".join(pieces)
    assert events_of(read.decode())[-1]["response"]["output"][0]["content"][0]["text"] == "0 1 2 3 4 5 6 7 8 9 "
    assert wrapper.went_to_the_end.is_set()


def test_test_client_that_closes_a_stream_ends_its_run() -> None:
    wrapper, app = Endless(), embedded({})
    state_of(app).registry.add("m", wrapper)
    with app.test_client().post("/v1/responses", json=response_body(stream=True)) as response:
        next(response.iter_encoded())
    assert wrapper.closed.wait(TIMEOUT)


# -- modules of wrappers -------------------------------------------------------------------------------------

WRAPPER = """
from haystack import component
from flaskcompat import BasePipelineWrapper
from helper import TEXT
from common import SHARED

@component
class Own:
    @component.output_types(text=str)
    def run(self):
        return {"text": "a"}

class PipelineWrapper(BasePipelineWrapper):
    def run_response(self, model, input_items, body):
        from .late import LATE
        from common_late import ALSO
        return TEXT + SHARED + LATE + ALSO
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pipelines"
    (folder / "m").mkdir(parents=True)
    (folder / "m" / "pipeline_wrapper.py").write_text(WRAPPER)
    for name, text in (("helper", "TEXT = 'a'"), ("late", "LATE = 'c'")):
        (folder / "m" / f"{name}.py").write_text(text)
    for name, text in (("common", "SHARED = 'b'"), ("common_late", "ALSO = 'd'")):
        (folder / f"{name}.py").write_text(text)
    return folder


def make_with(folder: Path) -> Flask:
    app = Flask("host")
    FlaskCompat(app, pipelines=folder)
    return app


def test_modules_of_dropped_applications_are_dropped(folder: Path) -> None:
    left = Left()
    for number in range(APPS):
        app = make_with(folder)
        left.made(app)
        answer = app.test_client().post("/v1/responses", json=response_body("m", stream=bool(number % 2)))
        assert "abcd" in answer.text
    assert left.now()["entries"]
    del app
    left.check()


def test_wrapper_that_outlives_its_application_can_import_what_is_its_own(folder: Path) -> None:
    left = Left()
    wrapper = Registry.__getitem__(state_of(make_with(folder)).registry, "m").wrapper
    gc.collect()
    assert wrapper.run_response("m", [], {}) == "abcd"
    del wrapper
    left.check()


def test_modules_of_a_model_that_fails_to_load_are_dropped(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", "flaskcompat")  # what is captured would hold the frames of the failure
    (folder / "m" / "pipeline_wrapper.py").write_text("import helper\nraise ValueError")
    left = Left()
    app = make_with(folder)
    assert "m" in state_of(app).registry.failed
    del app
    left.check()


def test_models_that_are_loaded_again_leave_nothing(folder: Path) -> None:
    loaded = load_folder(folder, Registry())
    reloader = Reloader(loaded)
    left = Left()
    old = loaded.registry["m"].wrapper
    for number in range(5):
        (folder / "m" / "helper.py").write_text(f"TEXT = 'a{number}'")
        (folder / "common.py").write_text(f"SHARED = 'b{number}'")
        reloader.look()
    assert loaded.registry["m"].wrapper.run_response("m", [], {}) == "a4b4cd"
    assert old.run_response("m", [], {}) == "abcd"  # which may be answering
    del old
    # Its last one has imported what the first one had not yet.
    assert eventually(lambda: left.now() == {"entries": 2}), left.now()


def test_reloader_ends_with_its_folder(folder: Path) -> None:
    left = Left()

    def begin() -> weakref.ref[PipelinesFolder]:
        loaded = load_folder(folder, Registry())
        Reloader(loaded).start()
        return weakref.ref(loaded)

    found = begin()
    left.check()
    assert found() is None


# -- forks ---------------------------------------------------------------------------------------------------

FORK = """
import gc, os, sys, time
from flask import Flask
from flaskcompat import BasePipelineWrapper, FlaskCompat

class W(BasePipelineWrapper):
    async def run_response_async(self, model, input_items, body):
        yield "ab"

def make():
    app = Flask("host")
    app.config["FLASKCOMPAT_DATABASE_URL"] = sys.argv[1]
    FlaskCompat(app).registry.add("m", W)
    return app

def use(app):
    client = app.test_client()
    body = {"model": "m", "input": "hi", "background": True}
    id = client.post("/v1/responses", json=body).get_json()["id"]
    deadline = time.monotonic() + 20
    while client.get(f"/v1/responses/{id}").get_json()["status"] != "completed":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for background in (True, False):
        text = client.post("/v1/responses", json={**body, "stream": True, "background": background}).text
        assert "response.completed" in text
    return app.extensions["flaskcompat"].background.worker

for _ in range(3):
    use(make())
app, other = make(), make()
workers = use(app), use(other)
child = os.fork()
if not child:
    try:
        again = use(app), use(other), use(make())
        os._exit(0 if not set(again) & set(workers) else 3)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert (use(app), use(other)) == workers
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_forked_child_serves_the_applications_of_its_parent(sqlite_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORK), sqlite_url], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
