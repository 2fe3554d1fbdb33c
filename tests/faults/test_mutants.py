"""A thousand and more mutants of good requests, over a real socket: refused or answered, and nothing breaks."""

from __future__ import annotations

import copy
import gzip
import json
import random
import re
import socket
import threading
import time
from collections import Counter
from typing import Any

import httpx

from ..support import TIMEOUT, chat_body, eventually
from .processes import Server, kinds, serving

SEED = 20240817
MUTANTS = 1600
MARK = "Zq7mark"  # stands in much of what is sent, and must not come back in a header


TOOL = {"name": f"look_{MARK}", "description": "looks", "parameters": {"type": "object", "properties": {}}}
CHAT: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "name": "ann", "content": [
            {"type": "text", "text": f"look {MARK}"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}},
            {"type": "file", "file": {"filename": "a.txt", "file_data": "data:text/plain;base64,eA=="}},
            {"type": "input_audio", "input_audio": {"data": "eA==", "format": "wav"}},
        ]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": f"look_{MARK}", "arguments": "{\"a\": 1}"}}
        ]},
        {"role": "tool", "tool_call_id": "call_1", "content": "seen"},
        {"role": "user", "content": "and now?"},
    ],
    "tools": [{"type": "function", "function": TOOL}],
    "tool_choice": {"type": "function", "function": {"name": f"look_{MARK}"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    "stream": True,
    "stream_options": {"include_usage": True},
    "metadata": {"k": "v"},
    "temperature": 0.5,
    "top_p": 1,
    "n": 1,
    "stop": ["x"],
    "max_completion_tokens": 10,
    "logit_bias": {"1": 1},
    "user": "u",
    "seed": 1,
    "parallel_tool_calls": True,
}  # fmt: skip
RESPONSE: dict[str, Any] = {
    "model": "m",
    "instructions": "be brief",
    "input": [
        {"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": f"look {MARK}"},
            {"type": "input_image", "image_url": "https://example.com/x.png", "detail": "auto"},
            {"type": "input_file", "file_id": "file-1", "filename": "a.txt"},
        ]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "seen"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "ok", "annotations": []}]},
        {"role": "user", "content": "and now?"},
    ],
    "tools": [{"type": "function", **TOOL}, {"type": "web_search"}],
    "tool_choice": "auto",
    "text": {"format": {"type": "text"}},
    "reasoning": {"effort": "low", "summary": "auto"},
    "store": False,
    "stream": False,
    "metadata": {"k": "v"},
    "include": ["reasoning.encrypted_content"],
    "max_output_tokens": 10,
    "temperature": 1,
    "truncation": "auto",
    "parallel_tool_calls": True,
}  # fmt: skip
ODD: list[Any] = [
    None, True, -1, 0, 2**63, -(2**70), 1e308, "", " ", "\x00", "\ud800", "é" * 300, MARK * 2000, [], {}, [None], [[]],
    {"type": MARK}, {"": ""}, [1, "a", None], {"a": {"b": [{}]}}, f"{MARK}\r\nX-Evil: 1", "../../etc/passwd", "1",
]  # fmt: skip

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
Node = tuple[Any, Any]


def nodes(value: Any) -> list[Node]:
    """Each place in *value*, as its container and key."""
    found: list[Node] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        found.append((value, key))
        found += nodes(item)
    return found


def mutate_value(chance: random.Random, body: Any) -> Any:
    body = copy.deepcopy(body)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        places = nodes(body)
        if not places:
            break
        holder, key = chance.choice(places)
        match chance.randrange(6):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[chance.choice((MARK, "type", "role", "content", ""))] = holder.pop(key)
            case 2:
                holder[key] = [holder[key]]
            case 3 if isinstance(holder, list):
                holder.extend(holder[:] * chance.choice((1, 20)))
            case _:
                holder[key] = copy.deepcopy(chance.choice(ODD))
    return body


def deep(levels: int) -> bytes:
    return b'{"model":"m","messages":' + b"[" * levels + b"]" * levels + b"}"


