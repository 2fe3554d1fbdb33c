"""Which files are the source of a model: its wrapper and what that imports, and its pipelines in YAML."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from flaskcompat.runtime.loader import WRAPPER_FILE


def source_files(directory: Path, folder: Path) -> list[Path]:
    """The files of the model in *directory*, and those beside the models in *folder* that it imports."""
    found = set[Path]()
    waiting = [path for path in (directory / "__init__.py", directory / WRAPPER_FILE) if path.is_file()]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imported(path, folder)
    return sorted([*found, *(path for path in directory.rglob("*") if path.suffix in (".yml", ".yaml"))])


def _imported(path: Path, folder: Path) -> Iterator[Path]:
    """The files of *folder* that the one at *path* imports, wherever in it."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):  # what is wrong there is told by loading it
        return
    # Modules that stand beside it, or above it up to the folder, go by their plain names.
    above = [parent for parent in path.parents if parent.is_relative_to(folder)]
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                modules, places = [alias.name for alias in names], above
            case ast.ImportFrom(module=module, names=names, level=level):
                modules = [".".join(filter(None, (module, alias.name))) for alias in names]
                places = above[level - 1 : level] if level else above
            case _:
                continue
        for module in modules:
            yield from (file for place in places for file in _files_of(module, place))


def _files_of(module: str, place: Path) -> Iterator[Path]:
    """The files that are run when *module* is imported from *place*."""
    for part in module.split("."):
        place = place / part
        for file in (place.with_name(f"{part}.py"), place / "__init__.py"):
            if file.is_file():
                yield file
