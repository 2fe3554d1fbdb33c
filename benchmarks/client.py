"""The client that measures: one thread, which must cost less than any server that it asks."""

from __future__ import annotations

import json
import re
import select
import socket
from time import perf_counter
from typing import Any, Protocol

_WORD = re.compile(rb'"(?:content|delta)": ?"w\d')
_PIECE = 256 * 1024


def chat(model: str, text: str, *, stream: bool = False, history: list[dict[str, str]] | None = None) -> bytes:
    """A request for a chat completion."""
    messages = [*(history or []), {"role": "user", "content": text}]
    return _post("/v1/chat/completions", {"model": model, "messages": messages, "stream": stream})


def response(model: str, text: str, *, stream: bool = False, store: bool = False) -> bytes:
    """A request for a response."""
    return _post("/v1/responses", {"model": model, "input": text, "stream": stream, "store": store})


def _post(path: str, body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


class _Connection(Protocol):
    socket: socket.socket

    def on_data(self, data: bytes, now: float) -> bool:
        """What has come; False once nothing more is wanted."""


class Exchanges:
    """One request after the other on a connection that is kept.

    :ivar latencies: seconds of each.
    """

    def __init__(self, port: int, request: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = request
        self._buffer = b""
        self._size = 0  # of the whole answer; 0 while its head is not there
        self.latencies: list[float] = []
        self._send()

    def _send(self) -> None:
        self._buffer, self._size, self._sent = b"", 0, perf_counter()
        self.socket.sendall(self._request)

    def on_data(self, data: bytes, now: float) -> bool:
        if not data:
            raise ConnectionError("an exchange was ended by the server")
        self._buffer += data
        if not self._size:
            head, end, _ = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return True
            length = re.search(rb"(?i)content-length: ?(\d+)", head)
            if not head.startswith(b"HTTP/1.1 200") or length is None:
                raise ConnectionError(f"not a whole answer: {self._buffer[:200]!r}")
            self._size = len(head) + len(end) + int(length[1])
        if len(self._buffer) >= self._size:
            self.latencies.append(now - self._sent)
            self._send()
        return True


class Stream:
    """One streamed answer, on a connection of its own.

    :ivar words: how many came.
    :ivar first: seconds to the first one; None without one.
    :ivar took: seconds to the end of the body; None while it is not there.
    """

    def __init__(self, port: int, request: bytes) -> None:
        self.begun = perf_counter()
        self.socket = socket.socket()
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(request)
        self.words = 0
        self.first: float | None = None
        self.took: float | None = None
        self._rest = b""  # of a line that has begun

    def on_data(self, data: bytes, now: float) -> bool:
        if not data:
            return False
        data = self._rest + data
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        found = len(_WORD.findall(data, 0, end))
        if found and self.first is None:
            self.first = now - self.begun
        self.words += found
        if data.endswith(b"\n0\r\n\r\n") or (data == b"0\r\n\r\n"):
            self.took = now - self.begun
            return False
        return True


def drive(connections: list[Any], seconds: float) -> None:
    """Read what comes for *connections* until none wants more, or *seconds* are over; then close them."""
    loop = select.epoll()
    wanted: dict[int, _Connection] = {}
    for connection in connections:
        wanted[connection.socket.fileno()] = connection
        loop.register(connection.socket.fileno(), select.EPOLLIN)
    end = perf_counter() + seconds
    while wanted and (left := end - perf_counter()) > 0:
        for descriptor, _ in loop.poll(left):
            connection = wanted[descriptor]
            try:
                data = connection.socket.recv(_PIECE)
            except OSError:
                data = b""
            if not connection.on_data(data, perf_counter()):
                loop.unregister(descriptor)
                del wanted[descriptor]
                connection.socket.close()
    for connection in wanted.values():
        connection.socket.close()
    loop.close()
