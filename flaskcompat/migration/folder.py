"""The migration of the texts of a folder, which know of each other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import PurePath
from typing import TypeVar

import click

from flaskcompat.migration.python import line_that_needs_exception, migrate_python, names_asked_for
from flaskcompat.migration.settings import SETTING, look_through, migrate_environment, migrate_requirements, notes_on
from flaskcompat.migration.source import Migrated, Note

_PYTHON = ("*.py",)
_ENVIRONMENT = (".env", ".env.*", "*.env", ".flaskenv")
_REQUIREMENTS = ("*requirements*.txt", "*requirements*.in")
_LOOKED_AT = (
    *("Dockerfile*", "*.dockerfile", "Containerfile*", "*.yml", "*.yaml", "*.sh", "*.ipynb"),
    *("pyproject.toml", "setup.cfg", "Makefile", "Procfile"),
)
_SETUP = "setup.py"
#: The names of the files that are looked at.
FILES = (*_PYTHON, *_ENVIRONMENT, *_REQUIREMENTS, *_LOOKED_AT)

_IMPORT = re.compile(r"^\s*(?:from|import)\s+hayhooks\b", re.M)
# What a setting is not read by: an assignment of an environment's file, a comment.
_NOT_READ = re.compile(r"^[ \t]*(?:export[ \t]+)?HAYHOOKS_[A-Z0-9_]+[ \t]*=|^[ \t]*#.*", re.M)


P = TypeVar("P", bound=PurePath)


def migrate_texts(texts: Mapping[P, str]) -> dict[P, Migrated]:
    """What becomes of each file, by its path; one whose name is none of :data:`FILES` is left out."""
    sources = {path: text for path, text in texts.items() if _is(path, _PYTHON)}
    asked_for = set().union(*map(names_asked_for, sources.values()))
    needed = _where_exception_is_needed(sources, asked_for)
    done = {path: migrate_python(text, asked_for=asked_for, exception_needed=needed) for path, text in sources.items()}
    is_needed = any(_IMPORT.search(migrated.text) for migrated in done.values())
    named = {path: _settings_read(path, text) for path, text in texts.items()}
    named_elsewhere = set().union(*named.values())
    for path, text in texts.items():
        if _is(path, _ENVIRONMENT):
            done[path] = migrate_environment(text, named_elsewhere=named_elsewhere)
        elif _is(path, _REQUIREMENTS):
            done[path] = migrate_requirements(text, is_needed=is_needed)
        elif _is(path, _LOOKED_AT):
            done[path] = look_through(text)
        elif path.name == _SETUP:
            done[path] = _with_notes(done[path], notes_on(text))
    return {path: done[path] for path in texts if path in done}


def _where_exception_is_needed(sources: Mapping[P, str], asked_for: set[str]) -> str:
    """The first place that needs FastAPI's exception as it is, which a file cannot tell for the others."""
    for path, text in sources.items():
        if line := line_that_needs_exception(text, asked_for=asked_for):
            return f"line {line} of {click.format_filename(path)}"
    return ""


def _with_notes(migrated: Migrated, notes: set[Note]) -> Migrated:
    return Migrated(migrated.text, tuple(sorted({*migrated.notes, *notes})))


def _is(path: PurePath, names: tuple[str, ...]) -> bool:
    return any(fnmatch(path.name, name) for name in names)


def _settings_read(path: PurePath, text: str) -> set[str]:
    """Settings of Hayhooks' that a file reads, or may read."""
    return set(SETTING.findall(_NOT_READ.sub("", text) if _is(path, _ENVIRONMENT) else text))
