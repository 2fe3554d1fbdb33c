"""What is measured of one server that runs. Each measurement gives figures by name."""

from __future__ import annotations

import json
import os
import socket
import statistics
import time
from collections.abc import Callable, Iterator

import client
from servers import Server

Figures = Iterator[tuple[str, float]]

#: Kept-alive connections, streams without delay, slow streams.
CONNECTIONS, BURSTS, SLOW = (1, 16, 64), (1, 16), (50, 200, 500, 1000)
_SECONDS = 2.0  # of a measurement that goes on as long as one likes
_LIMIT = 30.0  # seconds after which a stream counts as lost
_BURST = "2000"  # words
_WORDS, _DELAY = 30, 0.05  # of a slow stream: 1.5 seconds if nobody waits
_SILENT, _SILENCE = 100, 10.0
_UPLOAD_MB = 100
_MODELS = {"sync": "words", "async": "words_async"}
_APIS = {"chat": client.chat, "responses": client.response}


def requests(server: Server) -> Figures:
    """Whole answers per second."""
    for api, request in _APIS.items():
        for count in CONNECTIONS:
            latencies, _ = _exchange(server, request("echo", "hello there"), count)
            name = f"{api}, {count} connection{'s' * (count > 1)}"
            yield f"{name}, requests/s", len(latencies) / _SECONDS
            yield f"{name}, p50 ms", statistics.median(latencies) * 1000


def history(server: Server) -> Figures:
    """The same with a thousand messages of a kilobyte."""
    turn = "All that was said before is sent again and again. " * 20
    said = [{"role": ("user", "assistant")[number % 2], "content": turn} for number in range(1000)]
    latencies, _ = _exchange(server, client.chat("echo", "hello", history=said), 1)
    yield "1 MB of history, requests/s", len(latencies) / _SECONDS


def store(server: Server) -> Figures:
    """Whole answers per second that are forgotten, and that are kept."""
    for kept in (False, True):
        latencies, _ = _exchange(server, client.response("echo", "hello there", store=kept), 16)
        yield f"responses, store: {str(kept).lower()}, 16 connections, requests/s", len(latencies) / _SECONDS


def _exchange(server: Server, request: bytes, connections: int) -> tuple[list[float], float]:
    client.drive([client.Exchanges(server.port, request) for _ in range(connections)], _SECONDS / 5)  # warm
    exchanges = [client.Exchanges(server.port, request) for _ in range(connections)]
    cpu = server.cpu()
    client.drive(exchanges, _SECONDS)
    return [latency for exchange in exchanges for latency in exchange.latencies], server.cpu() - cpu


def burst(server: Server) -> Figures:
    """Words per second of streams without delay."""
    for api, request in _APIS.items():
        for kind, model in _MODELS.items():
            for count in BURSTS:
                _warm(server, api, model)
                words = took = 0.0
                while took < _SECONDS:
                    streams = _streams(server, request(model, _BURST, stream=True), count)
                    if any(stream.took is None for stream in streams):
                        raise SystemExit(f"a stream of {model} was lost")
                    words += sum(stream.words for stream in streams)
                    took += _wall(streams)
                yield f"{api}, {kind}, {count} stream{'s' * (count > 1)}, words/s", words / took


