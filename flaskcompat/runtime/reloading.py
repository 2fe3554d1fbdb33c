"""Serving what has changed in a folder of models, one model at a time, while the others go on."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path

from flaskcompat.log import log
from flaskcompat.runtime.loader import PipelinesFolder, reason_of
from flaskcompat.runtime.registry import Registry

#: How often the files are looked at, in seconds.
INTERVAL = 0.5

# What a file looks like from outside, by its path.
_Look = dict[str, tuple[int, int, int]]


class Reloader:
    """Looks at the files of a folder of models, and loads a model again once a file below its folder is another.

    A model that cannot be loaded is served as it was before. What stands beside the models in their folder is of all of
    them. Answers that are being made end with the wrapper that has begun them. It does not keep the folder alive, and
    ends with it.
    """

    def __init__(self, folder: PipelinesFolder) -> None:
        self._folder = weakref.ref(folder)
        self._ended = threading.Event()
        self._seen, self._shared = _look(folder)
        self._missed: set[Path] = set()
        self._told = ""

    def start(self) -> None:
        """Look again and again, on a thread of its own."""
        threading.Thread(target=self._work, name="flaskcompat-reloader", daemon=True).start()

    def end(self) -> None:
        self._ended.set()

    def _work(self) -> None:
        while not self._ended.wait(INTERVAL) and self._folder() is not None:
            try:
                self.look()
                self._told = ""
            except BaseException as error:  # a folder that is being moved; a module that calls sys.exit()
                if self._told != (told := reason_of(error)):  # once
                    log.opt(exception=error).error("the models could not be looked at")
                self._told = told

    def look(self) -> None:
        """Load what has changed since the last look."""
        folder = self._folder()
        if folder is None:
            return
        seen, was_shared = self._seen, self._shared
        now, self._shared = _look(folder)
        missed, self._missed = self._missed, seen.keys() - now.keys()
        # An editor may take a file away for a moment, to put another one in its place.
        self._seen = now | {model: seen[model] for model in self._missed - missed}
        for model in sorted(self._missed & missed):
            _remove(folder.registry, model.name)
        changed = [model for model, look in now.items() if look != seen.get(model)]
        if self._shared != was_shared:
            changed = list(now)
            folder.renew()
        for model in changed:
            _load(folder, model)


def _load(folder: PipelinesFolder, directory: Path) -> None:
    name, registry = directory.name, folder.registry
    error = folder.load(directory)
    if error is None:
        log.info("model '{}' is loaded again", name)
    elif name in registry:
        log.opt(exception=error).error("model '{}' failed to load: it is served as it was before", name)
    else:
        registry.failed[name] = reason_of(error)
        log.opt(exception=error).error("model '{}' failed to load and is not served", name)


def _remove(registry: Registry, name: str) -> None:
    registry.failed.pop(name, None)
    if name in registry:
        registry.remove(name)
        log.info("model '{}' is gone", name)


def _look(folder: PipelinesFolder) -> tuple[dict[Path, _Look], _Look]:
    """What the models look like, and what they have in common."""
    models = folder.models()
    return {model: _look_at(model) for model in models}, _look_at(folder.path, besides=models)


def _look_at(folder: Path, besides: Sequence[Path] = ()) -> _Look:
    """The files below *folder*, without hidden ones, those that Python makes, and what is below *besides*."""
    found: _Look = {}
    left_out = set(map(str, besides))
    for place, directories, files in os.walk(folder):
        directories[:] = [
            name
            for name in directories
            if not name.startswith((".", "__pycache__")) and os.path.join(place, name) not in left_out
        ]
        for name in files:
            path = os.path.join(place, name)
            if name.startswith(".") or name.endswith(("~", ".pyc")):
                continue
            try:
                about = os.stat(path)
            except OSError:  # it is gone again
                continue
            found[path] = about.st_mtime_ns, about.st_size, about.st_ino
    return found
