"""Clients that send drop by drop, and clients that do not read."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ..support import eventually
from .processes import Server, serving

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n"


@contextmanager
def dripping(connections: list[socket.socket]) -> Iterator[None]:
    """Send one byte on each, again and again."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.2):
            for connection in connections:
                try:
                    connection.send(b"x")
                except OSError:
                    pass

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def quick(server: Server, number: int) -> list[float]:
    """How long plain requests take, of several kinds."""
    took = []
    for n in range(number):
        begun = time.monotonic()
        assert server.ask(("plain", "async_plain", "words")[n % 3], stream=n % 2 == 0).status_code == 200
        took.append(time.monotonic() - begun)
    return took


def test_heads_and_bodies_that_drip_beside_normal_clients() -> None:
    with serving("runner", 4) as server, ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(200)]
        for n, connection in enumerate(connections):
            connection.sendall(HEAD if n % 2 else HEAD + b"\r\n{")
        with dripping(connections):
            assert max(quick(server, 12)) < 5


def test_idle_connections_lock_nobody_out() -> None:
    with serving("runner", 4) as server, ExitStack() as stack:
        for _ in range(900):
            stack.enter_context(server.connect())
        assert max(quick(server, 6)) < 5


def test_readers_that_stall_are_cut_when_others_wait() -> None:
    with serving("runner", 8, FLASKCOMPAT_MAX_GENERATIONS="8") as server, ExitStack() as stack:
        for _ in range(16):
            stack.enter_context(server.send("endless"))
        memory = server.memory
        assert max(quick(server, 6)) < 10
        assert server.log.count("has read nothing") >= 8
        assert server.memory < memory + 64


def test_readers_that_stall_keep_their_stream_while_nobody_waits_for_the_place() -> None:
    with serving("runner", 4) as server, ExitStack() as stack:
        for _ in range(24):
            stack.enter_context(server.send("endless"))
        assert eventually(lambda: server.open_runs().get("endless") == 24)
        memory = server.memory
        assert max(quick(server, 12)) < 5
        assert server.memory < memory + 64
        assert server.open_runs().get("endless") == 24


def test_reader_that_stalls_is_cut_in_the_end() -> None:
    with serving("runner", 8, FLASKCOMPAT_STALL_TIMEOUT="1") as server, server.send("endless"):
        assert eventually(lambda: "has read nothing" in server.log)
        assert eventually(lambda: server.open_runs().get("endless") == 0)


def test_reader_that_stalls_is_cut_under_gunicorn() -> None:
    with serving("gunicorn", 8, FLASKCOMPAT_STALL_TIMEOUT="1") as server, server.send("endless"):
        assert eventually(lambda: server.open_runs().get("endless") == 1)
        assert eventually(lambda: server.open_runs().get("endless") == 0)


def test_slow_reader_gets_all_of_it() -> None:
    with serving("runner", 8, FLASKCOMPAT_STALL_TIMEOUT="2") as server:
        connection = server.send("words", words=20, delay=0.001, mark="x" * 20000)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        answer = b""
        with connection:
            while data := connection.recv(16384):
                answer += data
                time.sleep(0.05)  # about 300 kB/s
        assert b"19 " in answer and answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def test_memory_is_bounded_however_large_the_pieces() -> None:
    with serving("runner", 8) as server, ExitStack() as stack:
        server.ask("plain")
        before = server.memory
        for _ in range(4):
            stack.enter_context(server.send("endless", size=10_000_000))
        assert eventually(lambda: server.open_runs().get("endless") == 4)
        most = 0
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            most = max(most, server.memory)
        assert most < before + 4 * 250, (before, most)
