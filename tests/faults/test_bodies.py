"""Bodies that are no bodies, or too large, as each server reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from ..support import raw_exchange
from .processes import KINDS, Server, serving

GOOD = b'{"model":"plain","messages":[{"role":"user","content":"{}"}]}'
LARGEST = 10_000_000


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serving(request.param, 8) as server:
        yield server


def status_and_code(server: Server, body: bytes, path: str = "/v1/chat/completions") -> tuple[int, str | None]:
    """Of the answer to *body*, sent as chunks."""
    kind = "application/json" if "files" not in path else "multipart/form-data; boundary=b"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n"
    answer = raw_exchange(server.url, f"{head}Connection: close\r\n\r\n".encode() + body)
    first, _, rest = answer.partition(b"\r\n")
    assert b"x-request-id: " in rest.lower()
    body = rest.partition(b"\r\n\r\n")[2]
    return int(first.split()[1]), json.loads(body)["error"]["code"] if b'"error"' in body else None


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/files"])
@pytest.mark.parametrize(
    "body", [b"zz\r\n", b"0x5\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n"]
)
def test_chunks_that_are_none(server: Server, path: str, body: bytes) -> None:
    assert status_and_code(server, body, path)[0] == 400
    assert "Traceback" not in server.log


def test_chunks_up_to_the_limit_and_past_it(server: Server) -> None:
    assert status_and_code(server, chunked(GOOD.ljust(LARGEST))) == (200, None)
    assert status_and_code(server, chunked(GOOD.ljust(LARGEST) + b"}}")) == (413, "request_too_large")
    assert status_and_code(server, chunked(GOOD.ljust(LARGEST + 2_000_000))) == (413, "request_too_large")
