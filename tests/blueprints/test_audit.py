from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from flask import Flask, Response
from haystack.dataclasses import StreamingChunk

from flaskcompat import FlaskCompat

from ..support import Raise, chat_body, post, response_body, returning, scripted

USAGE = {"usage": {"prompt_tokens": 3, "completion_tokens": 4}}
ITEMS: list[Any] = ["s3cret answer", StreamingChunk("", meta=USAGE, finish_reason="stop")]


@pytest.fixture
def app() -> Flask:
    app = Flask("host")
    app.config.update(FLASKCOMPAT_AUDIT=True, FLASKCOMPAT_API_KEYS="ann=key-s3cret")
    registry = FlaskCompat(app).registry
    registry.add("good", scripted(ITEMS))
    registry.add("bad", scripted(["a", Raise(ValueError("s3cret"))]))
    registry.add("once", returning("s3cret"))
    return app


def ask(app: Flask, path: str, body: Any, key: str = "key-s3cret") -> Any:
    response = app.test_client().post(path, json=body, headers={"Authorization": f"Bearer {key}"})
    response.get_data()
    response.close()
    return response


def records(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(r.getMessage()) for r in caplog.records if r.name == "flaskcompat.audit"]


@pytest.fixture(autouse=True)
def _level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("surface", ["chat_completion", "response"])
def test_one_line_for_each_call(app: Flask, caplog: pytest.LogCaptureFixture, surface: str, stream: bool) -> None:
    if surface == "response":
        response = ask(app, "/v1/responses", response_body("good", stream=stream, text="s3cret question"))
    else:
        response = ask(app, "/chat/completions", chat_body("good", stream=stream, text="s3cret question"))
    [record] = records(caplog)
    assert record.pop("milliseconds") > 0 and record.pop("time").endswith("Z")
    assert record == {
        "request_id": response.headers["x-request-id"],
        "method": "POST",
        "path": response.request.path,
        "status": 200,
        "principal": "ann",
        "model": "good",
        "surface": surface,
        "stream": stream,
        "error": None,
        "input_tokens": 3,
        "output_tokens": 4,
    }
    assert "s3cret" not in caplog.text


def test_stream_is_recorded_when_it_is_over(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    body = chat_body("bad", stream=True)
    response = app.test_client().post("/v1/chat/completions", json=body, headers={"Authorization": "Bearer key-s3cret"})
    assert response.status_code == 200 and records(caplog) == []
    response.get_data()
    response.close()
    [record] = records(caplog)
    assert (record["status"], record["error"]) == (200, "pipeline_error")


@pytest.mark.parametrize(
    ("body", "key", "status", "error", "principal"),
    [
        (chat_body("bad"), "key-s3cret", 500, "pipeline_error", "ann"),
        (chat_body("none"), "key-s3cret", 404, "model_not_found", "ann"),
        ({"model": "good"}, "key-s3cret", 400, "missing_required_parameter", "ann"),
        (chat_body("good"), "wrong", 401, "invalid_api_key", None),
    ],
)
def test_refusals_are_recorded(
    app: Flask, caplog: pytest.LogCaptureFixture, body: Any, key: str, status: int, error: str, principal: Any
) -> None:
    ask(app, "/v1/chat/completions", body, key)
    [record] = records(caplog)
    assert (record["status"], record["error"], record["principal"]) == (status, error, principal)


def test_text_of_clients_is_cut_and_escaped(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    app.test_client().get("/v1/" + "%1b" + "x" * 1000).close()
    [record] = records(caplog)
    assert len(record["path"]) == 201 and "\x1b" not in record["path"] and record["model"] is None


@pytest.mark.parametrize("hook_first", [False, True])
def test_answer_of_a_host_s_hook_is_what_is_recorded(hook_first: bool, caplog: pytest.LogCaptureFixture) -> None:
    app = Flask("host")
    app.config["FLASKCOMPAT_AUDIT"] = True
    if hook_first:
        app.after_request(lambda response: Response("hooked", 202))
    FlaskCompat(app).registry.add("m", returning("x"))
    if not hook_first:
        app.after_request(lambda response: Response("hooked", 202))
    post(app, "/v1/responses", response_body()).close()
    assert [(record["status"], record["model"]) for record in records(caplog)] == [(202, "m")]


def test_off_by_default(caplog: pytest.LogCaptureFixture) -> None:
    app = Flask("host")
    FlaskCompat(app)
    app.test_client().get("/v1/models")
    assert records(caplog) == []