def slow(server: Server) -> Figures:
    """Streams of twenty words a second: how late they end, and what they cost."""
    for kind, model in _MODELS.items():
        for count in SLOW:
            _warm(server, "chat", model)
            time.sleep(0.5)
            server.forget_peak()
            cpu = server.cpu()
            streams = _streams(server, client.chat(model, f"{_WORDS} {_DELAY}", stream=True), count)
            words = sum(stream.words for stream in streams)
            firsts = sorted(stream.first if stream.first is not None else _LIMIT for stream in streams)
            name = f"{kind}, {count} slow streams"
            yield f"{name}, whole", sum(s.took is not None and s.words == _WORDS for s in streams) / count
            yield f"{name}, wall s", _wall(streams)
            yield f"{name}, first word p50 ms", firsts[count // 2] * 1000
            yield f"{name}, first word p99 ms", firsts[int(count * 0.99)] * 1000
            yield f"{name}, CPU s per 1000 words", (server.cpu() - cpu) / words * 1000
            yield f"{name}, peak MB", server.memory(peak=True)


def idle(server: Server) -> Figures:
    """What open streams cost that say nothing."""
    for kind, model in _MODELS.items():
        request = client.chat(model, f"1 {_SILENCE + 4}", stream=True)
        streams = [client.Stream(server.port, request) for _ in range(_SILENT)]
        time.sleep(2)  # until all have begun
        cpu, begun = server.cpu(), time.perf_counter()
        time.sleep(_SILENCE)
        yield (
            f"{kind}, {_SILENT} silent streams, % of a core",
            ((server.cpu() - cpu) / (time.perf_counter() - begun) * 100),
        )
        client.drive(streams, _LIMIT)


def upload(server: Server) -> Figures:
    """One large file; and back, where the server keeps it."""
    edge = b"----edge"
    fields = b'--%b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n--%b\r\n' % (edge, edge)
    fields += b'Content-Disposition: form-data; name="file"; filename="big.bin"\r\n'
    fields += b"Content-Type: application/octet-stream\r\n\r\n"
    end, piece = b"\r\n--%b--\r\n" % edge, os.urandom(1 << 20)
    head = "POST /v1/files HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    head += f"Content-Type: multipart/form-data; boundary={edge.decode()}\r\n"
    head += f"Content-Length: {len(fields) + _UPLOAD_MB * len(piece) + len(end)}\r\n\r\n"
    server.forget_peak()
    memory, begun = server.memory(), time.perf_counter()
    with socket.create_connection(("127.0.0.1", server.port), timeout=_LIMIT) as connection:
        connection.sendall(head.encode() + fields)
        for _ in range(_UPLOAD_MB):
            connection.sendall(piece)
        connection.sendall(end)
        answer = b""
        while data := connection.recv(65536):
            answer += data
    took = time.perf_counter() - begun
    if not answer.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"the upload was not taken: {answer[:200]!r}")
    yield f"upload of {_UPLOAD_MB} MB, MB/s", _UPLOAD_MB / took
    yield f"upload of {_UPLOAD_MB} MB, memory grows by MB", server.memory(peak=True) - memory
    id = json.loads(answer.partition(b"\r\n\r\n")[2])["id"]
    server.forget_peak()
    memory, begun = server.memory(), time.perf_counter()
    got = _download(server, f"/v1/files/{id}/content")
    took = time.perf_counter() - begun
    if got >= _UPLOAD_MB * len(piece):
        yield f"download of {_UPLOAD_MB} MB, MB/s", _UPLOAD_MB / took
        yield f"download of {_UPLOAD_MB} MB, memory grows by MB", server.memory(peak=True) - memory


def _download(server: Server, path: str) -> int:
    """Bytes of the answer."""
    buffer, got = bytearray(1 << 18), 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=_LIMIT) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        while count := connection.recv_into(buffer):
            got += count
    return got


def start(server: Server) -> Figures:
    """From the command to the first list of models."""
    yield "start, s", server.started_in
    yield "resident when idle, MB", server.memory()


def _warm(server: Server, api: str, model: str) -> None:
    _streams(server, _APIS[api](model, "5", stream=True), 1)


def _streams(server: Server, request: bytes, count: int) -> list[client.Stream]:
    streams = [client.Stream(server.port, request) for _ in range(count)]
    client.drive(streams, _LIMIT)
    return streams


def _wall(streams: list[client.Stream]) -> float:
    """Seconds from the first stream's begin to the last one's end."""
    ends = [stream.begun + (stream.took if stream.took is not None else _LIMIT) for stream in streams]
    return max(ends) - min(stream.begun for stream in streams)


#: By name, in the order in which they are measured.
ROWS: dict[str, Callable[[Server], Figures]] = {
    row.__name__: row for row in (start, requests, store, history, burst, upload, slow, idle)
}
