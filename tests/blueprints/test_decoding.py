"""Compressed bodies."""

from __future__ import annotations

import gzip
import json
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st

from flaskcompat import BasePipelineWrapper, get_last_user_message

from ..support import chat_body, make_app

zstandard = pytest.importorskip("zstandard", reason="the extra zstd is not installed")


def raw_deflate(data: bytes) -> bytes:
    pressed = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return pressed.compress(data) + pressed.flush()


PRESS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-Gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "bare deflate": ("Deflate", raw_deflate),
    "zstd": ("zstd", zstandard.ZstdCompressor().compress),
    "zstd stream": ("zstd", lambda data: _zstd_stream(data)),
}
kinds = pytest.mark.parametrize("kind", PRESS)


def _zstd_stream(data: bytes) -> bytes:
    """Without the size of the content in its head."""
    pressed = zstandard.ZstdCompressor().compressobj()
    return bytes(pressed.compress(data) + pressed.flush())


class Echo(BasePipelineWrapper):
    def run_chat_completion(self, model: str, messages: Any, body: Any) -> str:
        return get_last_user_message(messages) or ""

    def run_file_upload(self, filename: Any, content_type: Any, content: bytes, purpose: str) -> dict[str, Any]:
        return {"id": "file-1", "length": len(content)}


@pytest.fixture(scope="module")
def app() -> Flask:
    return make_app(m=Echo())


def send(app: Flask, encoding: str, data: bytes) -> Any:
    headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
    return app.test_client().post("/v1/chat/completions", data=data, headers=headers)


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.get_json()["error"]["code"]


@kinds
@pytest.mark.parametrize("size", [0, 1, 1000, 200_000])
def test_bodies_arrive_as_they_were(app: Flask, kind: str, size: int) -> None:
    encoding, press = PRESS[kind]
    text = "".join(map(str, range(size)))[:size] or "-"
    response = send(app, encoding, press(json.dumps(chat_body(text=text)).encode()))
    assert response.status_code == 200
    assert response.get_json()["choices"][0]["message"]["content"] == text


@kinds
def test_bomb_is_refused_before_it_goes_off(app: Flask, kind: str) -> None:
    encoding, press = PRESS[kind]
    bomb = press(b" " * 100_000_000)
    tracemalloc.start()
    try:
        assert code(send(app, encoding, bomb)) == (413, "request_too_large")
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()


@kinds
def test_broken_bodies(app: Flask, kind: str) -> None:
    encoding, press = PRESS[kind]
    good = press(json.dumps(chat_body()).encode())
    for bad in (b"", b"x", good[:-5], good[: len(good) // 2], b"\x00" * 100, good + b"x", good + good):
        assert code(send(app, encoding, bad)) == (400, "invalid_encoding"), bad
    assert code(send(app, encoding, press(b"no json"))) == (400, "invalid_json")


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "gzip,deflate", "compress", "*", "x" * 5000])
def test_other_encodings(app: Flask, encoding: str) -> None:
    response = send(app, encoding, b"{}")
    assert code(response) == (415, "unsupported_media_type") and len(response.data) < 300


@pytest.mark.parametrize("encoding", ["", "identity", " Identity "])
def test_no_encoding(app: Flask, encoding: str) -> None:
    assert send(app, encoding, json.dumps(chat_body()).encode()).status_code == 200


def test_zstd_without_its_package(
    app: Flask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    response = send(app, "zstd", b"x")
    assert code(response) == (415, "unsupported_media_type")
    assert "flaskcompat[zstd]" in caplog.text and "pip" not in response.text


@kinds
def test_uploads(app: Flask, kind: str) -> None:
    encoding, press = PRESS[kind]
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n%s\r\n'
    form += b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n--b--\r\n'
    headers = {"Content-Encoding": encoding, "Content-Type": "multipart/form-data; boundary=b"}
    client = app.test_client()
    kept = client.post("/v1/files", data=press(form % (b"y" * 300_000)), headers=headers)
    assert kept.status_code == 200 and kept.get_json()["length"] == 300_000
    app.config["FLASKCOMPAT_MAX_UPLOAD_BYTES"] = 1_000_000
    try:
        assert code(client.post("/v1/files", data=press(form % (b"y" * 2_000_000)), headers=headers))[0] == 413
    finally:
        app.config["FLASKCOMPAT_MAX_UPLOAD_BYTES"] = 128 * 1024 * 1024


@settings(max_examples=150, derandomize=True)
@given(st.sampled_from(sorted(PRESS)), st.binary(max_size=400), st.booleans())
def test_no_bytes_break_it(kind: str, data: bytes, pressed: bool) -> None:
    encoding, press = PRESS[kind]
    response = send(_app, encoding, press(data) if pressed else data)
    assert 400 <= response.status_code < 500


_app = make_app(m=Echo())
