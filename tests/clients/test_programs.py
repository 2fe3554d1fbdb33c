"""Real clients, each in a process of its own, against a live server: what every one of them must be able to do."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from .environments import CLIENTS, environment, python_of
from .scenarios import DEMANDED, Result, check

pytestmark = pytest.mark.clients

HERE = Path(__file__).parent
TIMEOUT = 120.0
PROGRAMS = {client: about for client, about in CLIENTS.items() if "program" in about}


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(2, thread_name_prefix="clients")


_futures: dict[str, Future[dict[str, Result]]] = {}


def _begun(client: str, base_url: str) -> Future[dict[str, Result]]:
    if client not in _futures:
        _futures[client] = _pool().submit(_run, client, base_url)
    return _futures[client]


@pytest.fixture
def results(request: pytest.FixtureRequest, base_url: str, client: str) -> dict[str, Result]:
    """What the program of *client* told, by scenario; the others that are wanted are begun meanwhile."""
    wanted = {item.callspec.params.get("client") for item in request.session.items if hasattr(item, "callspec")}
    for other in PROGRAMS:
        if other in wanted:
            _begun(other, base_url)
    return _begun(client, base_url).result()


def told() -> dict[str, dict[str, Result]]:
    """What the programs that have run told, by client."""
    return {client: future.result() for client, future in _futures.items() if future.done()}


def _run(client: str, base_url: str) -> dict[str, Result]:
    place, program = environment(client), HERE / "programs" / PROGRAMS[client]["program"]
    if program.suffix == ".py":
        command = [str(python_of(place)), str(program)]
    else:  # what a program imports is looked for beside it
        shutil.copytree(HERE / "programs", place / "programs", dirs_exist_ok=True)
        command = ["node", str(place / "programs" / program.name)]
    keep = ("PATH", "HOME", "LANG", "SSL_CERT_FILE", "TMPDIR")
    environ = {name: os.environ[name] for name in keep if name in os.environ}
    environ |= {"HAYSTACK_TELEMETRY_ENABLED": "False", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([*command, base_url], capture_output=True, text=True, timeout=TIMEOUT, cwd=place, env=environ)
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"scenario"')]
    assert done.returncode == 0 and told, done.stderr[-4000:]
    return {result["scenario"]: result for result in told}


def gaps_of(client: str) -> dict[str, str]:
    """Scenarios that a client cannot do, or does not, and why."""
    found: dict[str, str] = PROGRAMS[client].get("gaps", {})
    return found


def surfaces_of(client: str) -> list[str]:
    found: list[str] = PROGRAMS[client].get("surfaces", ["chat", "responses"])
    return found


CASES = [
    pytest.param(client, f"{surface} {name}", id=f"{client}: {surface} {name}")
    for client in PROGRAMS
    for surface in surfaces_of(client)
    for name in DEMANDED
    if f"{surface} {name}" not in gaps_of(client)
]


@pytest.mark.parametrize(("client", "scenario"), CASES)
def test_client(results: dict[str, Result], client: str, scenario: str) -> None:
    result = results.get(scenario)
    assert result is not None, "the program does not do it"
    assert check(scenario, result), result


@pytest.mark.parametrize("client", PROGRAMS)
def test_what_a_client_does_beyond(results: dict[str, Result], client: str) -> None:
    wrong: list[Any] = [result for name, result in results.items() if not check(name, result)]
    assert not wrong
    assert not results.keys() & gaps_of(client).keys(), "a gap that is none"
