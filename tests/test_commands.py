"""``flask flaskcompat ...``."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import Result
from flask import Flask
from haystack.dataclasses import ReasoningContent, StreamingChunk, ToolCallDelta

from flaskcompat import FlaskCompat

from .support import Raise, make_app, scripted

THOUGHT = StreamingChunk("", index=0, reasoning=ReasoningContent("hm "))
CALL = StreamingChunk("", index=1, tool_calls=[ToolCallDelta(1, "look", '{"a": 1}', id="c")], start=True)


def run(app: Flask, *arguments: str) -> Result:
    return app.test_cli_runner().invoke(args=["flaskcompat", *arguments])


def test_models() -> None:
    app = make_app(beta=scripted(["x"]), a=scripted(["x"]))
    done = run(app, "models")
    assert (done.exit_code, done.output) == (0, "a     chat, responses\nbeta  chat, responses\n")
    app.extensions["flaskcompat"].registry.failed["broken"] = "ValueError: no"
    done = run(app, "models")
    assert done.exit_code == 1 and "broken  FAILED: ValueError: no" in done.output


@pytest.mark.parametrize("more", [[], ["--stream"], ["--responses"], ["--stream", "--responses"]])
def test_call(more: list[str]) -> None:
    app = make_app(m=scripted([THOUGHT, "some ", "words"]))
    done = run(app, "call", "m", "hi", *more)
    assert (done.exit_code, done.output) == (0, "hm some words\n")


@pytest.mark.parametrize("more", [["--stream"], ["--stream", "--responses"]])
def test_reasoning_is_dimmed_and_a_failure_is_an_error(more: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []
    monkeypatch.setattr(click, "echo", lambda text="", nl=True, **_: said.append(text))
    app = make_app(m=scripted([THOUGHT, "words", Raise(ValueError("secret"))]))
    done = run(app, "call", "m", "hi", *more)
    assert click.style("hm ", dim=True) in said and "words" in said
    assert done.exit_code == 1 and "secret" not in str(said)


def test_unknown_model_and_keys() -> None:
    app = Flask("host")
    app.config["FLASKCOMPAT_API_KEYS"] = "sesame"
    FlaskCompat(app, url_prefix="/ai").registry.add("m", scripted(["hi"]))
    refused = run(app, "call", "m", "hi")
    assert refused.exit_code == 1 and "key" in refused.output
    assert run(app, "call", "m", "hi", "--key", "sesame").output == "hi\n"
    unknown = run(app, "call", "none", "hi", "--key", "sesame")
    assert unknown.exit_code == 1 and "'none' does not exist" in unknown.output
