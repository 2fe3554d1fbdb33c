"""What the README shows runs as it is pasted, and its tables say what the code says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from openai import OpenAI

import flaskcompat
from flaskcompat import FlaskCompat
from flaskcompat.config import SETTINGS
from flaskcompat.runtime.wrapper import METHODS
from flaskcompat.server import DEFAULT_HOST, DEFAULT_PORT, DEFAULT_THREADS

from .support import chat_body, post, serving

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def rows(head: str) -> list[list[str]]:
    table = README.split(head)[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()[1:]]


def test_settings_table_is_the_code_s() -> None:
    shown = [(name.strip("`"), default.strip("`"), about) for name, default, about in rows("| setting | default | |\n")]
    assert shown == [(s.name, "" if s.default is None else str(s.default), s.about) for s in SETTINGS]


def test_every_public_name_is_explained() -> None:
    for name in flaskcompat.__all__:
        assert name.startswith("__") or name in README, name
    for method in METHODS:
        assert method.removesuffix("_async") in README


def test_serve_command_shows_the_defaults() -> None:
    assert f"serve --host {DEFAULT_HOST} --port {DEFAULT_PORT} --threads {DEFAULT_THREADS}" in README


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    wrapper = blocks("python")[0]
    (tmp_path / "shout").mkdir()
    (tmp_path / "shout" / "pipeline_wrapper.py").write_text(wrapper)
    app = Flask("host")
    FlaskCompat(app, pipelines=tmp_path)
    return app


def test_wrapper_and_client_run_as_pasted(app: Flask, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client_code = blocks("python")[1]
    assert "http://localhost:1416/v1" in client_code
    made: list[OpenAI] = []
    with serving(app) as url:
        code = client_code.replace("http://localhost:1416", url)
        names: dict[str, Any] = {}
        exec(compile(code, "README.md", "exec"), names)
        made.append(names["client"])
        made[0].close()
    assert capsys.readouterr().out == "GOOD MORNING "
    answer = post(app, "/v1/chat/completions", chat_body("shout", text="hello there")).json
    assert answer["choices"][0]["message"]["content"] == "HELLO THERE "


def test_embedding_runs_as_pasted(app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pipelines").mkdir()
    monkeypatch.chdir(tmp_path)
    host = Flask("host")
    wrapper = type(app.extensions["flaskcompat"]["shout"].wrapper)
    exec(compile(blocks("python")[2], "README.md", "exec"), {"app": host, "ShoutWrapper": wrapper})
    listed = host.test_client().get("/ai/v1/models").json
    assert [model["id"] for model in listed["data"]] == ["shout"]
