"""SIGTERM and SIGKILL while answers are being made."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from ..support import eventually, frames
from .processes import KINDS, SLACK, Server, kinds, read_all, serving

GRACE = 4.0


def stop(server: Server) -> float:
    server.process.send_signal(signal.SIGTERM)
    return time.monotonic()


def events(answer: bytes) -> str:
    """The body of a chunked answer that ended as it should."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"chunked" in head and body.endswith(b"0\r\n\r\n"), answer[-300:]
    out = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        out, body = out + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return out.decode()


@pytest.mark.parametrize("kind", [*KINDS, "worker"])
def test_short_streams_finish_and_long_ones_are_told(kind: str) -> None:
    with serving(kind, 8, FLASKCOMPAT_SHUTDOWN_GRACE=str(GRACE)) as server, ThreadPoolExecutor(16) as pool:
        short = [pool.submit(read_all, server.send(m, words=10, delay=0.1)) for m in ("words", "async_pipeline")]
        long = [
            pool.submit(read_all, server.send(m, words=600, delay=0.1)) for m in ("words", "async_words", "pipeline")
        ]
        silent = pool.submit(read_all, server.send("async_words", before=60))
        assert eventually(lambda: sum(server.open_runs().values()) == 6)
        begun = stop(server)
        for answer in short:
            text = events(answer.result())
            assert "w9 " in text and text.endswith("data: [DONE]\n\n")
        for answer in long:
            last = frames(events(answer.result()))[-1][1]
            assert last["error"]["code"] == "shutting_down" and '"finish_reason":"stop"' not in str(last)
        refused = silent.result()
        assert b" 503 " in refused.split(b"\r\n")[0] and b"Retry-After: 1" in refused and b"shutting_down" in refused
        assert server.process.wait(20) == 0
        assert time.monotonic() - begun < GRACE + 1 + SLACK
        assert "Traceback" not in server.log


def test_nothing_new_begins_and_readiness_turns_first() -> None:
    with serving("runner", 8, FLASKCOMPAT_SHUTDOWN_GRACE="6") as server, ThreadPoolExecutor() as pool:
        running = pool.submit(read_all, server.send("words", words=30, delay=0.1))
        assert eventually(lambda: server.open_runs().get("words") == 1)
        assert httpx.get(f"{server.url}/readyz").json() == {"status": "ready"}
        stop(server)
        assert eventually(lambda: httpx.get(f"{server.url}/readyz").status_code == 503)
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        for stream in (False, True):
            refused = server.ask("plain", stream=stream)
            assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
            assert refused.json()["error"]["code"] == "shutting_down"
        assert "w29 " in events(running.result())
        assert server.process.wait(20) == 0


def test_readiness_turns_first_under_gunicorn() -> None:
    with serving("gunicorn", 8) as server, ThreadPoolExecutor() as pool, httpx.Client() as client:
        running = pool.submit(read_all, server.send("words", words=30, delay=0.1))
        assert eventually(lambda: server.open_runs().get("words") == 1)
        assert client.get(f"{server.url}/readyz").status_code == 200  # on a connection that stays open
        stop(server)
        assert eventually(lambda: client.get(f"{server.url}/readyz").status_code == 503)
        assert "w29 " in events(running.result())


def test_blocked_wrapper_does_not_keep_gunicorn() -> None:
    with serving("gunicorn", 8, FLASKCOMPAT_SHUTDOWN_GRACE="3") as server, ThreadPoolExecutor() as pool:
        blocked = pool.submit(read_all, server.send("blocks_thread", stream=False))
        assert eventually(lambda: server.threads_and_descriptors[0] > 3)
        server.ask("plain")
        begun = stop(server)
        answer = blocked.result()
        assert b" 503 " in answer.split(b"\r\n")[0] and b"shutting_down" in answer
        assert server.process.wait(20) == 0
        assert time.monotonic() - begun < 4 + SLACK


def test_blocked_wrappers_do_not_keep_the_process() -> None:
    with serving("runner", 8, FLASKCOMPAT_SHUTDOWN_GRACE="3") as server, ThreadPoolExecutor() as pool:
        blocked = [pool.submit(read_all, server.send(m, stream=False)) for m in ("blocks_thread", "blocks_thread")]
        blocked.append(pool.submit(read_all, server.send("blocks_loop", seconds=60)))
        assert eventually(lambda: "blocks the event loop" in server.log)
        begun = stop(server)
        for answer in blocked:
            assert b" 503 " in answer.result().split(b"\r\n")[0] and b"shutting_down" in answer.result()
        assert server.process.wait(20) == 0
        assert time.monotonic() - begun < 4 + SLACK


def test_idle_process_ends_at_once() -> None:
    with serving("runner", 8) as server:
        with httpx.Client() as client:
            client.get(f"{server.url}/v1/models")  # its connection stays open
            server.ask("async_plain")
            begun = stop(server)
            assert server.process.wait(20) == 0
        assert time.monotonic() - begun < 3 + SLACK
        assert "stopped" in server.log


def test_second_signal_ends_it_at_once() -> None:
    with serving("runner", 8) as server:
        stream = server.send("words", words=600, delay=0.1)
        assert eventually(lambda: server.open_runs().get("words") == 1)
        begun = stop(server)
        assert eventually(lambda: "stopping within" in server.log)
        stop(server)
        assert server.process.wait(20) == 1
        assert time.monotonic() - begun < 3 + SLACK
        stream.close()


@kinds
def test_killed_process_leaves_streams_cut_not_whole(kind: str) -> None:
    with serving(kind, 8) as server, ThreadPoolExecutor() as pool:
        answer = pool.submit(read_all, server.send("words", words=600, delay=0.1))
        assert eventually(lambda: server.open_runs().get("words") == 1)
        os.kill(server.pid, signal.SIGKILL)
        cut = answer.result(20)
        assert not cut.endswith(b"0\r\n\r\n") and b"[DONE]" not in cut
