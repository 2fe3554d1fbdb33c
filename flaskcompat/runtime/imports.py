"""How the modules of a pipelines folder are imported.

They see two things that others do not: modules that stand beside them, by their plain names, and modules that stand in
for packages that are not installed. Both are found by an ``__import__`` of their own: ``sys.path`` stays as it is, and
nothing stands in ``sys.modules`` under another package's name.
"""

from __future__ import annotations

import builtins
import importlib
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from haystack.core.component import component


class StandIns(Protocol):
    """Modules in place of packages that are not installed."""

    def __contains__(self, top: object) -> bool:
        """Whether the package *top* is stood in for."""

    def find(self, name: str, names: Sequence[str]) -> ModuleType:
        """The module *name*, of which *names* are wanted; its parents have it as an attribute.

        :raises ImportError: if it, or one of them, is not offered.
        """


class FolderFinder(MetaPathFinder):
    """Finds the modules of packages that were made for pipelines folders, and of no others."""

    def __init__(self) -> None:
        self._stand_ins: dict[str, StandIns] = {}

    def add(self, root: str, stand_ins: StandIns) -> None:
        """Find what is below the package *root*, too."""
        self._stand_ins[root] = stand_ins
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def remove(self, root: str) -> None:
        """Find nothing more below the package *root*; nothing happens if it was not added."""
        self._stand_ins.pop(root, None)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        stand_ins = self._stand_ins.get(fullname.partition(".")[0])
        if stand_ins is None or path is None:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = Loader(fullname, spec.loader.path, stand_ins)
        return spec

    def package(self, name: str, init: Path) -> ModuleSpec:
        """The package *name* of the folder that *init* stands in, for one that was added or is below it."""
        loader = Loader(name, str(init), self._stand_ins[name.partition(".")[0]])
        spec = spec_from_file_location(name, init, loader=loader, submodule_search_locations=[str(init.parent)])
        assert spec is not None
        return spec


class Package:
    """A package that was made of a folder. Its modules can be imported as long as it is held, or one below it.

    :param parent: the package that it is below.
    """

    def __init__(self, name: str, parent: Package | None = None) -> None:
        self.name = name
        self._parent = parent
        weakref.finalize(self, _forget, name).atexit = False


def _forget(name: str) -> None:
    """Take the modules of the package *name* out of the tables that would keep them; code that holds them goes on."""
    finder.remove(name)
    table: dict[str, Any]
    for table in (sys.modules, component.registry):  # Haystack keeps each class of a component
        for key in list(table):
            if key == name or key.startswith(f"{name}."):
                table.pop(key, None)


class Loader(SourceFileLoader):
    """Runs a module with an ``__import__`` of its own."""

    def __init__(self, fullname: str, path: str, stand_ins: StandIns) -> None:
        super().__init__(fullname, path)
        self._stand_ins = stand_ins

    def path_stats(self, path: str) -> Any:
        # No cache of bytecode: to that, a file that is edited within a second looks the same.
        raise OSError

    def exec_module(self, module: ModuleType) -> None:
        own = {"__import__": partial(_import, self._stand_ins)}
        # Where a module has builtins, all of its code uses them, whenever it runs.
        module.__dict__["__builtins__"] = {**vars(builtins), **own}
        super().exec_module(module)


def _import(
    stand_ins: StandIns,
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    """The ``__import__`` of such a module; what the interpreter's own would give, or what this one finds."""
    top = name.partition(".")[0]
    if level or top in sys.stdlib_module_names:
        return builtins.__import__(name, globals, locals, fromlist or (), level)
    if top in stand_ins:
        found = stand_ins.find(name, fromlist or ())
        return found if fromlist else stand_ins.find(top, ())
    own = str((globals or {}).get("__package__") or "")
    if (package := _package_beside(own, top, _is_module)) is None:
        try:
            return builtins.__import__(name, globals, locals, fromlist or ())
        except ModuleNotFoundError as error:
            # Of a folder without an __init__.py, anything that is installed comes first, as on `sys.path`.
            package = _package_beside(own, top, Path.is_dir) if error.name == top else None
            if package is None:
                raise
    importlib.import_module(f"{package}.{name}")
    return (
        builtins.__import__(f"{package}.{name}", globals, locals, fromlist)
        if fromlist
        else sys.modules[f"{package}.{top}"]
    )


def _package_beside(package: str, top: str, there: Callable[[Path], bool]) -> str | None:
    """The package, *package* or one that it is in, in whose folder *top* is; the pipelines folder is the last one."""
    while package:
        folders = getattr(sys.modules.get(package), "__path__", ())
        if any(there(Path(folder, top)) for folder in folders):
            return package
        package = package.rpartition(".")[0]
    return None


def _is_module(path: Path) -> bool:
    return path.with_name(f"{path.name}.py").is_file() or (path / "__init__.py").is_file()


#: The finder of this process.
finder = FolderFinder()
