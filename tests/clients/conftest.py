from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ..support import TIMEOUT, eventually

HERE = Path(__file__).parent
#: Seconds in which a server must answer, on a machine that also installs clients.
START = 60.0


@pytest.fixture(scope="session")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of the scripted models, as a user would start it."""
    data = tmp_path_factory.mktemp("clients")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FLASK", "OPENAI_"))}
    log = data / "log.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "flaskcompat", "serve", "--port", str(port), "--data", str(data / "state")],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=clean | {"FLASKCOMPAT_PIPELINES_DIR": str(HERE / "pipelines"), "HAYSTACK_TELEMETRY_ENABLED": "False"},
        )
    url = f"http://127.0.0.1:{port}"
    try:
        assert eventually(lambda: process.poll() is not None or _answers(url), START), log.read_text()
        assert process.poll() is None, log.read_text()
        yield f"{url}/v1"
    finally:
        process.terminate()
        process.wait(TIMEOUT)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=TIMEOUT).status_code == 200
    except httpx.TransportError:
        return False
