"""A Python source as text and tree, and edits of single spans of it."""

from __future__ import annotations

import ast
import re
import warnings
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass

_LINE_END = re.compile(r"\r\n|\r|\n")  # those of Python, which are fewer than those of `str.splitlines`


@dataclass(frozen=True, slots=True, order=True)
class Note:
    """What is left to do by hand: in which line of the text given, and what."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Migrated:
    """A text after its migration, and what is left to do in it."""

    text: str
    notes: tuple[Note, ...] = ()


def parse(text: str) -> ast.Module | None:
    """The tree of a source that compiles; None for one that does not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the user's own code
            tree = compile(text, "<source>", "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
            compile(text, "<source>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    assert isinstance(tree, ast.Module)
    return tree


class Source:
    """One module: its nodes by what the rules ask for, and the edits and notes that they make.

    :param asked_for: names that other modules may import from this one, which must stay.
    """

    def __init__(self, text: str, tree: ast.Module, asked_for: Collection[str] = ()) -> None:
        self.text = text
        self.asked_for = asked_for
        self.parents: dict[ast.AST, ast.AST] = {}
        self.nodes = list(ast.walk(tree))
        for node in self.nodes:
            for child in ast.iter_child_nodes(node):
                self.parents[child] = node
        #: Where a name is read, and what else gives it a meaning, import aliases included.
        self.reads: dict[str, list[ast.Name]] = defaultdict(list)
        self.bindings: dict[str, list[ast.AST]] = defaultdict(list)
        for node in self.nodes:
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                self.reads[node.id].append(node)
            for name in _names_bound_by(node):
                self.bindings[name].append(node)
        self._line_starts = [0, *(found.end() for found in _LINE_END.finditer(text))]
        self._edits: list[tuple[int, int, str]] = []
        self._notes: set[Note] = set()

    @property
    def line_end(self) -> str:
        """How its lines end."""
        found = _LINE_END.search(self.text)
        return found[0] if found else "\n"

    def span(self, node: ast.AST) -> tuple[int, int]:
        """Where *node* begins and ends in the text."""
        return (
            self._offset(node.lineno, node.col_offset),  # type: ignore[attr-defined]
            self._offset(node.end_lineno, node.end_col_offset),  # type: ignore[attr-defined]
        )

    def text_of(self, node: ast.AST) -> str:
        start, end = self.span(node)
        return self.text[start:end]

    def before(self, offset: int) -> str | None:
        """The blanks before *offset* in its line; None if there is more than blanks, or the line goes on another."""
        start = self._line_starts[bisect_right(self._line_starts, offset) - 1]
        blanks = self.text[start:offset]
        return None if blanks.strip() or self.text[:start].rstrip("\r\n").endswith("\\") else blanks

    def assigned(self, node: ast.AST) -> ast.expr | None:
        """What is assigned where *node* binds a name; None if it binds it in another way."""
        match self.parents.get(node):
            case ast.Assign(targets=[target], value=value) if target is node:
                return value
            case ast.AnnAssign(target=target, value=value) | ast.NamedExpr(target=target, value=value) if (
                target is node
            ):
                return value
        return None

    def annotated(self, name: str) -> Iterator[ast.Constant]:
        """Texts in annotations that have *name* in them."""
        for node in self.nodes:
            for field in ("annotation", "returns"):
                for part in ast.walk(getattr(node, field, None) or ast.Load()):
                    match part:
                        case ast.Constant(value=str(text)) if re.search(rf"\b{name}\b", text):
                            yield part

    def quoted(self, name: str) -> Iterator[ast.Constant]:
        """Texts that are *name*, as those of ``__all__`` are."""
        for node in self.nodes:
            match node:
                case ast.Constant(value=str(text)) if text == name:
                    yield node

    def _offset(self, line: int, column: int) -> int:
        start = self._line_starts[line - 1]
        end = self._line_starts[line] if line < len(self._line_starts) else len(self.text)
        return start + len(self.text[start:end].encode()[:column].decode())  # the tree counts bytes of UTF-8

    def replace(self, start: int, end: int, text: str) -> None:
        if self.text[start:end] != text:
            self._edits.append((start, end, text))

    def note(self, node: ast.AST, text: str) -> None:
        self._notes.add(Note(node.lineno, text))  # type: ignore[attr-defined]

    def migrated(self) -> Migrated:
        """The text with all edits made; as it was, if it would not compile with them."""
        parts, at = [], 0
        for start, end, new in sorted(self._edits):  # what is taken out may be so twice
            parts += [self.text[at:start], new]
            at = max(at, end)
        text = "".join([*parts, self.text[at:]])
        if self._edits and parse(text) is None:
            return Migrated(self.text, (Note(1, "left as it is: it would not compile after the changes"),))
        return Migrated(text, tuple(sorted(self._notes)))


def _names_bound_by(node: ast.AST) -> list[str]:
    match node:
        case ast.alias():
            return [node.asname or node.name.partition(".")[0]]
        case ast.Name(ctx=ast.Store() | ast.Del()):
            return [node.id]
        case ast.arg():
            return [node.arg]
        case ast.Global() | ast.Nonlocal():
            return node.names
        case ast.MatchMapping():
            return [node.rest] if node.rest else []
    name = getattr(node, "name", None)  # of a function, a class, a handler, a pattern, a type's parameter
    return [name] if isinstance(name, str) else []
