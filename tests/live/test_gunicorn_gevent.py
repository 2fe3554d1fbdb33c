"""Under gunicorn's gevent worker, where threads are greenlets and the event loop runs among them."""

from __future__ import annotations

import importlib.util
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from ..support import TIMEOUT, chat_body, eventually, response_body
from .test_servers import free_port, process

if sys.platform == "win32":
    pytest.skip("gunicorn does not run on Windows", allow_module_level=True)
if importlib.util.find_spec("gevent") is None:
    pytest.skip("gevent is not installed (pip install gevent)", allow_module_level=True)

#: Each model says "one " at once, and "two" when it may, on both APIs.
SITE = """
import asyncio, threading, time
from flask import Flask, jsonify
from flaskcompat import BasePipelineWrapper, FlaskCompat

open_runs, go = set(), threading.Event()

class Sync(BasePipelineWrapper):
    def say(self):
        open_runs.add(self)
        try:
            yield "one "
            while not go.wait(0.05):
                yield ""
            yield "two"
        finally:
            open_runs.discard(self)
    def run_chat_completion(self, model, messages, body):
        return self.say()
    def run_response(self, model, input_items, body):
        return self.say()

class Async(BasePipelineWrapper):
    async def say(self):
        open_runs.add(self)
        try:
            yield "one "
            while not go.is_set():
                await asyncio.sleep(0.01)
            yield "two"
        finally:
            open_runs.discard(self)
    def run_chat_completion_async(self, model, messages, body):
        return self.say()
    def run_response_async(self, model, input_items, body):
        return self.say()

app = Flask(__name__)
app.config["FLASKCOMPAT_SHUTDOWN_GRACE"] = 3
compat = FlaskCompat(app)
compat.registry.add("sync", Sync)
compat.registry.add("async", Async)

@app.get("/open")
def count():
    return jsonify(len(open_runs))

@app.post("/go/<int:may>")
def let(may):
    go.set() if may else go.clear()
    return ""
"""
MODELS = ("sync", "async")


@pytest.fixture(
    scope="module",
    params=["", "from gevent import monkey\nmonkey.patch_all()\npreload_app = True\n"],
    ids=["loaded by the worker", "preloaded"],
)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "site_of_test.py").write_text(SITE)
    (folder / "gunicorn.conf.py").write_text(request.param)
    port = free_port()
    command = ["gunicorn", "-k", "gevent", "-b", f"127.0.0.1:{port}", "site_of_test:app"]
    with process(*command, cwd=folder, port=port) as started:
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=TIMEOUT, limits=httpx.Limits(max_connections=None)) as client:
            yield SimpleNamespace(client=client, process=started)


class Stream:
    """A stream of a model, word by word."""

    def __init__(self, client: httpx.Client, api: str, model: str, stack: ExitStack) -> None:
        path, body = ("chat/completions", chat_body) if api == "chat" else ("responses", response_body)
        request = client.stream("POST", f"/v1/{path}", json=body(model, stream=True))
        self._lines = stack.enter_context(request).iter_lines()

    def until(self, piece: str) -> str:
        """All that comes until *piece* has come."""
        come = ""
        for line in self._lines:
            come += line
            if piece in line:
                return come
        raise AssertionError(come)

    def rest(self) -> str:
        return "".join(self._lines)


def test_slow_streams_run_beside_each_other_and_whole_answers_beside_them(site: SimpleNamespace) -> None:
    client = site.client
    with ExitStack() as stack:
        streams = [Stream(client, api, m, stack) for m in MODELS for api in ("chat", "responses") for _ in range(5)]
        for stream in streams:  # all have begun, and none has ended
            stream.until('"one "')
        assert client.get("/v1/models").status_code == 200
        client.post("/go/1")
        for stream in streams:
            stream.until('"two"')
            assert "[DONE]" in (rest := stream.rest()) or "response.completed" in rest
    for model in MODELS:
        chat = client.post("/v1/chat/completions", json=chat_body(model)).json()
        assert chat["choices"][0]["message"]["content"] == "one two"
        response = client.post("/v1/responses", json=response_body(model)).json()
        assert response["output"][0]["content"][0]["text"] == "one two"
    assert client.get("/open").json() == 0


@pytest.mark.parametrize("model", MODELS)
def test_leaver_ends_the_run(model: str, site: SimpleNamespace) -> None:
    site.client.post("/go/0")
    with ExitStack() as stack:
        Stream(site.client, "chat", model, stack).until('"one "')
        assert site.client.get("/open").json() == 1
    assert eventually(lambda: site.client.get("/open").json() == 0)


def test_stop_ends_streams_with_an_error_event(site: SimpleNamespace) -> None:  # the last one: nobody answers after it
    site.client.post("/go/0")
    with ExitStack() as stack:
        streams = [Stream(site.client, "chat", model, stack) for model in MODELS]
        for stream in streams:
            stream.until('"one "')
        site.process.send_signal(signal.SIGTERM)
        for stream in streams:
            error: Any = json.loads(stream.until('"error"').rpartition("data: ")[2])
            assert error["error"]["code"] == "shutting_down"
            assert stream.rest() == ""
    assert site.process.wait(TIMEOUT) == 0
