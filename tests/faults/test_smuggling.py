"""Bytes that one server reads otherwise than another, and requests refused by their head."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from flaskcompat import create_app

from ..support import TIMEOUT, chat_body, eventually, raw_exchange, returning, serving

BODY = json.dumps(chat_body()).encode()
NEXT = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Request-Id: smuggled\r\n\r\n"


@contextmanager
def site(folder: Any, **config: Any) -> Iterator[str]:
    app = create_app({"FLASKCOMPAT_PIPELINES_DIR": str(folder), **config})
    app.extensions["flaskcompat"].registry.add("m", returning("fine"))
    with serving(app) as url:
        yield url


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with site(tmp_path_factory.mktemp("none")) as url:
        yield url


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with site(tmp_path_factory.mktemp("none"), FLASKCOMPAT_API_KEYS="ann=right") as url:
        yield url


def head(*lines: str, path: str = "/v1/chat/completions", version: str = "HTTP/1.1") -> bytes:
    fixed = [f"POST {path} {version}", "Host: x", "Content-Type: application/json"]
    return "\r\n".join([*fixed, *lines, "", ""]).encode()


def error_of(answer: bytes, status: int) -> dict[str, Any]:
    first, _, rest = answer.partition(b"\r\n")
    assert int(first.split()[1]) == status, answer
    names = rest.partition(b"\r\n\r\n")[0].lower()
    assert b"x-request-id: req_" in names and b"content-type: application/json" in names
    error: dict[str, Any] = json.loads(rest.partition(b"\r\n\r\n")[2])["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


@pytest.mark.parametrize(
    "request_bytes",
    [
        head(f"Content-Length: {len(CHUNKED)}", "Transfer-Encoding: chunked") + CHUNKED + NEXT,
        head("Content-Length: 5", "Transfer-Encoding: chunked") + CHUNKED + NEXT,
        head("Transfer-Encoding: chunked", "Content-Length: 0") + CHUNKED + NEXT,
        head(f"Content-Length: {len(BODY)}", "Transfer-Encoding: chunked", version="HTTP/1.0") + BODY + NEXT,
        head(f"Content-Length: {len(BODY)}", "Content-Length: 3") + BODY + NEXT,
        head("Transfer-Encoding: xchunked") + CHUNKED + NEXT,
        head("Transfer-Encoding: gzip, chunked") + CHUNKED + NEXT,
        head("Transfer-Encoding : chunked") + CHUNKED + NEXT,
        head("Transfer-Encoding:", f"Content-Length: {len(BODY)}") + BODY + NEXT,
        head("Transfer-Encoding: chunked, chunked") + CHUNKED + NEXT,
        head("Transfer-Encoding: chunked", "transfer-encoding: chunked") + CHUNKED + NEXT,
        head("Transfer-Encoding: chunked", "Transfer-Encoding: identity") + CHUNKED + NEXT,
        head("Content-Length: " + "9" * 5000) + BODY + NEXT,
        b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n" + NEXT,
        head("Transfer-Encoding: chunked") + b"zz\r\n" + CHUNKED + NEXT,
        head(f"Content-Length: +{len(BODY)}") + BODY + NEXT,
        head(f"Content-Length: {len(BODY):#x}") + BODY + NEXT,
        head("Content-Length: -1") + BODY + NEXT,
        head(f"Content-Length: {len(BODY)}").replace(b"Host: x\r\n", b"Host: x\n") + BODY + NEXT,
        head(" folded: x", f"Content-Length: {len(BODY)}").replace(b"\r\n folded", b"\r\n\r folded") + BODY + NEXT,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n" + NEXT,
        head("Transfer-Encoding: chunked").replace(b"Host: x\r\n", b"Host: \x00\r\n") + CHUNKED + NEXT,
    ],
)
def test_ambiguous_request_is_refused_and_what_follows_is_not_served(url: str, request_bytes: bytes) -> None:
    answer = raw_exchange(url, request_bytes)
    error_of(answer, 400)
    assert answer.count(b"HTTP/1.") == 1 and b"smuggled" not in answer


def test_chunked_body_is_read(url: str) -> None:
    answer = raw_exchange(url, head("Transfer-Encoding: chunked", "Connection: close") + CHUNKED)
    assert answer.startswith(b"HTTP/1.1 200") and b"fine" in answer


def test_request_line_alone_is_answered(url: str) -> None:
    error_of(raw_exchange(url, b"GET /v1/models HTTP/9.9.9\r\n\r\n"), 400)
    assert raw_exchange(url, b"GET /v1/models\r\n\r\n").startswith(b"HTTP/1.0 200")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET http://" + b"1" * 60_000 + b" X\r\n\r\n",
        b"GET / HTTP/1.1\r\na:" + b" " * 60_000 + b"\0\r\n\r\n",
        b"GET /healthz HTTP/1.1\nHost: x\n\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\n",
    ],
)
def test_head_that_is_none_is_refused_at_once(url: str, request_bytes: bytes) -> None:
    begun = time.monotonic()
    assert error_of(raw_exchange(url, request_bytes), 400)["code"] == "invalid_http"
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize("lines", [["Transfer-Encoding: gzip"], ["Content-Length: x"], ["Content-Length: 10000001"]])
def test_refusal_of_head_has_no_body(url: str, lines: list[str]) -> None:
    answer = raw_exchange(url, head(*lines).replace(b"POST", b"HEAD"))
    assert answer.startswith(b"HTTP/1.") and b"Content-Length: " in answer and answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("size", [b"f" * 16, b"f" * 300, b"989681"])
def test_chunk_that_is_too_large_is_refused_by_its_size(url: str, size: bytes) -> None:
    answer = read_one(url, head("Transfer-Encoding: chunked") + size + b"\r\n")
    assert error_of(answer, 413)["code"] == "request_too_large"


def test_head_that_is_too_large(url: str) -> None:
    error = error_of(raw_exchange(url, head("X-Filler: " + "x" * 70_000)), 431)
    assert error["code"] == "headers_too_large"


def test_length_that_is_too_large_is_refused_by_the_head(url: str) -> None:
    for lines in (("Content-Length: 10000001",), ("Content-Length: 10000001", "Expect: 100-continue")):
        for path in ("/v1/chat/completions", "/responses"):
            answer = read_one(url, head(*lines, path=path))
            assert error_of(answer, 413)["code"] == "request_too_large"
    answer = read_one(url, head("Content-Length: 135266304", path="/v1/files"))
    assert error_of(answer, 413)["code"] == "request_too_large"


def test_chunks_that_grow_too_large(url: str) -> None:
    piece = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    answer = read_one(url, head("Transfer-Encoding: chunked") + piece * 11)
    assert error_of(answer, 413)["code"] == "request_too_large"


@pytest.mark.parametrize("around", [b"3;a=", b"1", b"0\r\nX: "])
def test_what_stands_around_chunks_is_bounded(url: str, around: bytes) -> None:
    answer = read_one(url, head("Transfer-Encoding: chunked") + around + b"1" * 100_000)
    assert error_of(answer, 400)["code"] == "invalid_http"


def test_client_that_sends_all_the_same_reads_why(url: str) -> None:
    answer = httpx.post(f"{url}/v1/responses", content=b" " * 30_000_000, headers=JSON, timeout=TIMEOUT)
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "request_too_large"


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions", "/v1/responses", "/v1/files", "/files"])
@pytest.mark.parametrize("key", [None, "Bearer wrong", "Bearer \xff", "Basic right", "Bearer"])
def test_key_is_asked_for_before_the_body(guarded: str, path: str, key: str | None) -> None:
    lines = ["Content-Length: 1000000", *([f"Authorization: {key}"] if key else [])]
    for more in ([], ["Expect: 100-continue"]):
        answer = read_one(guarded, head(*lines, *more, path=path).decode().encode("latin-1"))
        assert error_of(answer, 401)["code"] == "invalid_api_key"
        assert b"www-authenticate: bearer" in answer.lower()


def test_right_key_goes_on(guarded: str) -> None:
    headers = {"Authorization": "Bearer right"}
    answer = httpx.post(f"{guarded}/v1/chat/completions", json=chat_body(), headers=headers, timeout=TIMEOUT)
    assert answer.status_code == 200
    answer = httpx.post(f"{guarded}/v1/files", files={"file": b"x" * 5_000_000}, headers=JSON, timeout=TIMEOUT)
    assert answer.status_code == 401


def read_one(url: str, request: bytes) -> bytes:
    """The answer to what is only the beginning of a request; it must come without the rest."""
    begun = time.monotonic()
    parts = httpx.URL(url)
    with socket.create_connection((parts.host, parts.port), timeout=TIMEOUT) as connection:
        try:
            connection.sendall(request)
        except ConnectionError:
            pass
        answer = b""
        while data := connection.recv(65536):
            answer += data
    assert time.monotonic() - begun < 4
    return answer


def test_connection_that_lingers_is_closed_in_the_end(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flaskcompat.server.channel.LINGER", 0.5)
    parts = httpx.URL(url)
    with socket.create_connection((parts.host, parts.port), timeout=TIMEOUT) as connection:
        connection.sendall(head("Content-Length: 10000001"))
        while connection.recv(65536):
            pass

        def refused() -> bool:
            try:
                connection.send(b"x")
                return False
            except ConnectionError:
                return True

        assert eventually(refused)
