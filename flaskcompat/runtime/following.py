"""Reading the logs of responses that are being made, here or in another process, for those who follow them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

from flaskcompat.fork import reset_in_child
from flaskcompat.log import log
from flaskcompat.runtime.admission import Ticket
from flaskcompat.runtime.invoke import Run, Tell
from flaskcompat.stores.responses import ResponseStore

#: How often the logs are looked at for what other processes have added, in seconds.
INTERVAL = 0.1
# How often responses of processes that have ended are looked for, in seconds: nothing more would come of them.
_LOOK_FOR_LOST = 5.0
# Seconds before another try where the store cannot be read.
_PAUSE = 1.0
# Events that are read at once, and that may wait for one reader.
_ROOM = 2048


class LogRun(Run):
    """The log of a response as a run, whose items are frames.

    :param number: the sequence number of the first frame that is wanted.
    """

    def __init__(self, owner: str, id: str, number: int, ticket: Ticket, tell: Tell) -> None:
        super().__init__(f"the log of {id}", ticket, tell)
        self.owner = owner
        self.id = id
        self.number = number

    def give(self, frames: list[str]) -> None:
        """Hand *frames* to the reader, without waiting for it."""
        self.number += len(frames)
        self._buffer.put_ready(frames)

    @property
    def room(self) -> int:
        """How many frames the reader may be given now."""
        return _ROOM - self._buffer.waiting

    @property
    def is_left(self) -> bool:
        """Whether nobody reads it any more."""
        return self._buffer.abandoned

    def finish(self) -> None:
        self._buffer.finish()


class Followers:
    """Those who follow logs; one thread reads for all of them, and ends when there are none: it must not keep what an
    application that was dropped has left."""

    def __init__(self, store: Callable[[], ResponseStore]) -> None:
        self._store = store
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._runs: set[LogRun] = set()
        self._news: set[str] = set()  # ids of logs that have something new, as this process knows
        self._thread: threading.Thread | None = None
        self._looked = self._looked_for_lost = 0.0

    def add(self, run: LogRun) -> None:
        """Read for *run* from now on, until its log is over or nobody reads it."""
        with self._changed:
            self._runs.add(run)
            self._news.add(run.id)
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="flaskcompat-followers", daemon=True)
                thread.start()
                self._thread = thread  # only now: where no thread can be had, the next one tries again
            self._changed.notify()

    def tell(self, id: str) -> None:
        """The log *id* has something new."""
        with self._changed:
            if any(run.id == id for run in self._runs):
                self._news.add(id)
                self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                if self._runs and not self._news:
                    self._changed.wait(max(0.001, self._looked + INTERVAL - monotonic()))
                news, self._news = self._news, set()
                runs = [run for run in self._runs if not run.is_left]
                self._runs = set(runs)
                if not runs:
                    self._thread = None
                    return
            try:
                if monotonic() - self._looked_for_lost >= _LOOK_FOR_LOST:
                    self._looked_for_lost = monotonic()
                    self._store().end_lost()
                if monotonic() - self._looked >= INTERVAL:
                    self._looked = monotonic()
                    self._look(runs)
                else:
                    for run in runs:
                        if run.id in news:
                            self._read(run)
            except Exception as error:  # it is tried again
                log.warning("the logs of {} responses could not be read: {}", len(runs), type(error).__name__)
                self._looked = monotonic() + _PAUSE

    def _look(self, runs: list[LogRun]) -> None:
        """Read for all of *runs* for whom there is something new."""
        progress = self._store().progress(list({run.id for run in runs}))
        for run in runs:
            length, ended = progress.get(run.id, (0, True))
            if length > run.number or ended:
                self._read(run)

    def _read(self, run: LogRun) -> None:
        room = run.room
        if room <= 0:
            return
        try:
            part = self._store().log(run.owner, run.id, run.number, room)
        except Exception as error:
            if getattr(error, "status", None) != 404:
                raise
            part = None  # deleted meanwhile
        if part is not None and part.events:
            run.give(part.events)
        if part is None or part.ended:
            run.finish()
            with self._changed:
                self._runs.discard(run)