def mutate_bytes(chance: random.Random, body: bytes) -> bytes:
    spot = chance.randrange(max(1, len(body)))
    return chance.choice(
        [
            lambda: body[:spot],
            lambda: body[:spot] + bytes([chance.randrange(256)]) + body[spot + 1 :],
            lambda: body + b"}",
            lambda: b"\xef\xbb\xbf" + body,
            lambda: body.decode().encode("utf-16"),
            lambda: body.replace(b'"', b"\xff", 1),
            lambda: body.replace(b"0.5", b"1e999").replace(b"10", b"NaN"),
            lambda: b"",
            lambda: b"null",
            lambda: b"[]",
            lambda: b'"x"',
            lambda: b"9" * 5000,
            lambda: deep(50_000),
            lambda: deep(99),
            lambda: body + b" " * 100_000,
        ]
    )()


PATHS = ["/v1/models", "/v1/models/m", "/v1/chat/completions", "/v1/responses", "/v1/files"]
PATHS += [path.removeprefix("/v1") for path in PATHS] + ["/healthz", "/readyz"]
ENDINGS = ["", "/", "//", "%00", "%0d%0aX-Evil:1", "/..%2f..%2fetc/passwd", "/%ff%fe", "/" + "a" * 3000, f"/{MARK}"]
ENDINGS += ["?x=%00&stream=true", f"?{'a=b&' * 500}", "/é", ";x=1", "/%2e%2e/%2e%2e", "/\\..\\x"]
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "BREW", "get"]
TYPES = ["application/json", "application/json; charset=utf-16", "text/plain", "", "application/x-www-form-urlencoded"]
TYPES += ["multipart/form-data", "multipart/form-data; boundary=" + "b" * 500, "application/json\t;;;", MARK]
HEADERS: list[tuple[bytes, bytes]] = [
    (b"X-Request-Id", MARK.encode() * 50),
    (b"X-Request-Id", b"a b"),
    (b"Authorization", b"Bearer \xff\xfe"),
    (b"Authorization", b"Basic " + MARK.encode()),
    (b"Content-Encoding", b"gzip"),
    (b"Content-Encoding", b"br, gzip"),
    (b"Content-Encoding", MARK.encode()),
    (b"Accept", b"\xff" * 200),
    (b"Cookie", MARK.encode() * 1000),
    (b"Host", b"evil.example:99999/" + MARK.encode()),
    (b"Expect", b"100-continue"),
    (b"Expect", MARK.encode()),
    (b"Connection", b"upgrade"),
    (b"Upgrade", b"websocket"),
    (b"X-Forwarded-For", b"1.2.3.4, " + MARK.encode()),
    (b"Range", b"bytes=0-"),
    (b"Transfer-Encoding", b"gzip"),
    (b"X_Under", b"1"),
    (b"If-Match", b'"' + b"x" * 5000 + b'"'),
]


def upload(chance: random.Random) -> tuple[str, bytes]:
    """A multipart body, mostly a bad one, and its content type."""
    name = chance.choice(["a.txt", "../../etc/passwd", "\x00", "a\r\nX-Evil: 1", MARK * 500, "é", '"', "C:\\x", ""])
    field = chance.choice(["file", "purpose", MARK, "", "file[]"])
    purpose = chance.choice(["assistants", "", MARK * 100, "x" * 600_000, "\xff"])
    part = f'--b\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\ncontent\r\n'
    part += f'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n'
    body = (
        part * chance.choice((1, 1, 2, 1200 if len(purpose) < 100 else 1)) + chance.choice(("--b--\r\n", ""))
    ).encode("utf-8", "surrogatepass")
    kind = chance.choice(["multipart/form-data; boundary=b"] * 4 + TYPES)
    return kind, mutate_bytes(chance, body[:100_000]) if chance.random() < 0.2 else body


def mutant(chance: random.Random) -> bytes:
    """One whole request."""
    path = chance.choice(PATHS)
    posts = not ("models" in path or path.endswith("z"))
    method = "POST" if posts else "GET"
    kind, body = "application/json", b""
    if path.endswith("files"):
        kind, body = upload(chance)
    elif posts:
        good = CHAT if "chat" in path else RESPONSE
        body = json.dumps(mutate_value(chance, good) if chance.random() < 0.75 else good).encode()
        if chance.random() < 0.25:
            body = mutate_bytes(chance, body)
    if chance.random() < 0.15:
        path += chance.choice(ENDINGS)
    if chance.random() < 0.1:
        method = chance.choice(METHODS)
    if chance.random() < 0.1:
        kind = chance.choice(TYPES)
    extra = chance.sample(HEADERS, chance.choice((0, 0, 0, 0, 1, 3)))
    if chance.random() < 0.05:
        extra, body = [*extra, (b"Content-Encoding", b"gzip")], gzip.compress(body, mtime=0)
    length = str(len(body)).encode()
    if chance.random() < 0.04:
        length = chance.choice((b"-1", b"1e3", b"", b"99999999999999999999", b"0x10", b"5, 5"))
    lines = [f"{method} {path} HTTP/1.1".encode("utf-8", "surrogateescape"), b"Host: x"]
    lines += [b"Content-Type: " + kind.encode("utf-8", "surrogateescape"), b"Content-Length: " + length]
    lines += [b": ".join(header) for header in extra]
    return b"\r\n".join([*lines, b"", body])


