"""The README's table of clients, made of what a run has shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .environments import CLIENTS
from .scenarios import CHECKS, DEMANDED, Result

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- Written by the tests of clients. -->", "<!-- End of what they write. -->"
#: The test modules whose clients are told by the names of their tests.
MODULES = {"codex": "test_codex", "opencode": "test_opencode", "open-webui": "test_open_webui"}


def section(results: Mapping[str, Mapping[str, Result]], passed: Mapping[str, list[str]]) -> str:
    """What stands between :data:`BEGIN` and :data:`END`.

    :param results: of each program's client, what it told that holds, by scenario.
    :param passed: of each test module, the names of its tests that passed.
    """
    lines = ["| client | version | Chat Completions | Responses | beyond |", "|---|---|---|---|---|"]
    notes: dict[str, str] = {}
    for client in sorted(results):
        surfaces = [_surface(client, surface, results[client], notes) for surface in ("chat", "responses")]
        more = [name.partition(" ")[2] for name in results[client] if name.partition(" ")[2] not in DEMANDED]
        lines.append(f"| {client} | {_version(client)} | {' | '.join(surfaces)} | {', '.join(sorted({*more}))} |")
    lines += ["", *(f"{number} {why}.  " for why, number in notes.items())] if notes else []
    for client, module in sorted(MODULES.items()):
        shown = "; ".join(dict.fromkeys(map(_words, passed[module])))
        lines += ["", f"**{client} {_version(client)}**: {shown}."]
    return "\n".join(lines)


def written(text: str, section: str) -> str:
    """The README's *text* with another *section*."""
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}\n\n{section}\n\n{END}{rest.partition(END)[2]}"


def _surface(client: str, surface: str, results: Mapping[str, Result], notes: dict[str, str]) -> str:
    own: Mapping[str, Any] = CLIENTS[client]
    if surface not in own.get("surfaces", ["chat", "responses"]):
        return ""
    missing = [name for name in DEMANDED if f"{surface} {name}" not in results]
    if not missing:
        return "all"
    reasons = dict.fromkeys(own["gaps"][f"{surface} {name}"] for name in missing)
    marks = [notes.setdefault(reason, f"<sup>{len(notes) + 1}</sup>") for reason in reasons]
    return f"all but {', '.join(missing)}{''.join(marks)}"


def _version(client: str) -> str:
    own = CLIENTS[client]
    [first, *_] = own.get("without_dependencies") or own.get("python") or own["node"]
    found = re.search(r"(?:==|.@)([\w.]+)$", first)
    assert found is not None
    return found[1]


def _words(name: str) -> str:
    return name.partition("[")[0].removeprefix("test_").replace("_", " ")


assert CHECKS.keys() >= set(DEMANDED)
