"""Settings and requirements: of ``.env`` and ``requirements.txt``, and where other files name them."""

from __future__ import annotations

import re
from collections.abc import Collection

from flaskcompat.config import HAYHOOKS_SETTINGS
from flaskcompat.migration.source import Migrated, Note

#: A setting of Hayhooks'.
SETTING = re.compile(r"\bHAYHOOKS_[A-Z0-9_]+\b")

_EQUALS = {theirs: ours for ours, theirs in HAYHOOKS_SETTINGS.items()}
# By the beginning of a name; the first that fits.
_ADVICE = {
    "HAYHOOKS_HOST": "`flaskcompat serve --host` says it",
    "HAYHOOKS_PORT": "`flaskcompat serve --port` says it",
    "HAYHOOKS_GRACEFUL_SHUTDOWN_TIMEOUT": "FLASKCOMPAT_SHUTDOWN_GRACE is its nearest",
    "HAYHOOKS_CORS_": "no CORS headers are sent; a proxy in front may",
    "HAYHOOKS_STREAMING_COMPONENTS": "`streaming_components=` of streaming_generator says it",
    "HAYHOOKS_API_KEY": "FLASKCOMPAT_API_KEYS asks for keys",
    "HAYHOOKS_": "take it out",
}

_ASSIGNMENT = re.compile(r"(?P<head>[ \t]*(?:export[ \t]+)?)(?P<name>HAYHOOKS_[A-Z0-9_]+)(?=[ \t]*=)")
_REQUIREMENT = re.compile(
    r"(?P<head>[ \t]*)hayhooks(?P<more>(?![\w.-])[^;#\r\n]*?)(?P<tail>[ \t]*(?:;[^\r\n]*|[ \t]#[^\r\n]*)?)$", re.I
)
_OURS = re.compile(r"[ \t]*flaskcompat\b", re.I)
_VERSIONS = re.compile(r"[ \t]*(?:(?:[=<>!~]=?=?)[ \t]*[\w.*+!-]+[ \t]*,?[ \t]*)*")
# A command is a text, or a list of texts in a line or in lines of their own.
_BETWEEN = r"(?:[ \t]+|[\"']?[ \t]*(?:,|\n[ \t]*-[ \t])[ \t]*[\"']?)"
_COMMAND = rf"hayhooks{_BETWEEN}(?:run|pipeline|status|mcp|a2a|dashboard)\b"
_IMPORT = re.compile(r"\b(?:from|import) +hayhooks\b")
_ELSEWHERE = {
    re.compile(rf"\b{_COMMAND}"): "`flaskcompat serve` serves the folder",
    re.compile(r"\bdeepset/hayhooks\b"): "use an image that flaskcompat is installed in",
    re.compile(
        rf"\b(?:install|add)\b.*\bhayhooks\b|[\"'](?!{_COMMAND})hayhooks\b(?!\.)[^\"'/\n]*[\"']"
        r"|^[ \t]*hayhooks[ \t]*(?:[=<>~\[]|$)|^[ \t]*-[ \t]+hayhooks[ \t]*[=<>~\[]",
        re.M,
    ): "require flaskcompat in place of hayhooks",
}


def in_place_of(setting: str) -> str:
    """What there is in place of a *setting* of Hayhooks'."""
    if ours := _EQUALS.get(setting):
        return f"`{setting}` is `{ours}` here"
    advice = next(advice for beginning, advice in _ADVICE.items() if setting.startswith(beginning))
    return f"`{setting}` has no counterpart: {advice}"


def migrate_environment(text: str, *, named_elsewhere: Collection[str] = ()) -> Migrated:
    """The text of a ``.env`` file with the settings that mean the same under our names.

    :param named_elsewhere: settings that other files read, which would miss them.
    """
    lines, notes = text.splitlines(keepends=True), []
    for number, line in enumerate(lines):
        if not (found := _ASSIGNMENT.match(line)):
            continue
        name, ours = found["name"], _EQUALS.get(found["name"], "")
        if not ours or name in named_elsewhere or re.search(rf"\b{ours}\b", text):
            notes.append(Note(number + 1, in_place_of(name)))
        else:
            lines[number] = f"{found['head']}{ours}{line[found.end() :]}"
    return Migrated("".join(lines), tuple(notes))


def migrate_requirements(text: str, *, is_needed: bool) -> Migrated:
    """The text of a ``requirements.txt`` with flaskcompat in place of Hayhooks.

    :param is_needed: whether something still needs Hayhooks.
    """
    lines, notes = text.splitlines(keepends=True), []
    for number, line in enumerate(lines):
        bare = line.rstrip("\r\n")
        if not (found := _REQUIREMENT.match(bare)):
            continue
        plain = _VERSIONS.fullmatch(found["more"]) and not any(map(_OURS.match, lines))
        if is_needed or not plain:
            notes.append(Note(number + 1, "require flaskcompat in place of hayhooks, once nothing needs that"))
        else:
            lines[number] = f"{found['head']}flaskcompat{found['tail']}{line[len(bare) :]}"
    return Migrated("".join(lines), tuple(notes))


def look_through(text: str) -> Migrated:
    """A text of another kind, as it is, with where it names settings, commands or the package of Hayhooks."""
    lines = [number for number, line in enumerate(_lines(text), 1) if _IMPORT.search(line)]
    imports = {Note(number, "import from flaskcompat in place of hayhooks") for number in lines}
    return Migrated(text, tuple(sorted(notes_on(text) | imports)))


def notes_on(text: str) -> set[Note]:
    """Where a text of any kind names settings, commands or the package of Hayhooks, but for imports."""
    said = "\n".join(_lines(text))
    found = [(match.start(), in_place_of(match[0])) for match in SETTING.finditer(said)]
    found += [(match.start(), advice) for pattern, advice in _ELSEWHERE.items() for match in pattern.finditer(said)]
    return {Note(said.count("\n", 0, start) + 1, advice) for start, advice in found}


def _lines(text: str) -> list[str]:
    """The lines of a text, with nothing in those that are comments."""
    return ["" if line.lstrip().startswith("#") else line for line in text.splitlines()]