def answer_to(url: str, request: bytes) -> bytes:
    """What comes back, until it is whole or the server closes."""
    parts = httpx.URL(url)
    with socket.create_connection((parts.host, parts.port), timeout=5) as connection:
        sender = threading.Thread(target=_send, args=(connection, request))
        sender.start()
        answer = b""
        try:
            while not _is_whole(answer, request.startswith(b"HEAD")) and (data := connection.recv(65536)):
                answer += data
        finally:
            connection.close() if sender.is_alive() else None
            sender.join()
    return answer


def _send(connection: socket.socket, request: bytes) -> None:
    try:
        connection.sendall(request)
    except OSError:  # refused before it was all sent
        pass


def _is_whole(answer: bytes, head_only: bool) -> bool:
    head, _, body = answer.removeprefix(CONTINUE).partition(b"\r\n\r\n")
    if b"\r\ntransfer-encoding: chunked" in head.lower():
        return head_only or body.endswith(b"\r\n0\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)", head.lower())
    return bool(length and (head_only or len(body) >= int(length[1])))


def check(request: bytes, answer: bytes, kind: str) -> None:
    head, _, body = answer.removeprefix(CONTINUE).partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    status = int(first.split(b" ")[1])
    headers = dict(line.lower().split(b": ", 1) for line in lines)
    if kind == "gunicorn" and b"x-request-id" not in headers:
        assert status in (400, 413, 414, 417, 431, 501), "it refuses heads that are none by itself"
        return
    assert status < 500 and status >= 200
    assert MARK.lower().encode() not in head.lower().replace(headers[b"x-request-id"], b"")
    assert b"evil" not in head.lower() and b"location" not in headers
    assert re.fullmatch(rb"[a-z0-9._-]{1,128}", headers[b"x-request-id"])
    if request.startswith(b"HEAD"):
        assert body == b""
    elif status >= 400:
        assert len(body) < 4096
        error = json.loads(body)["error"]
        assert set(error) == {"message", "type", "param", "code"} and error["message"] and error["type"]


def send_all(server: Server, kind: str, number: int, seed: int) -> Counter[str]:
    """Send so many mutants; gives how often each status came."""
    chance, statuses = random.Random(seed), Counter[str]()
    for index in range(number):
        request, answer = mutant(chance), b""
        begun = time.monotonic()
        try:
            answer = answer_to(server.url, request)
            check(request, answer, kind)
            assert time.monotonic() - begun < 5
        except Exception as error:
            raise AssertionError(
                f"mutant {index}: {type(error).__name__} {error}\n{request[:3000]!r}\n->\n{answer[:1000]!r}"
            ) from error
        statuses[answer[9:12].decode()] += 1
    return statuses


@kinds
def test_no_mutant_breaks_the_server(kind: str) -> None:
    with serving(kind, 8) as server:
        for path, body in (("/v1/chat/completions", CHAT), ("/v1/responses", RESPONSE)):
            assert httpx.post(server.url + path, json=body, timeout=TIMEOUT).status_code == 200
        send_all(server, kind, 300, SEED - 1)  # starts what is kept: threads, memory of the allocator
        threads, descriptors = server.threads_and_descriptors
        memory = server.memory
        statuses = send_all(server, kind, MUTANTS, SEED)
        assert statuses["200"] > MUTANTS / 10 and statuses["400"] > MUTANTS / 10, statuses
        done = httpx.post(f"{server.url}/v1/chat/completions", json=chat_body(), timeout=TIMEOUT)
        assert done.json()["choices"][0]["message"]["content"] == "1 messages"
        assert eventually(lambda: server.threads_and_descriptors[0] <= threads + 10)
        assert eventually(lambda: server.threads_and_descriptors[1] <= descriptors + 3)
        assert server.memory <= memory + 32
        assert "unforeseen error" not in server.log and "Traceback" not in server.log
