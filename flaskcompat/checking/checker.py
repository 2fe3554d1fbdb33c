"""Goes through models: loads each, reads its source, asks it."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import haystack.version
from flask import Flask

from flaskcompat.checking.findings import Column, Result
from flaskcompat.checking.hearing import Source, TookTooLong, hearing, standing_at, why, within
from flaskcompat.checking.mock import Script, scripted
from flaskcompat.checking.network import no_network
from flaskcompat.checking.options import Options
from flaskcompat.checking.runs import Asker
from flaskcompat.checking.spellings import dead_spellings
from flaskcompat.config import read_environment, set_defaults
from flaskcompat.extension import FlaskCompat
from flaskcompat.runtime.keys import Principal
from flaskcompat.runtime.loader import PipelinesFolder, model_folders, open_folder
from flaskcompat.runtime.pipeline_model import PipelineModel
from flaskcompat.runtime.registry import Registry
from flaskcompat.runtime.state import EXTENSION, State

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
    """The models of a folder of wrappers, loaded anew."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._directories = {path.name: path for path in model_folders(self._folder)}
        self._opened: PipelinesFolder | None = None
        self.names = list(self._directories)

    def source(self, name: str) -> Source:
        return Source(self._folder, self._directories[name])

    def files(self, name: str) -> list[Path]:
        own = _sources(self._directories[name])
        text = "".join(path.read_text(encoding="utf-8", errors="replace") for path in own)
        # Beside the models stands what they share; it is of those that name it.
        others = [path for path in self._folder.iterdir() if path not in self._directories.values()]
        return sorted([*own, *(path for other in others if other.stem in text for path in _sources(other))])

    def registry(self, config: Mapping[str, Any]) -> Registry:
        alias, python_path = config["FLASKCOMPAT_HAYHOOKS_ALIAS"], config["FLASKCOMPAT_PYTHON_PATH"]
        self._opened = open_folder(self._folder, Registry(), alias=alias, python_path=python_path)
        return self._opened.registry

    def load(self, name: str) -> None:
        assert self._opened is not None
        if (error := self._opened.load(self._directories[name])) is not None:
            raise error


def _sources(place: Path) -> list[Path]:
    """The files of Python and YAML that *place* is, or has in it."""
    found = [place] if place.is_file() else place.rglob("*")
    return [path for path in found if path.suffix in (".py", ".yml", ".yaml") and path.is_file()]


class NotServed(Exception):
    """A model that an application could not load."""


class ServedModels(Models):
    """The models that an application serves, as they are."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.names = sorted([*(model.name for model in registry), *registry.failed])

    def source(self, name: str) -> Source | None:
        files = self.files(name)
        return Source(files[0].parent, files[0].parent) if files else None

    def files(self, name: str) -> list[Path]:
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


class Checker:
    """Checks models, in an application of its own with stores in memory.

    :param config: settings of the application that the models are for.
    """

    def __init__(self, models: Models, config: Mapping[str, Any], options: Options) -> None:
        self._models = models
        self._options = options
        self._script = None if options.real else Script(options.reply) if options.reply else Script()
        self._asks_for = Principal("check", ())
        self._loaded: dict[str, Result] = {}
        self._app = Flask("flaskcompat", static_folder=None)
        self._app.config.update(config, **_SETTINGS, FLASKCOMPAT_REQUEST_TIMEOUT=options.timeout)
        set_defaults(self._app)
        # Told apart by whom they are for: an upload goes to the first model that may be used.
        FlaskCompat(self._app, authenticate=lambda _: self._asks_for)
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
        self._asks_for = Principal("check", (name,))
        with self._undisturbed():
            model, source = self._state.registry[name], self._models.source(name)
            Asker(self._app, model, source, self._script, self._options.timeout, result).ask_all(about)
        return result

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
            within(self._options.timeout, lambda: self._models.load(name))
        except TookTooLong:
            at = standing_at(source)
            result.add("load", f"hangs: not loaded after {self._options.timeout:g} s{f', at {at}' if at else ''}")
        except NotServed as error:
            result.add("load", str(error))
        except BaseException as error:  # sys.exit() in a wrapper
            result.add("load", why(error, source))
        if source is not None:
            fails = not haystack.version.__version__.startswith("2.")
            for spelling in dead_spellings(self._models.files(name), source):
                result.add("load", spelling, fails=fails and "Haystack 3 has no" in spelling)
        return result

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Scripted models and no network, unless the real ones are asked."""
        with ExitStack() as stack:
            if self._script is not None:
                stack.enter_context(no_network())
                stack.enter_context(scripted(self._script))
            yield
