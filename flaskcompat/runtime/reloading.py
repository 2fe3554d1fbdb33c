"""Serving what has changed in a folder of models, one model at a time, while the others go on."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from flaskcompat.log import log
from flaskcompat.runtime.loader import PipelinesFolder, reason_of

#: How often the files are looked at, in seconds.
INTERVAL = 0.5

# What a file looks like from outside, by its path.
_Look = dict[str, tuple[int, int]]


class Reloader:
    """Looks at the files of a folder of models, and loads a model again once a file below its folder is another.

    A model that cannot be loaded is served as it was before. What stands in the pipelines folder itself is of all
    models. Answers that are being made end with the wrapper that has begun them.
    """

    def __init__(self, folder: PipelinesFolder) -> None:
        self._folder = folder
        self._ended = threading.Event()
        self._shared = _look_at(folder.path, deep=False)
        self._seen = {directory: _look_at(directory) for directory in folder.models()}

    def start(self) -> None:
        """Look again and again, on a thread of its own."""
        threading.Thread(target=self._work, name="flaskcompat-reloader", daemon=True).start()

    def end(self) -> None:
        self._ended.set()

    def _work(self) -> None:
        while not self._ended.wait(INTERVAL):
            try:
                self.look()
            except Exception as error:  # a folder that is being moved
                log.warning("the models could not be looked at: {}", type(error).__name__)

    def look(self) -> None:
        """Load what has changed since the last look."""
        now = {directory: _look_at(directory) for directory in self._folder.models()}
        shared = _look_at(self._folder.path, deep=False)
        changed = [directory for directory, look in now.items() if look != self._seen.get(directory)]
        if shared != self._shared:
            changed = list(now)
            self._folder.renew()
        gone = self._seen.keys() - now.keys()
        self._seen, self._shared = now, shared
        for directory in sorted(gone):
            self._remove(directory.name)
        for directory in changed:
            self._load(directory)

    def _load(self, directory: Path) -> None:
        name, registry = directory.name, self._folder.registry
        error = self._folder.load(directory)
        if error is None:
            log.info("model '{}' is loaded again", name)
        elif name in registry:
            log.opt(exception=error).error("model '{}' failed to load: it is served as it was before", name)
        else:
            registry.failed[name] = reason_of(error)
            log.opt(exception=error).error("model '{}' failed to load and is not served", name)

    def _remove(self, name: str) -> None:
        registry = self._folder.registry
        registry.failed.pop(name, None)
        if name in registry:
            registry.remove(name)
            log.info("model '{}' is gone", name)


def _look_at(folder: Path, *, deep: bool = True) -> _Look:
    """The files of *folder*, without hidden ones and those that Python makes."""
    found: _Look = {}
    for place, directories, files in os.walk(folder):
        directories[:] = [d for d in directories if deep and not d.startswith((".", "__pycache__"))]
        for name in files:
            path = os.path.join(place, name)
            if name.startswith(".") or name.endswith(("~", ".pyc")):
                continue
            try:
                about = os.stat(path)
            except OSError:  # it is gone again
                continue
            found[path] = about.st_mtime_ns, about.st_size
    return found
