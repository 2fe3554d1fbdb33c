"""One thread that looks after everything that is open, so that no waiting thread needs a timer of its own."""

from __future__ import annotations

import threading
from math import inf
from time import monotonic
from typing import Protocol

from flaskcompat.fork import reset_in_child
from flaskcompat.log import log

#: How often each entry is looked at, in seconds; sooner where one asks for it.
INTERVAL = 0.5


class Watched(Protocol):
    """Something that is looked at while it is open."""

    def look(self, now: float) -> float:
        """Do what is due at *now*, without blocking; gives when the next thing is due (``time.monotonic()``)."""


class Watcher:
    """Looks at its entries in a round every :data:`INTERVAL` seconds, and at each when it has something due.

    The thread starts with the first entry, anew in a forked child, and sleeps while there are none.
    """

    def __init__(self) -> None:
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._entries: dict[Watched, float] = {}  # and when each is looked at next
        self._thread: threading.Thread | None = None
        self._next = 0.0  # when the thread wakes

    def add(self, entry: Watched, due: float) -> None:
        """Look at *entry* from now on, at *due* for the first time or in the next round."""
        with self._changed:
            due = min(due, monotonic() + INTERVAL)
            self._entries[entry] = due
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="flaskcompat-watcher", daemon=True)
                thread.start()
                self._thread = thread  # only now: where no thread can be had, the next one tries again
            if len(self._entries) == 1 or due < self._next:
                self._changed.notify()

    def remove(self, entry: Watched) -> None:
        """Look at *entry* no more; nothing happens to one that is not there."""
        with self._changed:
            self._entries.pop(entry, None)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._entries:
                    self._changed.wait()
                entries = list(self._entries.items())
            now = monotonic()
            # The same for all, so that many entries make for few rounds.
            next_round = (now // INTERVAL + 1) * INTERVAL
            looked = {entry: min(next_round, self._look(entry)) for entry, due in entries if due <= now}
            with self._changed:
                self._entries.update((entry, due) for entry, due in looked.items() if entry in self._entries)
                self._next = min(self._entries.values(), default=next_round)
                del entries, looked  # what is over must not be held while this sleeps
                self._changed.wait(max(0.001, self._next - monotonic()))

    def _look(self, entry: Watched) -> float:
        try:
            return entry.look(monotonic())
        except BaseException as error:  # one that fails must not end the watch over the others
            log.opt(exception=error).error("looking after an open request failed")
            return inf


#: The watcher of this process.
watcher = Watcher()
