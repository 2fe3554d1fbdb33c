"""Text that looks like something else: events, headers, lines of the log, paths."""

from __future__ import annotations

import io
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from flaskcompat import APIError, BasePipelineWrapper, PipelineEvent, create_app

from ..support import (
    TIMEOUT,
    Raise,
    chat_body,
    chat_text,
    events_of,
    frames,
    make_app,
    post,
    response_body,
    returning,
    scripted,
    serving,
)

FORGED = (
    '\n\ndata: [DONE]\n\nevent: response.completed\ndata: {"forged": true}\r\n\r\n\u2028\u0085: x\n\nid: 1\nretry: 1\n'
)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_output_that_looks_like_events_is_text(path: str) -> None:
    app = make_app(m=scripted([FORGED, PipelineEvent("status", {"text": FORGED}), "end"]))
    body = {"model": "m", "stream": True, "input": "x", "messages": [{"role": "user", "content": "x"}]}
    response = post(app, path, body)
    for line in response.text.split("\n"):
        assert line == "" or line.startswith(("data: {", "data: [DONE]", "event: "))
    assert response.text.count("data: [DONE]\n") == 1 and response.text.endswith("data: [DONE]\n\n")
    if "chat" in path:
        assert chat_text(events_of(response.text)) == FORGED + "end"
    else:
        said = "".join(e["delta"] for e in events_of(response.text) if e["type"] == "response.output_text.delta")
        assert said == FORGED + "end"


def test_event_type_cannot_write_lines() -> None:
    event = {"event": {"type": "x\ndata: {}\n\nevent: y", "data": {}}}
    for path, body in (("/v1/responses", response_body(stream=True)), ("/v1/chat/completions", chat_body(stream=True))):
        names = [name for name, _ in frames(post(make_app(m=scripted([event, "a"])), path, body).text)]
        assert all(name is None or "\n" not in name for name in names)


def test_error_of_a_wrapper_cannot_write_headers() -> None:
    with pytest.raises(ValueError, match="HTTP has no form"):
        APIError(headers={"X-Why": "a\r\nX-Evil: 1"})
    # The last is not for an application to set.
    for headers in ({"X-Why": "a"}, {"Connection": "X-Evil"}):
        refuse = APIError("no\r\nX-Evil: 1", status=400, headers=headers)
        refuse.headers["X-Later"] = "a\r\nX-Evil: 1"
        with serving(make_app(m=scripted([Raise(refuse)]))) as url:
            for stream in (False, True):
                answer = httpx.post(f"{url}/v1/chat/completions", json=chat_body(stream=stream), timeout=TIMEOUT)
                assert "x-evil" not in answer.headers and answer.status_code >= 400
                assert answer.json()["error"]["type"]


@pytest.mark.parametrize("path", ["/v1/models/", "//v1/models", "/v1//models", "/models/", "//evil.example/v1/models"])
def test_host_is_never_repeated(path: str, tmp_path: Path) -> None:
    with serving(create_app({"FLASKCOMPAT_PIPELINES_DIR": str(tmp_path)})) as url:
        parts = httpx.URL(url)
        with socket.create_connection((parts.host, parts.port), timeout=TIMEOUT) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while data := connection.recv(65536):
                answer += data
    assert b"evil" not in answer and int(answer.split()[1]) in (200, 404)


@pytest.mark.parametrize("name", ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "/etc/passwd", "m/../n", "\x00", "."])
def test_names_are_no_paths(name: str) -> None:
    app = make_app(m=returning("x"))
    assert post(app, "/v1/chat/completions", chat_body(name)).status_code == 404
    found = app.test_client().get(f"/v1/models/{name}")
    assert found.status_code == 404 and "root:" not in found.text


def test_file_name_is_a_label() -> None:
    class Keeper(BasePipelineWrapper):
        def run_file_upload(self, filename: Any, content_type: Any, content: bytes, purpose: str) -> dict[str, Any]:
            names.append(filename)
            return {"id": "file-1"}

    names: list[str | None] = []
    client = make_app(m=Keeper()).test_client()
    for given, label in (
        ("../../etc/passwd", "passwd"),
        ("..", None),
        ("a" * 999, "a" * 255),
    ):
        upload = {"file": (io.BytesIO(b"x"), given), "purpose": "assistants"}
        assert client.post("/v1/files", data=upload).status_code == 200
        assert names[-1] == label


def test_log_stays_true(tmp_path: Path) -> None:
    code = """
import io, sys
from flaskcompat import APIError, BasePipelineWrapper, create_app
config = {"FLASKCOMPAT_PIPELINES_DIR": sys.argv[1], "FLASKCOMPAT_LOG_LEVEL": "DEBUG", "FLASKCOMPAT_AUDIT": True}
app = create_app(config)
class Wrapper(BasePipelineWrapper):
    def run_chat_completion(self, model, messages, body):
        raise ValueError(messages[0]["content"])
app.extensions["flaskcompat"].registry.add("m", Wrapper)
forged = "x\\n2026-01-01 00:00:00,000 INFO [req_1] forged\\r\\x1b[2J"
client = app.test_client()
for model in ("m", forged):
    body = {"model": model, "messages": [{"role": "user", "content": forged}], "stream": True}
    client.post("/v1/chat/completions", json=body).close()
client.get("/v1/models/%0a2026-01-01%20forged%1b").close()
client.get("/v1/models", headers={"x-request-id": "forged 1"}).close()
upload = {"file": (io.BytesIO(b"x"), "a\\x1bforged.txt"), "purpose": "x"}
client.post("/v1/files", data=upload).close()
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "forged" in done.stderr and "\x1b" not in done.stderr and "\r" not in done.stderr
    for line in done.stderr.splitlines():
        assert line.startswith(("20", "    ", "{")), line
        if line.startswith("20"):
            assert not line.startswith("2026-01-01"), line
            assert line.count("[req_") <= 2
