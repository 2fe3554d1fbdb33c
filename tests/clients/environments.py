"""Where the clients are installed: a folder outside of the repository that outlives a run.

Each client has an environment of its own, made at the first use and again when what it asks for has changed.
``FLASKCOMPAT_TEST_CLIENTS_DIR`` names the folder; else it is below the user's cache folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
#: What each client needs, by its name, all pinned: ``python`` (requirements; some of them ``without_dependencies``),
#: ``node`` (packages) or ``source`` (the source distribution of a package, unpacked).
CLIENTS: dict[str, dict[str, Any]] = tomllib.loads((HERE / "clients.toml").read_text(encoding="utf-8"))

_INSTALL_TIMEOUT = 900.0


def folder() -> Path:
    """Where environments are kept."""
    named = os.environ.get("FLASKCOMPAT_TEST_CLIENTS_DIR")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else cache / "flaskcompat-clients"


def environment(client: str) -> Path:
    """The folder of *client*'s environment, installed if it is not there.

    :raises RuntimeError: if it cannot be installed; with the end of what the installer said.
    """
    needs = CLIENTS[client]
    wanted = [sys.version_info[:2], *(needs.get(key) for key in ("python", "without_dependencies", "node", "source"))]
    mark = hashlib.sha256(repr(wanted).encode()).hexdigest()[:12]
    place = folder() / f"{client}-{mark}"
    ready = place / ".ready"
    with _alone(place):
        if ready.exists():
            return place
        shutil.rmtree(place, ignore_errors=True)  # of one that was cut short
        place.mkdir(parents=True)
        if "python" in needs:
            _install_python(place, needs)
        elif "source" in needs:
            _unpack_source(place, needs["source"])
        else:
            _install_node(place, needs["node"])
        ready.touch()
    return place


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Others who want the same wait, in this process and elsewhere."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def python_of(place: Path) -> Path:
    """The interpreter of an environment."""
    return place / "bin" / "python"


def _install_python(place: Path, needs: dict[str, Any]) -> None:
    venv.create(place, with_pip=True)
    pip = [str(python_of(place)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if "without_dependencies" in needs:
        _run([*pip, "--no-deps", *needs["without_dependencies"]])
    _run([*pip, *needs["python"]])


def _install_node(place: Path, packages: list[str]) -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    _run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(place), *packages])


def _unpack_source(place: Path, requirement: str) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--no-deps", "--no-binary", ":all:", "--dest", str(place), requirement])
    [archive] = place.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(place, filter="data")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {(done.stderr or done.stdout)[-2000:]}")
