"""Servers as processes of their own, and clients that watch them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..support import TIMEOUT, eventually

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sys.executable).parent
#: Seconds that a loaded machine may add to what is promised.
SLACK = 1.5
KINDS = ("runner", "gunicorn")
kinds = pytest.mark.parametrize("kind", KINDS)

if sys.platform == "win32":
    pytest.skip("these tests need gunicorn and /proc", allow_module_level=True)


@dataclass
class Server:
    """A server under test.

    :param threads: answers that it makes at once.
    """

    url: str
    process: subprocess.Popen[bytes]
    threads: int
    log_file: Path

    @property
    def pid(self) -> int:
        """The process that serves: gunicorn's is the child of the one that was started."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0]) if children else self.process.pid

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    @property
    def threads_and_descriptors(self) -> tuple[int, int]:
        pid = self.pid
        return len(os.listdir(f"/proc/{pid}/task")), len(os.listdir(f"/proc/{pid}/fd"))

    @property
    def memory(self) -> int:
        """Resident, in MB."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") // 2**20

    def ask(self, model: str, *, timeout: float = TIMEOUT, stream: bool = False, **wish: Any) -> httpx.Response:
        return httpx.post(f"{self.url}/v1/chat/completions", json=chat(model, stream=stream, **wish), timeout=timeout)

    def open_runs(self) -> dict[str, int]:
        return dict(json.loads(self.ask("open").json()["choices"][0]["message"]["content"]))

    def send(self, model: str, *, stream: bool = True, **wish: Any) -> socket.socket:
        """A request on a socket of its own, whose answer is not read."""
        body = json.dumps(chat(model, stream=stream, **wish)).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        connection = self.connect()
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return connection

    def connect(self) -> socket.socket:
        parts = httpx.URL(self.url)
        return socket.create_connection((parts.host, parts.port), timeout=TIMEOUT)


def chat(model: str, *, stream: bool = False, **wish: Any) -> dict[str, Any]:
    return {"model": model, "stream": stream, "messages": [{"role": "user", "content": json.dumps(wish)}]}


def read_all(connection: socket.socket) -> bytes:
    """The answer, until the server closes."""
    answer = b""
    with connection:
        try:
            while data := connection.recv(65536):
                answer += data
        except ConnectionError:
            pass
    return answer


@contextmanager
def serving(kind: str, threads: int = 16, arguments: Sequence[str] = (), **settings: str) -> Iterator[Server]:
    """The site under *kind*, making *threads* answers at once.

    :param arguments: of gunicorn with our worker.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    site = "tests.faults.site"
    commands = {
        "runner": ["flask", "--app", site, "serve", "--port", str(port), "--threads", str(threads)],
        "gunicorn": ["gunicorn", "-k", "gthread", "--threads", str(threads + 8), "--worker-connections", "2000"]
        + ["-b", f"127.0.0.1:{port}", f"{site}:app"],
        "worker": ["gunicorn", "-k", "flaskcompat.server.gunicorn.Worker", "--threads", str(threads)]
        + ["-b", f"127.0.0.1:{port}", *arguments, f"{site}:app"],
    }
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("FLASK", "OPENAI_"))}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.txt"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [str(SCRIPTS / commands[kind][0]), *commands[kind][1:]],
                cwd=ROOT,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=clean | {"HAYSTACK_TELEMETRY_ENABLED": "False"} | settings,
            )
        server = Server(f"http://127.0.0.1:{port}", process, threads, log)
        try:
            assert eventually(lambda: process.poll() is not None or _answers(server.url), 60), server.log
            assert process.poll() is None, server.log
            yield server
        finally:
            process.kill() if process.poll() is None and kind == "runner" else process.terminate()
            process.wait(60)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=TIMEOUT).status_code == 200
    except httpx.TransportError:
        return False
