"""Goes through models: loads each, reads its source, asks it."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from flask import Flask, Request

from flaskcompat.checking.findings import Column, Result
from flaskcompat.checking.hearing import Raised, Source, TookTooLong, hearing, standing_at, why, within
from flaskcompat.checking.loading import as_on_the_main_thread
from flaskcompat.checking.mock import Script, scripted
from flaskcompat.checking.network import no_network
from flaskcompat.checking.options import Options
from flaskcompat.checking.runs import Asker
from flaskcompat.checking.sources import source_files
from flaskcompat.checking.spellings import dead_spellings
from flaskcompat.config import read_environment, set_defaults
from flaskcompat.extension import FlaskCompat
from flaskcompat.runtime.keys import Principal
from flaskcompat.runtime.loader import PipelinesFolder, is_model, model_folders, open_folder
from flaskcompat.runtime.pipeline_model import PipelineModel
from flaskcompat.runtime.registry import Registry
from flaskcompat.runtime.state import EXTENSION, State
from flaskcompat.runtime.wrapper import BasePipelineWrapper, misspelt_methods

# What an application is told beside its own settings: nothing of a check is kept, and nobody is kept out.
_SETTINGS: Mapping[str, Any] = {
    "SERVER_NAME": None,
    "TRUSTED_HOSTS": None,
    "FLASKCOMPAT_PIPELINES_DIR": None,
    "FLASKCOMPAT_API_KEYS": None,
    "FLASKCOMPAT_API_KEYS_FILE": None,
    "FLASKCOMPAT_MAX_GENERATIONS": 0,
    "FLASKCOMPAT_CELERY_BROKER_URL": None,
    "FLASKCOMPAT_CHUNK_TIMEOUT": 0.0,
    "FLASKCOMPAT_DATABASE_URL": None,
    "FLASKCOMPAT_FILES_URL": None,
    "FLASKCOMPAT_AUDIT": False,
    "FLASKCOMPAT_METRICS": False,
    "FLASKCOMPAT_OPENAPI": False,
    "FLASKCOMPAT_PAGE": False,
}


def bare_app() -> Flask:
    """An application that has the settings of the environment, and nothing else.

    :raises ValueError: for a setting that cannot be read.
    """
    app = Flask("flaskcompat", static_folder=None)
    read_environment(app)
    set_defaults(app)
    return app


class Models(ABC):
    """Where models come from."""

    names: list[str]

    @abstractmethod
    def source(self, name: str) -> Source | None:
        """Where the model's files are; None where nobody knows."""

    @abstractmethod
    def files(self, name: str) -> list[Path]:
        """Its source."""

    @abstractmethod
    def registry(self, config: Mapping[str, Any]) -> Registry:
        """What serves them, perhaps without those that are still to be loaded."""

    @abstractmethod
    def load(self, name: str) -> None:
        """Have it served by that registry; raises whatever its code does."""


class FolderModels(Models):
    """The models of a folder of wrappers, or the one of a folder that is a model itself; loaded anew."""

    def __init__(self, folder: Path) -> None:
        folder = folder.resolve()
        is_one = is_model(folder)
        self._folder = folder.parent if is_one else folder
        self._directories = {path.name: path for path in ([folder] if is_one else model_folders(folder))}
        self._opened: PipelinesFolder | None = None
        self.names = list(self._directories)

    def source(self, name: str) -> Source:
        return Source(self._folder, self._directories[name])

    def files(self, name: str) -> list[Path]:
        return source_files(self._directories[name], self._folder)

    def registry(self, config: Mapping[str, Any]) -> Registry:
        alias, python_path = config["FLASKCOMPAT_HAYHOOKS_ALIAS"], config["FLASKCOMPAT_PYTHON_PATH"]
        self._opened = open_folder(self._folder, Registry(), alias=alias, python_path=python_path)
        return self._opened.registry

    def load(self, name: str) -> None:
        assert self._opened is not None
        if (error := self._opened.load(self._directories[name])) is not None:
            raise error


class NotServed(Exception):
    """A model that an application could not load."""


