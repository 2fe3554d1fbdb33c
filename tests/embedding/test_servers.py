"""The host under each server: what runs open is closed, also when clients leave and when the server stops."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..support import TIMEOUT, eventually
from .asking import WAYS, ask, opened

if sys.platform == "win32":
    pytest.skip("these tests need gunicorn", allow_module_level=True)

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sys.executable).parent
HOST = "tests.embedding.host:app_of_environment()"
SERVERS = {
    "serve": ["flaskcompat", "--app", HOST, "serve", "--port", "{port}"],
    "our gunicorn worker": ["gunicorn", "-k", "flaskcompat.server.gunicorn.Worker", "-b", "127.0.0.1:{port}", HOST],
    "gthread": ["gunicorn", "-k", "gthread", "--threads", "32", "-b", "127.0.0.1:{port}", HOST],
    "waitress": [
        *("waitress-serve", "--listen", "127.0.0.1:{port}", "--threads", "32", "--channel-request-lookahead", "1"),
        *("--call", "tests.embedding.host:app_of_environment"),
    ],
    "flask run": ["flask", "--app", HOST, "run", "--port", "{port}"],
}


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any, Path]]:
    """The address of the host, its process, and its log."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [part.format(port=port) for part in SERVERS[request.param]]
    folder = tmp_path_factory.mktemp("host")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FLASK")}
    clean |= {"HAYSTACK_TELEMETRY_ENABLED": "False", "HOST_DATABASE": f"sqlite:///{folder / 'host.db'}"}
    clean |= {"HOST_TEARDOWNS": str(folder / "teardowns"), "FLASK_FLASKCOMPAT_SHUTDOWN_GRACE": "4"}
    log = folder / "log.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(SCRIPTS / command[0]), *command[1:]], cwd=ROOT, env=clean, stdout=out, stderr=subprocess.STDOUT
        )
    url = f"http://127.0.0.1:{port}"
    try:
        assert eventually(lambda: process.poll() is not None or _answers(url), 60), log.read_text()
        assert process.poll() is None, log.read_text()
        yield url, process, log
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=TIMEOUT).status_code == 200
    except httpx.TransportError:
        return False


def _counts(url: str) -> dict[str, Any]:
    answer: dict[str, Any] = httpx.get(f"{url}/counts", timeout=TIMEOUT).json()
    return answer


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", ["text", "generator", "pipeline", "wrapped pipeline", "coroutine", "async generator"])
def test_what_a_run_opens_is_closed(server: tuple[str, Any, Path], shape: str, way: str) -> None:
    url, _, log = server
    cookies = httpx.get(f"{url}/login", timeout=TIMEOUT).cookies
    assert ask(f"{url}/ai", way, f"everything in {shape}", cookies=cookies).startswith("1")
    assert eventually(lambda: _counts(url)["checked_out"] == _counts(url)["open"] == 0)
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("way", ["chat stream", "response stream"])
@pytest.mark.parametrize("model", ["Slow", "SlowAsync"])
def test_what_a_run_opens_is_closed_when_its_client_leaves(server: tuple[str, Any, Path], model: str, way: str) -> None:
    url, _, _ = server
    cookies = httpx.get(f"{url}/login", timeout=TIMEOUT).cookies
    with opened(url, way, model, cookies) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        assert _counts(url)["checked_out"] > 0
    assert eventually(lambda: _counts(url)["checked_out"] == 0)


def test_zz_runs_are_torn_down_when_the_server_stops(server: tuple[str, Any, Path]) -> None:
    """Comes last: the server ends."""
    url, process, log = server
    cookies = httpx.get(f"{url}/login", timeout=TIMEOUT).cookies
    if "run" in process.args or "waitress" in process.args[0]:
        pytest.skip("this server ends at once, with all that it runs")
    teardowns = log.parent / "teardowns"
    teardowns.touch()
    before = len(teardowns.read_text().split())
    with opened(url, "chat stream", "Slow", cookies) as sync, opened(url, "chat stream", "SlowAsync", cookies) as other:
        for connection in (sync, other):
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    assert len(teardowns.read_text().split()) == before + 2, log.read_text()
