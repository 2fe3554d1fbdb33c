"""What one open run is watched for: that its client is still there, its time limits, its silence."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from time import monotonic

from flaskcompat.errors import PipelineTimeout
from flaskcompat.runtime.invoke import Run
from flaskcompat.runtime.watcher import watcher

#: Seconds after which a client that reads nothing is cut while another request waits.
STALL_WHILE_OTHERS_WAIT = 2.0

_STEP = 0.02  # seconds between two looks at least: whoever was woken needs a moment to act


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds; 0 is no limit.

    :param keep_alive: silence after which the reader is given a beat, to write a comment.
    :param total: how long a run may take.
    :param between: how long it may be silent.
    """

    keep_alive: float = 0.0
    total: float = 0.0
    between: float = 0.0


@dataclass(frozen=True, slots=True)
class Writes:
    """How a write is ended that waits for a client that does not read.

    :param limit: gives the seconds that it may wait.
    :param cut: ends the connection.
    """

    limit: Callable[[], float]
    cut: Callable[[], None]


class Watch:
    """The watch over one run, from :meth:`begin` to :meth:`end`.

    :param client_left: tells without waiting whether the client has left.
    :param also: called at each look; for what concerns the whole process.
    :param writes: None where the server sees to its writes itself.
    """

    def __init__(
        self,
        run: Run,
        limits: Limits,
        client_left: Callable[[], bool],
        also: Callable[[], None],
        writes: Writes | None = None,
    ) -> None:
        self._run = run
        self._limits = limits
        self._client_left = client_left
        self._also = also
        self._writes = writes
        self._over = False
        self._reader: Callable[[], object] | None = None
        self._deadline = monotonic() + limits.total if limits.total > 0 else inf

    def follow(self, reader: object) -> None:
        """End the run if *reader* is dropped without having closed it, as a host's hook may do with a response."""
        self._reader = weakref.ref(reader)

    def begin(self) -> None:
        watcher.add(self, self._due())

    def end(self) -> None:
        self._over = True
        watcher.remove(self)

    def look(self, now: float) -> float:
        """See :class:`~flaskcompat.runtime.watcher.Watched`."""
        if self._over:  # since the watcher began its round
            return inf
        run, limits = self._run, self._limits
        self._also()
        if self._reader is not None and self._reader() is None:
            run.close()
            self.end()
            return inf
        if self._client_left():
            run.leave()
            return inf
        if self._writes is not None and run.writing_since is not None:
            unread = now - run.writing_since
            if unread >= self._writes.limit():
                run.log_warning("a stream is cut: its client has read nothing for {:.0f} s", unread)
                self._writes.cut()
                self._writes = None  # once
                return inf
        if now >= min(self._deadline, self._silent_until()):
            run.log_warning("{} is over its time limit and is ended", run.label)
            self._limits, self._deadline = Limits(), inf  # once
            run.fail(PipelineTimeout())
            return inf
        waiting = run.waiting_since
        if waiting is not None and 0 < limits.keep_alive <= now - waiting:
            run.beat()
        return max(self._due(), now + _STEP)

    def _silent_until(self) -> float:
        # A reader that is writing keeps the run waiting, not the other way round.
        if self._limits.between <= 0 or self._run.waiting_since is None:
            return inf
        return self._run.silent_since + self._limits.between

    def _due(self) -> float:
        keep_alive, waiting = self._limits.keep_alive, self._run.waiting_since
        beat = (waiting or monotonic()) + keep_alive if keep_alive > 0 else inf
        return min(self._deadline, self._silent_until(), beat)
