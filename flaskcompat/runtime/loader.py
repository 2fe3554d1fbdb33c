"""From a folder of wrappers to a registry: ``<folder>/<name>/pipeline_wrapper.py`` becomes the model ``<name>``.

So does a pipeline alone, ``<folder>/<name>/pipeline.yml``.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import os
import re
import sys
from pathlib import Path
from types import ModuleType

from flaskcompat.errors import PipelineLoadError
from flaskcompat.log import log
from flaskcompat.runtime.hayhooks import Alias, stand_ins
from flaskcompat.runtime.imports import Package, finder
from flaskcompat.runtime.registry import Registry
from flaskcompat.runtime.wrapper import BasePipelineWrapper

WRAPPER_FILE = "pipeline_wrapper.py"
PIPELINE_FILES = ("pipeline.yml", "pipeline.yaml")
WRAPPER_CLASS = "PipelineWrapper"

# Each folder that is loaded gets a package of its own, so that two applications never share a module.
_roots = itertools.count(1)


def load_folder(
    folder: Path, registry: Registry, *, strict: bool = False, alias: Alias = "auto", python_path: str | None = None
) -> PipelinesFolder:
    """Add every wrapper below *folder* to *registry*, one after the other, by name.

    One that fails is logged with its traceback and noted in ``registry.failed``; the others are served.

    :param alias: whether ``hayhooks`` is stood in for.
    :param python_path: further folders of modules, as ``PYTHONPATH`` has them.
    :raises PipelineLoadError: if the folder is missing; with *strict* for the first wrapper that fails.
    """
    loaded = open_folder(folder, registry, alias=alias, python_path=python_path)
    for directory in loaded.models():
        name = directory.name
        if (error := loaded.load(directory)) is None:
            continue
        if strict:
            raise PipelineLoadError(f"model '{name}' failed to load: {reason_of(error)}") from error
        registry.failed[name] = reason_of(error)
        log.opt(exception=error).error("model '{}' failed to load and is not served", name)
    return loaded


def open_folder(
    folder: Path, registry: Registry, *, alias: Alias = "auto", python_path: str | None = None
) -> PipelinesFolder:
    """*folder* with none of its models loaded yet; see :func:`load_folder`.

    :raises PipelineLoadError: if the folder is missing.
    """
    if not folder.is_dir():
        raise PipelineLoadError(f"the pipelines folder {folder} does not exist")
    for place in (python_path or "").split(os.pathsep):
        if place and place not in sys.path:
            sys.path.append(place)
    return PipelinesFolder(folder, registry, alias)


def model_folders(folder: Path) -> list[Path]:
    """The folders of the models in *folder*, by name."""
    return sorted(path for path in folder.iterdir() if is_model(path))


class PipelinesFolder:
    """A folder of models, and the registry that they go into.

    The modules of a model can be imported as long as the model is held, those that models have in common as long as
    this or one of the models is.

    :param alias: whether ``hayhooks`` is stood in for.
    """

    def __init__(self, path: Path, registry: Registry, alias: Alias) -> None:
        self.path = path
        self.registry = registry
        self._alias: Alias = alias
        self.renew()

    def renew(self) -> None:
        """Import anew whatever the models have in common, when each of them is loaded the next time."""
        self._root = Package(_unused(f"flaskcompat_pipelines_{next(_roots)}"))
        finder.add(self._root.name, stand_ins(self._alias))
        _make(self._root, self.path)

    def models(self) -> list[Path]:
        """The folders of the models, by name."""
        return model_folders(self.path)

    def load(self, directory: Path) -> BaseException | None:
        """Serve the model of *directory*, in place of the one that was loaded before; gives why it cannot be."""
        try:
            if not (directory / WRAPPER_FILE).is_file():
                self.registry.add(directory.name, _pipeline_file(directory))
            else:
                package = self._package(directory)
                model = self.registry.add(directory.name, _wrapper_class(package))
                # Its code may import when it runs.
                vars(model.wrapper)["_flaskcompat_package"] = package
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a wrapper that calls sys.exit() must not take the others along
            return error
        return None

    def _package(self, directory: Path) -> Package:
        # A dot would make a subpackage of what is a name here.
        name = f"{self._root.name}.{re.sub(r'[^0-9A-Za-z_-]', '_', directory.name)}"
        package = Package(_unused(name), self._root)
        _make(package, directory)
        return package


def is_model(directory: Path) -> bool:
    """Whether *directory* is the folder of one model."""
    if directory.name.startswith((".", "_")) or not directory.is_dir():
        return False
    return (directory / WRAPPER_FILE).is_file() or _pipeline_file(directory).is_file()


def _pipeline_file(directory: Path) -> Path:
    return next(
        (path for name in PIPELINE_FILES if (path := directory / name).is_file()), directory / PIPELINE_FILES[0]
    )


def _wrapper_class(package: Package) -> type[BasePipelineWrapper]:
    module = importlib.import_module(f"{package.name}.{WRAPPER_FILE.removesuffix('.py')}")
    wrapper = getattr(module, WRAPPER_CLASS, None)
    if not isinstance(wrapper, type):
        raise PipelineLoadError(f"{WRAPPER_FILE} has no class {WRAPPER_CLASS}")
    return wrapper


def _make(package: Package, folder: Path) -> None:
    """Make *folder* the *package*, so that modules in it import each other relatively."""
    init = folder / "__init__.py"
    if not init.is_file():
        module = ModuleType(package.name)
        module.__path__ = [str(folder)]
        sys.modules[package.name] = module
        return
    spec = finder.package(package.name, init)
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[package.name] = module
    spec.loader.exec_module(module)


def _unused(name: str) -> str:
    return next(n for n in itertools.chain([name], (f"{name}_{i}" for i in itertools.count(2))) if n not in sys.modules)


def reason_of(error: BaseException) -> str:
    """One line that says why a model could not be loaded."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
