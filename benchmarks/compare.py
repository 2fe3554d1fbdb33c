"""Measures servers in turn, several rounds, and prints the medians and the ratios to the first server.

A ratio is the median of the rounds' ratios, with the smallest and the largest: what changes on the machine from minute
to minute is in both figures of a round. Needs Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from measure import ROWS
from servers import HAYHOOKS, running

Runs = dict[str, dict[str, list[float]]]  # by server and figure, of each round


def measure(servers: list[str], rows: list[str], rounds: int) -> Runs:
    """All *rows* of all *servers*, each started afresh for each row: none inherits what another one left."""
    runs: Runs = {label(server): {} for server in servers}
    for number in range(rounds):
        for server in servers:
            figures = runs[label(server)]
            for row in rows:
                with running(server) as started:
                    for name, value in ROWS[row](started):
                        figures.setdefault(name, []).append(round(value, 4))
            print(f"round {number + 1} of {rounds}: {label(server)}", file=sys.stderr, flush=True)
    return runs


def label(server: str) -> str:
    """How a server is named in the table: ``LABEL=COMMAND`` by its label."""
    return server.partition("=")[0]


def ratio(runs: Runs, name: str, server: str, base: str) -> list[float]:
    """The rounds' ratios of a figure, in order of size; nothing where there is none to compare with."""
    pairs = zip(runs[server].get(name, []), runs[base].get(name, []), strict=False)
    return sorted(value / other for value, other in pairs if other)


def table(runs: Runs) -> list[str]:
    """The lines of a table in Markdown."""
    base, *others = runs
    lines = ["| | " + " | ".join([*runs, *(f"{other} to {base}" for other in others)]) + " |"]
    lines.append("|---" * (1 + len(runs) + len(others)) + "|")
    for name in dict.fromkeys(name for figures in runs.values() for name in figures):
        cells = [f"{statistics.median(figures[name]):.4g}" if name in figures else "-" for figures in runs.values()]
        for other in others:
            found = ratio(runs, name, other, base)
            cells.append(f"**{statistics.median(found):.2f}x** ({found[0]:.2f}..{found[-1]:.2f})" if found else "-")
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return lines


def circumstances() -> dict[str, Any]:
    """What the figures depend on."""
    names = ("flask", "haystack-ai", "waitress", "gunicorn")
    return {
        "date": date.today().isoformat(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "versions": {name: version(name) for name in names} | dict([HAYHOOKS.split("==")]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; all where none is named")
    parser.add_argument(
        "--servers",
        nargs="+",
        default=["hayhooks", "bare", "flaskcompat"],
        help="names of servers.py, or LABEL=COMMAND with {port}; the first is what the others are compared with",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where to write all figures; those that are there of other rows stay")
    args = parser.parse_args()
    if unknown := set(args.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    rows = [row for row in ROWS if row in (args.rows or ROWS)]
    runs = measure(args.servers, rows, args.rounds)
    print("\n".join(table(runs)))
    if args.json is not None:
        kept: Runs = json.loads(args.json.read_text())["figures"] if args.json.exists() else {}
        for server, figures in runs.items():
            kept.setdefault(server, {}).update(figures)
        args.json.write_text(json.dumps(circumstances() | {"figures": kept}, indent=1) + "\n")


if __name__ == "__main__":
    main()
