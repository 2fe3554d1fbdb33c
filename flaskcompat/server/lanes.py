"""The threads: some begin answers, some are kept for short requests; who waits for one waits without one."""

from __future__ import annotations

import threading
from collections import deque
from math import inf
from time import monotonic
from typing import Any

from waitress.task import ThreadedTaskDispatcher

from flaskcompat.errors import APIError, ConcurrencyLimit, ShuttingDown
from flaskcompat.runtime.admission import PATIENCE

#: Requests that may wait for a place, for each thread that begins answers.
MOST_WAITING = 4
_LONG = ("/chat/completions", "/responses")


class _Lane(ThreadedTaskDispatcher):  # type: ignore[misc]
    def __init__(self, threads: int) -> None:
        super().__init__()
        self.set_thread_count(threads)

    def add_task(self, task: Any) -> None:
        # As waitress does it, but that a queue is nothing to warn of here.
        with self.lock:
            self.queue.append(task)
            self.queue_cv.notify()

    def remove(self, task: Any) -> bool:
        """Take *task* out of the queue; False if a thread has taken it."""
        with self.lock:
            try:
                self.queue.remove(task)
            except ValueError:
                return False
            return True


class Lanes:
    """A dispatcher for waitress with two lanes.

    An answer needs a place until it is over, and a thread until it is left to whoever brings its events. Those that
    have to wait for either do so in order and without a thread, up to :data:`PATIENCE` seconds; for a place, no more
    than :attr:`most_waiting` of them. Then they are refused.

    :param answers: threads for answers.
    :param short: threads for everything else.
    :param places: answers at once; None for any number.
    """

    def __init__(self, answers: int, short: int, places: int | None) -> None:
        self._answers = _Lane(answers)
        self._short = _Lane(short)
        self._places = inf if places is None else places
        self._lock = threading.Lock()  # over the two below
        self._open: set[Any] = set()  # the requests that have a place
        self._held: deque[Any] = deque()  # the channels that wait for one
        self.most_waiting = MOST_WAITING * answers
        self.stopping = False

    def add_task(self, channel: Any) -> None:
        """Have *channel*'s request answered; called by waitress."""
        request = channel.requests[0]
        if request.error is not None or not _is_long(request):
            self._short.add_task(channel)
        else:
            self._add_answer(channel)

    def _add_answer(self, channel: Any) -> None:
        channel.queued_at = monotonic()
        with self._lock:
            refusal: APIError | None = None
            if self.stopping:
                refusal = ShuttingDown()
            elif not self._held and len(self._open) < self._places:
                self._open.add(channel.requests[0])
                self._answers.add_task(channel)
            elif len(self._held) < self.most_waiting:
                self._held.append(channel)
            else:
                refusal = ConcurrencyLimit()
        if refusal is not None:
            self._refuse(channel, refusal)

    def answer_over(self, request: Any) -> None:
        """*request* has been answered; nothing happens if it had no place. May be said again."""
        with self._lock:
            if request not in self._open:
                return
            self._open.remove(request)
            while self._held and len(self._open) < self._places:
                channel = self._held.popleft()
                self._open.add(channel.requests[0])
                self._answers.add_task(channel)

    def add_short(self, task: Any) -> None:
        """Have *task*'s ``service()`` called, which takes little time."""
        self._short.add_task(task)

    @property
    def waiting(self) -> int:
        """How many requests wait for a thread."""
        return len(self._answers.queue) + len(self._short.queue)

    @property
    def held(self) -> int:
        """How many requests wait for a place."""
        return len(self._held)

    def refuse_late(self, now: float) -> None:
        """Refuse those that have waited too long, or have left."""
        self._refuse_queued(
            ConcurrencyLimit, lambda channel: now - channel.queued_at >= PATIENCE or not channel.connected
        )

    def stop(self) -> None:
        """Let no answer begin any more."""
        with self._lock:
            self.stopping = True
        self._refuse_queued(ShuttingDown, lambda channel: True)

    def let_go(self) -> None:
        """Let each thread end when it is done, without waiting for it."""
        for lane in (self._answers, self._short):
            lane.set_thread_count(0)

    def shutdown(self, timeout: float = 5) -> None:
        """The same, waiting up to *timeout* seconds for each lane."""
        for lane in (self._answers, self._short):
            lane.shutdown(timeout=timeout)

    def _refuse_queued(self, error: type[APIError], chosen: Any) -> None:
        with self._lock:
            refused = [channel for channel in self._held if chosen(channel)]
            for channel in refused:
                self._held.remove(channel)
            with self._answers.lock:
                queued = list(self._answers.queue)
            refused += [channel for channel in queued if chosen(channel) and self._answers.remove(channel)]
        for channel in refused:
            self.answer_over(channel.requests[0])
            self._refuse(channel, error())

    def _refuse(self, channel: Any, error: APIError) -> None:
        channel.requests[0].error = error
        self._short.add_task(channel)


def _is_long(request: Any) -> bool:
    return bool(request.command == "POST" and request.path.rstrip("/").endswith(_LONG))
