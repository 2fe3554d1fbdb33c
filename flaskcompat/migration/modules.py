"""``import hayhooks``, its submodules, and their names as attributes."""

from __future__ import annotations

import ast
from collections import defaultdict
from dataclasses import dataclass

from flaskcompat.migration.imports import Move
from flaskcompat.migration.names import EVENTS, ROOT, has_none, home_of_module, homes_of
from flaskcompat.migration.source import Source
from flaskcompat.runtime.hayhooks import HAYHOOKS


@dataclass(frozen=True, slots=True)
class _Import:
    """One alias that binds a module.

    :param module: the one that it names; its name binds that or, without ``as``, Hayhooks as a whole.
    """

    alias: ast.alias
    statement: ast.Import | ast.ImportFrom
    module: str

    @property
    def bound(self) -> str:
        if isinstance(self.statement, ast.ImportFrom) or self.alias.asname:
            return self.module
        return "hayhooks"


def rewrite_modules(source: Source) -> dict[ast.alias, Move]:
    """Rewrite ``import``s of Hayhooks' modules with all that is read of them; gives those of ``from`` imports.

    A name of which anything is not certain is left as it is, and noted.
    """
    moves: dict[ast.alias, Move] = {}
    for name, imports in _imports_by_name(source).items():
        if _is_certain(source, name, imports):
            moves |= _rewrite(source, name, imports)
    return moves


def _imports_by_name(source: Source) -> dict[str, list[_Import]]:
    found: dict[str, list[_Import]] = defaultdict(list)
    for node in source.nodes:
        match node:
            case ast.Import():
                for alias in node.names:
                    if alias.name.partition(".")[0] == "hayhooks":
                        found[alias.asname or "hayhooks"].append(_Import(alias, node, alias.name))
            case ast.ImportFrom(level=0):
                for alias in node.names:
                    if (module := f"{node.module}.{alias.name}") in HAYHOOKS:
                        found[alias.asname or alias.name].append(_Import(alias, node, module))
    return found


def _is_certain(source: Source, name: str, imports: list[_Import]) -> bool:
    """Whether all that *name* stands for is known; what is not is noted."""
    unknown = [found for found in imports if found.module not in HAYHOOKS]
    for found in unknown:
        source.note(found.statement, has_none(found.module))
    if unknown:
        return False
    first = imports[0]
    reason = ""
    if not _is_bound_by_these_alone(source, name, imports):
        reason = "it stands for other things, too"
    elif name in source.asked_for and not _keeps_its_name(first):
        reason = "another file imports it from here"
    elif any(source.annotated(name)):
        reason = "an annotation has it in a text"
    elif not _keeps_its_name(first) and any(source.quoted(name)):
        reason = "a text names it"
    elif any("#" in source.text_of(found.statement) for found in imports):
        reason = "there are comments within its import"
    if reason:
        source.note(first.statement, f"`{name}` is left as it is: {reason}; import its names from {ROOT}")
        return False
    wrong = [read for read in source.reads[name] if _resolve(source, read, first.bound) is None]
    for read in wrong:
        source.note(read, _why_not(source, read, first.bound))
    return not wrong


def _is_bound_by_these_alone(source: Source, name: str, imports: list[_Import]) -> bool:
    kinds = {(found.bound, _keeps_its_name(found)) for found in imports}
    others = set(source.bindings[name]) - {found.alias for found in imports}
    taken = not _keeps_its_name(imports[0]) and any(not isinstance(node, ast.alias) for node in source.bindings[ROOT])
    return len(kinds) == 1 and not others and not taken


def _keeps_its_name(found: _Import) -> bool:
    return isinstance(found.statement, ast.ImportFrom) or found.alias.asname is not None


def _chain(source: Source, read: ast.Name, module: str) -> tuple[ast.expr, str, str | None]:
    """The expression around *read* as far as it is a name of a module: with that module and the name."""
    node: ast.expr = read
    while isinstance(parent := source.parents[node], ast.Attribute):
        node = parent
        if f"{module}.{parent.attr}" not in HAYHOOKS:
            return node, module, parent.attr
        module = f"{module}.{parent.attr}"
    return node, module, None


def _resolve(source: Source, read: ast.Name, module: str) -> tuple[ast.Attribute, tuple[str, ...]] | None:
    """The attribute that a module's name is read by, and its homes; None if it is not that plain."""
    node, module, name = _chain(source, read, module)
    if not (name and isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)):
        return None
    homes = homes_of(module, name)
    return (node, homes) if homes and node.lineno == node.end_lineno else None


def _why_not(source: Source, read: ast.Name, module: str) -> str:
    _, found, name = _chain(source, read, module)
    if name and not homes_of(found, name):
        return has_none(f"{found}.{name}")
    return f"`{read.id}` is left as it is: it is used as a whole; import its names from {ROOT}"


def _rewrite(source: Source, name: str, imports: list[_Import]) -> dict[ast.alias, Move]:
    uses = [found for read in source.reads[name] if (found := _resolve(source, read, imports[0].bound))]
    keeps = _keeps_its_name(imports[0])
    only_events = all(EVENTS in homes for _, homes in uses)
    home = home_of_module(imports[0].module) if keeps and only_events else ROOT
    own = name if keeps else ROOT
    for node, homes in uses:
        path = own if home in homes else f"{own}.{EVENTS.rpartition('.')[2]}"
        source.replace(*source.span(node), f"{path}.{node.attr}")
    moves = {}
    for imported in imports:
        if isinstance(imported.statement, ast.ImportFrom):
            moves[imported.alias] = _move(home, name)
        else:
            text = f"{home} as {name}" if keeps else home_of_module(imported.module)
            source.replace(*source.span(imported.alias), text)
    return moves


def _move(home: str, name: str) -> Move:
    package, _, own = home.rpartition(".")
    if not package:
        return Move("import", f"{home} as {name}")
    return Move(f"from {package} import", own if own == name else f"{own} as {name}")