class ServedModels(Models):
    """The models that an application serves, as they are, and those that it could not load.

    :param folder: where it loaded some of them from.
    """

    def __init__(self, registry: Registry, folder: Path | None = None) -> None:
        self._registry = registry
        self._in_folder = FolderModels(folder) if folder is not None and folder.is_dir() else None
        self.names = sorted([*(model.name for model in registry), *registry.failed])

    def source(self, name: str) -> Source | None:
        if self._in_folder is not None and name in self._in_folder.names:
            return self._in_folder.source(name)
        files = self.files(name)
        return Source(files[0].parent, files[0].parent) if files else None

    def files(self, name: str) -> list[Path]:
        if self._in_folder is not None and name in self._in_folder.names:
            return self._in_folder.files(name)
        if name not in self._registry or isinstance(self._registry[name].wrapper, PipelineModel):
            return []
        try:
            found = inspect.getsourcefile(type(self._registry[name].wrapper))
        except TypeError:  # typed in, rather than read from a file
            return []
        return [Path(found).resolve()] if found and Path(found).is_file() else []

    def registry(self, config: Mapping[str, Any]) -> Registry:
        return self._registry

    def load(self, name: str) -> None:
        if name not in self._registry:
            raise NotServed(self._registry.failed[name])


def _place_of(wrapper: BasePipelineWrapper, method: str, source: Source | None) -> str | None:
    code = getattr(inspect.unwrap(getattr(type(wrapper), method)), "__code__", None)
    return source.show(code.co_filename, code.co_firstlineno) if code is not None and source is not None else None


class Checker:
    """Checks models, in an application of its own with stores in memory.

    :param host: the application that the models are for; its settings and extensions are there, nothing else of it.
    """

    def __init__(self, models: Models, host: Flask, options: Options) -> None:
        self._models = models
        self._options = options
        self._script = None if options.real else Script() if options.reply is None else Script(options.reply)
        self._asked = ""
        self._loaded: dict[str, Result] = {}
        self._app = Flask("flaskcompat", static_folder=None)
        self._app.config.update(host.config, **_SETTINGS, FLASKCOMPAT_REQUEST_TIMEOUT=options.timeout)
        self._app.extensions.update({k: v for k, v in host.extensions.items() if not isinstance(v, State)})
        set_defaults(self._app)
        FlaskCompat(self._app, authenticate=self._principal)
        self._state: State = self._app.extensions[EXTENSION]

    @property
    def names(self) -> list[str]:
        return self._models.names

    def check(self, name: str, about: Callable[[Column], None] = lambda _: None) -> Result:
        """What is found about the model *name*; *about* is told what is looked at."""
        self._load_all()
        result = self._loaded[name]
        if result.failed or name not in self._state.registry:
            return result
        self._asked = name
        with self._undisturbed():
            model, source = self._state.registry[name], self._models.source(name)
            Asker(self._app, model, source, self._script, self._options.timeout, result).ask_all(about)
        return result

    def _principal(self, request: Request) -> Principal:
        # An upload goes to the first model that may be used; else one may ask another.
        return Principal("check", (self._asked,) if request.path == "/v1/files" else None)

    def _load_all(self) -> None:
        """Load all models, once: one may look for another in the registry."""
        if self._loaded:
            return
        with self._undisturbed(), hearing():
            self._state.registry = self._models.registry(self._app.config)
            for name in self._models.names:
                self._loaded[name] = self._load(name)

    def _load(self, name: str) -> Result:
        result, source = Result(name), self._models.source(name)
        result.looked_at.add("load")
        try:
            within(self._options.timeout, lambda: as_on_the_main_thread(lambda: self._models.load(name)))
        except TookTooLong:
            at = standing_at(source)
            result.add("load", f"hangs: not loaded after {self._options.timeout:g} s{f', at {at}' if at else ''}")
            result.hangs = True
        except Raised as raised:  # anything: sys.exit() in a wrapper, too
            is_told = isinstance(raised.error, NotServed)
            result.add("load", str(raised.error) if is_told else why(raised.error, source))
        if name in (registry := self._state.registry):
            for has, meant in misspelt_methods(registry[name].wrapper).items():
                at = f" ({place})" if (place := _place_of(registry[name].wrapper, has, source)) else ""
                result.add("load", f"{has} is not called: did you mean {meant}?{at}", fails=False)
        if source is not None:
            # What matters of them fails by itself: in loading, or when it is asked.
            for spelling in dead_spellings(self._models.files(name), source):
                result.add("load", spelling, fails=False)
        return result

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Scripted models and no network, unless the real ones are asked."""
        with ExitStack() as stack:
            if self._script is not None:
                stack.enter_context(no_network())
                stack.enter_context(scripted(self._script))
            yield
