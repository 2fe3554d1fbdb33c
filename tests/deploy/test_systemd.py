"""The service of systemd: checked by systemd's own tools, and its command started and stopped."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support import TIMEOUT
from .recipes import (
    KEY,
    PIPELINES,
    RECIPES,
    SCRIPTS,
    Asker,
    Process,
    answers,
    assert_file_is_kept,
    assert_keys_are_asked,
    assert_streams_live,
    free_ports,
    gate,
    program,
    replaced,
    running,
)

FOLDER = RECIPES / "systemd"
UNIT = (FOLDER / "flaskcompat.service").read_text()
PROGRAM = "/opt/flaskcompat/venv/bin/flaskcompat"


def values(name: str) -> list[str]:
    """What the unit gives *name*, in order."""
    return [line.partition("=")[2] for line in UNIT.splitlines() if line.startswith(f"{name}=")]


def environment() -> dict[str, str]:
    """What the environment file sets."""
    lines = (FOLDER / "flaskcompat.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with a program that is there."""
    path = tmp_path / "flaskcompat.service"
    path.write_text(replaced(UNIT, {PROGRAM: "/bin/true"}))
    return path


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [program("systemd-analyze", "systemd"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)


def test_systemd_understands_every_line(unit: Path) -> None:
    done = analyze("verify", "--man=no", str(unit))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_little_is_open_to_the_service(unit: Path) -> None:
    # Of 100; a unit that says nothing has 96.
    done = analyze("security", "--offline=true", "--threshold=15", "--no-pager", str(unit))
    assert done.returncode == 0, done.stdout


def test_systemd_waits_longer_than_a_stop_takes() -> None:
    assert float(values("TimeoutStopSec")[0]) > float(environment()["FLASKCOMPAT_SHUTDOWN_GRACE"]) + 1


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Process]]:
    """The service's own command with the settings of its environment file; paths and port are this test's."""
    (port,) = free_ports(1)
    (tmp_path / "keys").write_text(f"alice={KEY}\n")
    state = tmp_path / "state"
    state.mkdir()
    settings = environment() | dict(value.split("=", 1) for value in values("Environment"))
    assert settings["FLASKCOMPAT_PIPELINES_DIR"] == "/opt/flaskcompat/pipelines"
    settings["FLASKCOMPAT_PIPELINES_DIR"] = str(PIPELINES)
    # Specifiers and variables as systemd would fill them in.
    settings = {name: value.replace("%S/flaskcompat", str(state)) for name, value in settings.items()}
    settings = {name: value.replace("%d", str(tmp_path)) for name, value in settings.items()}
    (start,) = values("ExecStart")
    places = {PROGRAM: str(SCRIPTS / "flaskcompat"), "1416": str(port), "${STATE_DIRECTORY}": str(state)}
    url = f"http://127.0.0.1:{port}"
    command = shlex.split(replaced(start, places))
    with running(command, tmp_path / "log.txt", is_ready=answers(url), cwd=state, **settings) as process:
        yield url, process


def test_command_serves_and_ends_in_order(served: tuple[str, Process], tmp_path: Path) -> None:
    url, process = served
    assert_keys_are_asked(url)
    assert_streams_live(url)
    assert_file_is_kept(url, os.urandom(100_000))
    assert (tmp_path / "state" / "flaskcompat.db").exists()
    with gate() as own, Asker(url, own) as asker, own.run() as run:
        run.say("one ")
        assert asker.next_word() == "one "
        process.popen.send_signal(signal.SIGTERM)
        run.say("two ")
        assert asker.next_word() == "two "
        run.finish()
        assert asker.next_word() is None
    assert process.popen.wait(TIMEOUT) == 0  # what Restart=on-failure takes for a good end
    assert process.log.rstrip().endswith("stopped")
