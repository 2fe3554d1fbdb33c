"""The layers of the package: a module imports its own layer or a lower one, and Flask stays at the top."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import flaskcompat

ROOT = Path(flaskcompat.__file__).parent

# From the lowest to the highest; a name stands for the module or the package.
LAYERS = (
    ("_version", "errors", "fork", "log", "open_webui", "protocol", "schemas"),
    ("stores", "runtime"),
    ("blueprints",),
    (
        "config",
        "extension",
        "app",
        "checking",
        "cli",
        "commands",
        "contrib",
        "development",
        "migration",
        "page",
        "server",
        "demos",
        "__init__",
        "__main__",
    ),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
MODULES = sorted(ROOT.rglob("*.py"))


def part(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module == "flaskcompat")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_imports_its_own_layer_or_a_lower_one(path: Path) -> None:
    own = LEVEL[part(path)]
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top == "flaskcompat" and rest and part(path) != "demos":
            first = rest.split(".")[0]
            assert LEVEL.get(first, 0) <= own, f"{path.name} imports {name}"
        if top in ("flask", "werkzeug", "waitress", "click"):
            assert own >= LEVEL["blueprints"], f"{path.name} imports {name}"


@pytest.mark.parametrize("path", [p for p in MODULES if part(p) == "protocol"], ids=lambda path: path.name)
def test_protocol_does_no_io_and_starts_no_thread(path: Path) -> None:
    banned = {"threading", "asyncio", "socket", "queue", "pathlib", "os", "concurrent", "subprocess"}
    assert not banned & {name.split(".")[0] for name in imports(path)}


def test_nothing_that_only_unix_has_is_needed_at_import() -> None:
    code = """
import asyncio, os, select, signal, sys
import flask.cli, haystack.components.agents, marshmallow, waitress
absent = {os: ["fork", "register_at_fork"], select: ["epoll", "poll"], signal: ["SIGKILL", "SIGHUP"]}
for holder, name in [(holder, name) for holder, names in absent.items() for name in names]:
    if hasattr(holder, name):
        delattr(holder, name)
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
import flaskcompat.__main__
app = flaskcompat.create_app()
flaskcompat.server.loop.Channels().turn(0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_every_module_has_a_layer_and_a_docstring() -> None:
    for path in MODULES:
        assert part(path) in LEVEL
        if path.name != "_version.py":
            assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_public_names_are_all_there() -> None:
    for name in flaskcompat.__all__:
        assert getattr(flaskcompat, name) is not None
    assert list(flaskcompat.__all__) == sorted(flaskcompat.__all__)
