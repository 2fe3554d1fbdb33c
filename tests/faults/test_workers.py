"""The runner as a worker of gunicorn's: several processes on one socket, replaced while clients come."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from ..support import TIMEOUT, eventually
from .processes import ROOT, SCRIPTS, Server, chat, read_all, serving
from .test_stopping import events

WORKER = "flaskcompat.server.gunicorn.Worker"


def workers(server: Server) -> set[int]:
    return set(map(int, Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()))


def test_streams_need_no_threads_and_all_processes_take_some() -> None:
    with serving("worker", 2, ["-w", "2", "--reuse-port"]) as server, ThreadPoolExecutor(60) as pool:
        asked = [pool.submit(read_all, server.send("async_words", words=20, delay=0.1)) for _ in range(60)]
        assert eventually(lambda: all(len(os.listdir(f"/proc/{pid}/fd")) > 20 for pid in workers(server)))
        for pid in workers(server):
            assert len(os.listdir(f"/proc/{pid}/task")) < 20
        for answer in asked:
            assert "w19 " in events(answer.result())


def test_nothing_is_lost_while_workers_are_replaced() -> None:
    with (
        serving("worker", 8, ["-w", "2"], FLASKCOMPAT_SHUTDOWN_GRACE="8") as server,
        ThreadPoolExecutor(8) as pool,
        httpx.Client() as one,
        httpx.Client() as another,
    ):
        before = workers(server)
        stream = pool.submit(read_all, server.send("words", words=30, delay=0.1))
        replaced: list[bool] = []

        def ask_on(ask: Callable[..., httpx.Response]) -> int:
            asked = 0
            while not replaced:
                answer = ask(f"{server.url}/v1/chat/completions", json=chat("plain"), timeout=TIMEOUT)
                assert answer.status_code == 200, answer.text
                asked += 1
            return asked

        # Some on connections that they use again.
        clients = [pool.submit(ask_on, ask) for ask in (httpx.post, httpx.post, one.post, another.post)]
        server.process.send_signal(signal.SIGHUP)
        try:
            assert eventually(lambda: len(workers(server)) == 2 and not workers(server) & before, 30)
        finally:
            replaced.append(True)
        assert min(client.result() for client in clients) > 1
        assert "w29 " in events(stream.result())
        assert "Traceback" not in server.log


def test_worker_ends_after_as_many_requests_as_it_is_allowed() -> None:
    with serving("worker", 8, ["--max-requests", "20"]) as server:
        before = workers(server)
        for _ in range(40):
            assert server.ask("plain").status_code == 200
        assert eventually(lambda: not workers(server) & before, 30)
        assert server.ask("plain").status_code == 200


def test_worker_that_is_killed_is_replaced() -> None:
    with serving("worker", 8) as server:
        (killed,) = workers(server)
        os.kill(killed, signal.SIGKILL)
        assert eventually(lambda: bool(workers(server) - {killed}), 30)
        assert server.ask("plain").status_code == 200


def test_worker_ends_with_the_one_that_started_it() -> None:
    with serving("worker", 8) as server:
        (orphan,) = workers(server)
        server.process.kill()
        assert eventually(lambda: not Path(f"/proc/{orphan}/fd").exists(), 30)


@pytest.mark.parametrize(
    ("app", "arguments", "reason"),
    [
        ("tests.faults.site:app", ["--certfile", "x.pem", "--keyfile", "x.pem"], "this worker speaks no TLS"),
        ("middle:app", [], "this worker serves a Flask application"),
    ],
)
def test_what_it_cannot_serve_ends_the_start(app: str, arguments: list[str], reason: str, tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("")
    (tmp_path / "middle.py").write_text("from flask import Flask\napp = Flask(__name__).wsgi_app\n")
    arguments = [str(tmp_path / argument) if argument == "x.pem" else argument for argument in arguments]
    command = [
        str(SCRIPTS / "gunicorn"),
        "-k",
        WORKER,
        "-b",
        "127.0.0.1:0",
        "--pythonpath",
        str(tmp_path),
        *arguments,
        app,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 4 and reason in done.stderr


def test_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with serving("worker", 8, ["-b", f"unix:{path}"]), httpx.HTTPTransport(uds=str(path)) as transport:
        answer = httpx.Client(transport=transport).get("http://x/v1/models")
        assert answer.status_code == 200
