from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from ..support import TIMEOUT, eventually

HERE = Path(__file__).parent
#: Seconds in which a server must answer, on a machine that also installs clients.
START = 60.0


#: The tests that passed in this run, by their modules.
passed: dict[str, list[str]] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "call" and report.passed:
        passed.setdefault(item.path.stem, []).append(item.name)
    return report


@contextmanager
def serving(pipelines: Path, data: Path, **settings: str) -> Iterator[str]:
    """The base URL of a server of a folder of wrappers, as a user would start it.

    :param data: where it keeps state, and its log as ``log.txt``.
    """
    data.mkdir(exist_ok=True)
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
            env=clean | {"FLASKCOMPAT_PIPELINES_DIR": str(pipelines), "HAYSTACK_TELEMETRY_ENABLED": "False"} | settings,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        assert eventually(lambda: process.poll() is not None or _answers(url), START), log.read_text()
        assert process.poll() is None, log.read_text()
        yield f"{url}/v1"
    finally:
        process.terminate()
        process.wait(TIMEOUT)


@pytest.fixture(scope="session")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of the scripted models."""
    with serving(HERE / "pipelines", tmp_path_factory.mktemp("clients")) as url:
        yield url


@pytest.fixture(scope="session")
def coder_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of the scripted model that codes."""
    with serving(HERE / "coding_pipelines", tmp_path_factory.mktemp("coder")) as url:
        yield url


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=TIMEOUT).status_code == 200
    except httpx.TransportError:
        return False
