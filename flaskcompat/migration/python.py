"""The migration of one Python source."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection

from flaskcompat.migration.imports import Move, moves_of_names, rewrite_statement
from flaskcompat.migration.modules import rewrite_modules
from flaskcompat.migration.names import STOOD_IN, advice_on, has_none
from flaskcompat.migration.settings import SETTING, in_place_of
from flaskcompat.migration.source import Migrated, Note, Source, parse
from flaskcompat.migration.spellings import move_async_pipeline, needs_exception, rewrite_exceptions, rewrite_replies

#: What a source has somewhere that is of interest.
_NAMES = re.compile(r"hayhooks|fastapi|starlette|AsyncPipeline|replies|run_api", re.I)
_EXCEPTION = re.compile(r"HTTPException|detail|status_code")
_DOTTED = re.compile(r"hayhooks\.\w")
_IMPORTERS = ("import_module", "__import__", "find_spec", "importorskip", "patch", "version")
_OTHERS = ("hayhooks", "fastapi", "starlette")


#: The names that a source may have no more, after it.
_RENAMED = ("hayhooks", "HTTPException")


def migrate_python(text: str, *, asked_for: Collection[str] = (), exception_needed: str = "") -> Migrated:
    """*text* with the names of Hayhooks, and those of FastAPI's that its wrappers use, taken from this package.

    All but the spans that change stays as it is. A text that does not compile is left.

    :param asked_for: what :func:`names_asked_for` gives for the other sources of the folder.
    :param exception_needed: where another one needs FastAPI's exception as it is.
    """
    if not _NAMES.search(text):
        return Migrated(text)
    tree = parse(text)
    if tree is None:
        return Migrated(text, (Note(1, "left as it is: it does not compile"),))
    source = Source(text, tree, asked_for)
    moves = rewrite_modules(source) | rewrite_exceptions(source, exception_needed)
    for node in source.nodes:
        match node:
            case ast.ImportFrom(level=0, module=str()):
                _rewrite_from(source, node, moves)
            case ast.Import():
                _note_others(source, node)
            case ast.Call(args=[ast.Constant(value="hayhooks"), *_]) if _imports(node):
                source.note(node, _looked_up("hayhooks"))
            case ast.Constant(value=str(name)) if _DOTTED.match(name):
                source.note(node, _looked_up(name))
            case ast.Constant(value=str(name)) if SETTING.fullmatch(name):
                source.note(node, in_place_of(name))
            case ast.ClassDef():
                _note_run_api(source, node)
    rewrite_replies(source)
    return source.migrated()


def names_asked_for(text: str) -> set[str]:
    """Names that a source imports from modules beside it and that a migration of those might change."""
    tree = parse(text) if any(name in text for name in (*_RENAMED, "*")) else None
    names: set[str] = set()
    for node in ast.walk(tree) if tree else ():
        match node:
            case ast.ImportFrom(module=module, names=aliases) if (module or "").partition(".")[0] not in _OTHERS:
                names |= {alias.name for alias in aliases}
            case ast.Attribute(attr=name, value=ast.Name(id=base)) if base not in _OTHERS:
                names.add(name)
    return names.union(_RENAMED) if "*" in names else names.intersection(_RENAMED)


def line_that_needs_exception(text: str, *, asked_for: Collection[str]) -> int | None:
    """The line of a source that needs FastAPI's exception as it is, if any does."""
    if not _EXCEPTION.search(text):
        return None
    tree = parse(text)
    if tree is None:  # who knows
        return 1 if "HTTPException" in text else None
    return min((node.lineno for node in needs_exception(Source(text, tree, asked_for))), default=None)  # type: ignore[attr-defined]


def _looked_up(name: str) -> str:
    return f'"{name}" is looked up by its name: name what flaskcompat has in place of it'


def _rewrite_from(source: Source, statement: ast.ImportFrom, moves: dict[ast.alias, Move]) -> None:
    module = statement.module or ""
    own = {alias: moves[alias] for alias in statement.names if alias in moves}
    own = moves_of_names(source, statement) | own | move_async_pipeline(source, statement)
    if own:
        rewrite_statement(source, statement, own)
    if module.partition(".")[0] not in _OTHERS:
        return
    without: dict[str, list[ast.alias]] = {}
    for alias in statement.names:
        name = f"{module}.{alias.name}"
        if alias.name == "*":
            source.note(statement, f"`from {module} import *`: import what is used by name, and run this again")
        elif alias not in own and name not in STOOD_IN and alias.name != "HTTPException":  # those have been told of
            without.setdefault(advice_on(name), []).append(alias)
    for advice, aliases in without.items():
        names = ", ".join(f"`{alias.name}`" for alias in aliases)
        source.note(
            aliases[0], f"{names} of `{module}` {'has' if len(aliases) == 1 else 'have'} no counterpart: {advice}"
        )


def _note_others(source: Source, statement: ast.Import) -> None:
    for alias in statement.names:
        if alias.name.partition(".")[0] in _OTHERS[1:]:
            source.note(statement, has_none(alias.name))


def _imports(call: ast.Call) -> bool:
    return getattr(call.func, "id", getattr(call.func, "attr", None)) in _IMPORTERS


def _note_run_api(source: Source, node: ast.ClassDef) -> None:
    used = {found.attr for found in source.nodes if isinstance(found, ast.Attribute)}
    for part in node.body:
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) and part.name in ("run_api", "run_api_async"):
            if part.name not in used:
                source.note(part, f"`{part.name}` is not served: answer in run_chat_completion or run_response")
