from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, request

from flaskcompat import FlaskCompat, Registry
from flaskcompat.errors import PipelineLoadError

from .support import chat_body, post, returning

WRAPPER = """
from flaskcompat import BasePipelineWrapper
class PipelineWrapper(BasePipelineWrapper):
    def run_chat_completion(self, model, messages, body):
        return "from the folder"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "pipeline_wrapper.py").write_text(WRAPPER)
    return tmp_path


def test_folder_and_added_wrappers_are_served_together(folder: Path) -> None:
    app = Flask("host")
    compat = FlaskCompat(app, pipelines=folder)
    compat.registry.add("b", returning("added"))
    assert isinstance(compat.registry, Registry)
    assert [model.name for model in app.extensions["flaskcompat"].registry] == ["a", "b"]
    for name, text in (("a", "from the folder"), ("b", "added")):
        answer = post(app, "/v1/chat/completions", chat_body(name)).json
        assert answer["choices"][0]["message"]["content"] == text


def test_init_app_for_several_applications(folder: Path) -> None:
    compat = FlaskCompat(pipelines=folder)
    one, two = Flask("one"), Flask("two")
    compat.init_app(one)
    compat.init_app(two)
    with one.app_context():
        compat.registry.add("only", returning("x"))
        assert "only" in compat.registry
    with two.app_context():
        assert "only" not in compat.registry and "a" in compat.registry
    with pytest.raises(RuntimeError):
        _ = compat.registry


def test_settings_of_the_host_win(folder: Path) -> None:
    app = Flask("host")
    app.config["FLASKCOMPAT_PIPELINES_DIR"] = str(folder)
    app.config["FLASKCOMPAT_KEEP_ALIVE"] = 3
    FlaskCompat(app)
    assert app.config["FLASKCOMPAT_KEEP_ALIVE"] == 3
    assert app.config["FLASKCOMPAT_MAX_BODY_BYTES"] == 10_000_000
    assert "a" in app.extensions["flaskcompat"].registry


def test_embedded_without_a_folder_serves_nothing_of_its_own(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "pipelines").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLASKCOMPAT_PIPELINES_DIR", "nowhere")
    app = Flask("host")
    FlaskCompat(app)
    assert len(app.extensions["flaskcompat"].registry) == 0


def test_missing_folder_is_loud(tmp_path: Path) -> None:
    with pytest.raises(PipelineLoadError):
        FlaskCompat(Flask("host"), pipelines=tmp_path / "nowhere")


def test_host_s_limits_stay_its_own() -> None:
    app = Flask("host")
    app.config["MAX_CONTENT_LENGTH"] = 50
    FlaskCompat(app).registry.add("m", returning("ok"))

    @app.post("/own")
    def own() -> str:
        return str(len(request.get_data()))

    client = app.test_client()
    assert client.post("/own", data=b"x" * 100).status_code == 413
    assert post(app, "/v1/chat/completions", chat_body(text="x" * 100)).status_code == 200


@pytest.mark.parametrize("look", ["get_data", "get_json", "form", "files", "stream"])
@pytest.mark.parametrize("compressed", [False, True])
def test_host_s_hook_may_look_at_the_body_first(look: str, compressed: bool) -> None:
    app = Flask("host")
    looked: list[object] = []

    @app.before_request
    def hook() -> None:
        if look == "get_json":
            looked.append(request.get_json(silent=True))
        else:
            found = getattr(request, look)
            looked.append(found() if callable(found) else found)

    FlaskCompat(app).registry.add("m", returning("ok"))
    data = json.dumps(chat_body(text="hi")).encode()
    headers = {"Content-Encoding": "gzip"} if compressed else {}
    answer = app.test_client().post(
        "/v1/chat/completions",
        data=gzip.compress(data) if compressed else data,
        headers=headers,
        content_type="application/json",
    )
    assert answer.status_code == 200, answer.text
    assert len(looked) == 1


def test_host_s_hook_may_look_at_the_body_afterwards() -> None:
    app = Flask("host")
    looked: list[object] = []

    @app.after_request
    def hook(response: Response) -> Response:
        looked.append(request.get_json())
        return response

    FlaskCompat(app).registry.add("m", returning("ok"))
    body = chat_body(text="hi")
    assert post(app, "/v1/chat/completions", body).status_code == 200
    assert looked == [body]


def test_failures_are_heard_in_a_host_that_sets_up_no_logging(tmp_path: Path) -> None:
    code = """
from flask import Flask
from flaskcompat import BasePipelineWrapper, FlaskCompat
class Broken(BasePipelineWrapper):
    def run_chat_completion(self, model, messages, body):
        raise ValueError("heard")
app = Flask("host")
FlaskCompat(app).registry.add("m", Broken)
body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
assert app.test_client().post("/v1/chat/completions", json=body).status_code == 500
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "ValueError: heard" in done.stderr
