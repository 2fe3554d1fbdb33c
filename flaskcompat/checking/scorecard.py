"""Results for people, and for programs."""

from __future__ import annotations

from typing import Any

import click

from flaskcompat.checking.findings import COLUMNS, Result
from flaskcompat.checking.sdk_types import judges

_COLORS = {"ok": "green", "FAIL": "red", "-": "bright_black"}


def scorecard(results: list[Result], *, real: bool) -> str:
    """A table with a line for each model, and the findings below it."""
    width = max(len("model"), *(len(result.model) for result in results))
    lines = ["  ".join([f"{'model':<{width}}", *COLUMNS])]
    for result in results:
        cells = [_cell(result, column) for column in COLUMNS]
        lines.append("  ".join([f"{result.model:<{width}}", *cells]).rstrip())
    for result in results:
        if result.findings:
            lines += ["", result.model, *(f"  {line}" for line in findings_of(result))]
    return "\n".join([*lines, "", _summary(results, real)])


def findings_of(result: Result) -> list[str]:
    """One line for each finding about a model."""
    return [
        f"{click.style('FAIL', fg='red') if fails else click.style('warning', fg='yellow')}  {', '.join(names)}: {text}"
        for (text, fails), names in _by_text(result).items()
    ]


def _by_text(result: Result) -> dict[tuple[str, bool], list[str]]:
    """Text, and whether it fails: the columns; what is the same in several is told once."""
    columns: dict[tuple[str, bool], list[str]] = {}
    for finding in result.findings:
        columns.setdefault((finding.text, finding.fails), []).append(finding.column)
    return columns


def as_json(results: list[Result], *, real: bool) -> dict[str, Any]:
    """The same as an object."""
    return {
        "ok": not any(result.failed for result in results),
        "real": real,
        "types_checked": judges() is not None,
        "models": [
            {
                "model": result.model,
                "columns": {column: result.state(column) for column in COLUMNS},
                "findings": [{"column": f.column, "text": f.text, "fails": f.fails} for f in result.findings],
            }
            for result in results
        ],
    }


def _cell(result: Result, column: Any) -> str:
    state = result.state(column)
    return click.style(state, fg=_COLORS[state]) + " " * (len(column) - len(state))


def _summary(results: list[Result], real: bool) -> str:
    failed = sum(result.failed for result in results)
    warnings = sum(not fails for result in results for _, fails in _by_text(result))
    counts = f"{_plural(len(results), 'model')}, {failed} failed, {_plural(warnings, 'warning')}"
    models = "the real models" if real else "scripted models, no network"
    types = "checked" if judges() is not None else "not checked: pip install openai"
    return f"{counts}; asked {models}; OpenAI's types: {types}"


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
