"""``from ... import ...`` statements whose names, or some of them, come from elsewhere now."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass

from flaskcompat.migration.names import homes_of
from flaskcompat.migration.source import Source

_GAP = r"(?:[ \t\f]|\\(?:\r\n|\r|\n))*"
_GAP_WITH_COMMENTS = re.compile(r"(?:[ \t\f\r\n\\]|#[^\r\n]*)*")
_REST_OF_LINE = re.compile(r"[ \t\f]*(?:\r\n|\r|\n)")
_BLANKS = re.compile(r"[ \t]+")
# Statements that are longer than this are written over several lines.
_LONGEST = 100


@dataclass(frozen=True, slots=True)
class Move:
    """How a name of a statement is to be imported.

    :param head: what its statement begins with: ``from flaskcompat import``, or ``import``.
    :param text: the rest, such as ``log as logger``.
    """

    head: str
    text: str


def moves_of_names(source: Source, statement: ast.ImportFrom) -> dict[ast.alias, Move]:
    """The names of *statement* that this package has; from one of its modules where that has them all."""
    homes = {alias: found for alias in statement.names if (found := homes_of(statement.module or "", alias.name))}
    shared = [home for home in next(iter(homes.values()), ()) if all(home in found for found in homes.values())]
    return {alias: Move(f"from {(shared or found)[0]} import", source.text_of(alias)) for alias, found in homes.items()}


def rewrite_statement(source: Source, statement: ast.ImportFrom, moves: Mapping[ast.alias, Move]) -> None:
    """Import what *moves* has as it says; the statement keeps the names that are most, the others come before it."""
    own = f"from {statement.module} import"
    groups: dict[str, dict[ast.alias, str]] = {}
    for alias in statement.names:
        move = moves.get(alias) or Move(own, source.text_of(alias))
        groups.setdefault(move.head, {})[alias] = move.text
    kept = max(
        (head for head in groups if head != "import"), key=lambda head: (len(groups[head]), head == own), default=""
    )
    start, end = source.span(statement)
    if not kept:
        source.replace(start, end, f"import {', '.join(groups['import'].values())}")
        return
    blanks = source.before(start)
    for head in groups.keys() - {kept}:
        text = _statement(head, list(groups[head].values()), source.line_end, blanks)
        source.replace(start, start, text)
    if kept != own:
        _rename_module(source, statement, kept.removeprefix("from ").removesuffix(" import"))
    _keep(source, statement, groups[kept])


def _statement(head: str, names: list[str], line_end: str, blanks: str | None) -> str:
    """A statement and what parts it from the next one, which *blanks* precede; None where that is in the same line."""
    line = f"{head} {', '.join(names)}"
    if blanks is None:
        return f"{line}; "
    separator = line_end + blanks
    if len(line) > _LONGEST and head != "import":
        line = separator.join([f"{head} (", *(f"    {name}," for name in names), ")"])
    return line + separator


def _rename_module(source: Source, statement: ast.ImportFrom, module: str) -> None:
    start, _ = source.span(statement)
    own = rf"{_GAP}\.{_GAP}".join(map(re.escape, (statement.module or "").split(".")))
    found = re.compile(rf"from{_GAP}({own})").match(source.text, start)
    assert found is not None
    source.replace(*found.span(1), module)


def _keep(source: Source, statement: ast.ImportFrom, texts: Mapping[ast.alias, str]) -> None:
    """Leave these names in *statement*, written so."""
    start, end = source.span(statement.names[0])[0], source.span(statement.names[-1])[1]
    in_parentheses = "(" in source.text[source.span(statement)[0] : start]
    several_lines = re.search(r"[\r\n]", source.text[start:end])
    if len(texts) < len(statement.names) and not (in_parentheses and several_lines):
        source.replace(start, end, ", ".join(texts.values()))
        return
    for alias in statement.names:
        if alias in texts:
            source.replace(*source.span(alias), texts[alias])
        else:
            _cut(source, alias)


def _cut(source: Source, alias: ast.alias) -> None:
    """Take *alias* and its comma out of a statement of several lines, and its line where nothing else is there."""
    start, end = source.span(alias)
    gap = _GAP_WITH_COMMENTS.match(source.text, end)
    assert gap is not None
    comma = gap.end()
    if source.text[comma : comma + 1] == ",":
        if gap[0].strip(" \t\f"):
            source.replace(comma, comma + 1, "")
        else:
            end = comma + 1
    rest = _REST_OF_LINE.match(source.text, end)
    blanks = source.before(start)
    if rest is not None and blanks is not None:
        start, end = start - len(blanks), rest.end()
    elif rest is not None:
        start = len(source.text[:start].rstrip(" \t\f"))
    elif blank := _BLANKS.match(source.text, end):
        end = blank.end()
    source.replace(start, end, "")
