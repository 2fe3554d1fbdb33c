"""An application below a prefix: ``SCRIPT_NAME`` in the environment of the process, as under gunicorn's own workers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flask
import httpx
import pytest
from click.testing import CliRunner
from flask import Flask
from flask.cli import ScriptInfo

from flaskcompat import BasePipelineWrapper, FlaskCompat, cli, create_app

from ..support import TIMEOUT, chat_body, chat_text, events_of, eventually, raw_exchange, response_body, serving

KEY = {"Authorization": "Bearer sk-alice"}
SETTINGS: dict[str, Any] = {"FLASKCOMPAT_API_KEYS": "alice=sk-alice", "FLASKCOMPAT_MAX_BODY_BYTES": 1000}
#: A body that never comes: whatever is told of such a request is told of its head.
NEVER = "POST {} HTTP/1.1\r\nHost: x\r\n{}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n"


class Where(BasePipelineWrapper):
    """Says where it is."""

    def say(self) -> str:
        return f"{flask.url_for('models')} {flask.request.script_root} {flask.request.path}"

    def run_chat_completion(self, model: str, messages: Any, body: Any) -> Iterator[str]:
        yield self.say()

    async def run_response_async(self, model: str, input_items: Any, body: Any) -> str:
        return self.say()


def make_app(**settings: Any) -> Flask:
    app = Flask("host", static_folder=None)
    app.config.update(SETTINGS, **settings)
    app.add_url_rule("/cars", "models", lambda: "cars")
    app.add_url_rule("/llm/inner", "inner", lambda: "inner")
    FlaskCompat(app).registry.add("m", Where)
    return app


@pytest.fixture
def app() -> Flask:
    return make_app()


@pytest.fixture(params=["/llm", "/llm/", "llm"])
def url(app: Flask, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("SCRIPT_NAME", request.param)
    with serving(app) as served:
        yield served


def get(url: str, **headers: str) -> httpx.Response:
    return httpx.get(url, headers={**KEY, **headers}, timeout=TIMEOUT)


def post(url: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(url, json=body, headers=KEY, timeout=TIMEOUT)


def test_models_answer_below_it_and_know_of_it(url: str) -> None:
    chat = f"{url}/llm/v1/chat/completions"
    assert post(chat, chat_body()).json()["choices"][0]["message"]["content"] == "/llm/cars /llm /v1/chat/completions"
    assert chat_text(events_of(post(chat, chat_body(stream=True)).text)) == "/llm/cars /llm /v1/chat/completions"
    answer = post(f"{url}/llm/v1/responses", response_body()).json()
    assert answer["output"][0]["content"][0]["text"] == "/llm/cars /llm /v1/responses"
    assert get(f"{url}/llm/cars").text == "cars"
    assert get(f"{url}/llm/llm/inner").text == "inner", "it is taken off once"


@pytest.mark.parametrize("path", ["/v1/models", "/llmx/v1/models", "/", "*", "llm/v1"])
def test_nothing_is_outside_of_it(path: str, url: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-alice\r\nConnection: close\r\n\r\n"
    head, _, body = raw_exchange(url, request.encode()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 ") and json.loads(body)["error"]["code"] == "not_found"


def test_what_is_outside_is_told_where_the_inside_is(url: str) -> None:
    error = get(f"{url}/v1/models").json()["error"]
    assert error["message"] == "There is nothing at this URL: this server answers below /llm."


@pytest.mark.parametrize("path", ["/llm/v1/chat/completions", "//llm/v1/chat/completions", "http://x/llm/responses"])
def test_refusals_need_the_head_alone(path: str, url: str) -> None:
    for headers, length, status in (
        ("", 10, b"401"),
        ("Authorization: Bearer sk-bob\r\n", 10, b"401"),
        ("Authorization: Bearer sk-alice\r\n", 100_000, b"413"),
    ):
        assert raw_exchange(url, NEVER.format(path, headers, length).encode()).split()[1] == status


def test_audit_names_paths_as_the_application_does(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="flaskcompat.audit")
    monkeypatch.setenv("SCRIPT_NAME", "/llm")
    with serving(make_app(FLASKCOMPAT_AUDIT=True)) as url:
        assert post(f"{url}/llm/v1/responses", response_body()).status_code == 200
        assert httpx.post(f"{url}/llm/v1/responses", json=response_body(), timeout=TIMEOUT).status_code == 401
        assert get(f"{url}/elsewhere").status_code == 404
    paths = [json.loads(r.getMessage())["path"] for r in caplog.records if r.name == "flaskcompat.audit"]
    assert paths == ["/v1/responses", "/v1/responses", "/elsewhere"]


def test_letters_beyond_ascii(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIPT_NAME", "/модели")
    with serving(app) as url:
        asked = post(f"{url}/модели/v1/chat/completions", chat_body())
    said = asked.json()["choices"][0]["message"]["content"]
    assert said == "/модели/cars /модели /v1/chat/completions"


def test_page_and_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIPT_NAME", "/llm")
    with serving(create_app()) as url, httpx.Client(timeout=TIMEOUT) as client:
        moved = client.get(f"{url}/llm")
        assert (moved.status_code, moved.headers["location"]) == (308, "/llm/")
        assert client.get(f"{url}/llm/").status_code == client.get(f"{url}/llm/page/page.js").status_code == 200
        assert client.get(f"{url}/llm/healthz").json() == {"status": "ok"}


@pytest.mark.parametrize("prefix", [None, "", "/"])
def test_without_one_nothing_is_different(prefix: str | None, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    if prefix is None:
        monkeypatch.delenv("SCRIPT_NAME", raising=False)
    else:
        monkeypatch.setenv("SCRIPT_NAME", prefix)
    with serving(app) as url:
        assert get(f"{url}/cars").text == "cars" and get(f"{url}//v1/models").status_code == 200
        assert b" 404 " in raw_exchange(url, b"OPTIONS * HTTP/1.0\r\n\r\n")


def test_start_screen_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIPT_NAME", "/llm")
    monkeypatch.setattr(cli, "serve", lambda app, *, on_start, **_: on_start(99))
    shown = CliRunner().invoke(cli.serve_command, [], obj=ScriptInfo(create_app=create_app)).output
    assert "at http://127.0.0.1:99/llm/v1\n" in shown and "curl http://127.0.0.1:99/llm/v1/chat/completions" in shown
    assert "in a browser: http://127.0.0.1:99/llm/\n" in shown


# -- gunicorn's worker -------------------------------------------------------------------------------------


@contextmanager
def gunicorn(folder: Path, conf: str, **environ: str) -> Iterator[str]:
    """The base URL of gunicorn with our worker and this configuration, once it answers anything."""
    (folder / "gunicorn.conf.py").write_text(conf)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).parent / "gunicorn"), "-k", "flaskcompat.server.gunicorn.Worker"]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("FLASK", "OPENAI_", "SCRIPT_NAME"))}
    settings = {name: str(value) for name, value in SETTINGS.items()} | {"HAYSTACK_TELEMETRY_ENABLED": "False"}
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [*command, "-b", f"127.0.0.1:{port}", "flaskcompat:create_app()"],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**clean, **settings, **environ},
        )
    url = f"http://127.0.0.1:{port}"

    def is_up() -> bool:
        try:
            return httpx.get(url, timeout=TIMEOUT).status_code < 500
        except httpx.TransportError:
            return False

    try:
        assert eventually(lambda: process.poll() is not None or is_up(), 60), (folder / "log.txt").read_text()
        yield url
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.skipif(sys.platform == "win32", reason="gunicorn does not run on Windows")
@pytest.mark.parametrize(
    ("conf", "environ"), [("", {"SCRIPT_NAME": "/llm"}), ('raw_env = ["SCRIPT_NAME=/llm"]\n', {})], ids=["env", "conf"]
)
def test_worker_of_gunicorns(conf: str, environ: dict[str, str], tmp_path: Path) -> None:
    with gunicorn(tmp_path, conf, **environ) as url:
        assert get(f"{url}/llm/v1/models").status_code == 200
        assert get(f"{url}/v1/models").json()["error"]["code"] == "not_found"
        assert raw_exchange(url, NEVER.format("/llm/v1/responses", "", 10).encode()).split()[1] == b"401"
        asked = post(f"{url}/llm/v1/chat/completions", chat_body("demo-echo", text="hello", stream=True))
        assert chat_text(events_of(asked.text)) == "hello"
