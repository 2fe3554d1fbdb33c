"""The threads: some begin answers, some are kept for short requests; who waits for one waits without one.

Lanes bound requests before the application sees them; :mod:`~flaskcompat.runtime.admission` bounds answers and models,
under any server.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable
from math import inf
from queue import SimpleQueue
from time import monotonic
from typing import Any

from flaskcompat.errors import APIError, ConcurrencyLimit, ShuttingDown
from flaskcompat.log import log
from flaskcompat.runtime.admission import PATIENCE

#: Requests that may wait for a place, for each thread that begins answers.
MOST_WAITING = 4
# What may take long: answers, and uploads that a wrapper works on. By the path as a client may write it.
_LONG = re.compile(r"/(chat/+completions|responses|files)/*$")
_DOWNLOAD = re.compile(r"/files/+[^/]+/+content/*$")
# A thread whose client has left may take this many seconds to end by itself, before another takes its place.
_GIVE_UP_AFTER = 1.0


class _Lane:
    """Threads that take tasks, in order.

    One thread at a time is on its way to a task; it wakes the next one if there is more to do. So tasks that take
    little time are done by few threads, which do not fight for the interpreter, and one that blocks holds up nobody.
    The thread that went idle last is woken first, since what it needs is still near the processor.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._queue: deque[Any] = deque()
        self._idle: list[SimpleQueue[bool]] = []  # what each thread waits on that has nothing to do
        self._on_its_way = False  # a thread that was woken and has not looked for its task yet
        self.threads = self._wanted = 0
        self.set_thread_count(threads)

    @property
    def waiting(self) -> int:
        """How many tasks wait until a thread is done with another."""
        return 0 if self._idle else len(self._queue)

    def set_thread_count(self, count: int) -> None:
        """Have *count* threads; surplus ones end when they are done."""
        with self._lock:
            self._wanted = count
            new = max(0, count - self.threads)
            surplus = self._idle[: max(0, self.threads - count)]
            del self._idle[: len(surplus)]
            self.threads += new - len(surplus)
        for thread in surplus:
            thread.put(False)
        try:
            while new:
                threading.Thread(target=self._run, name=f"flaskcompat-{self._name}", daemon=True).start()
                new -= 1
        finally:
            if new:  # no more can be had
                with self._lock:
                    self.threads -= new

    def add_task(self, task: Any) -> None:
        """Have *task*'s ``service()`` called."""
        with self._lock:
            self._queue.append(task)
            self._wake_one()

    def take_out(self, chosen: Callable[[Any], bool]) -> list[Any]:
        """The *chosen* ones of the tasks that wait, which are not done then."""
        with self._lock:
            found = [task for task in self._queue if chosen(task)]
            for task in found:
                self._queue.remove(task)
        return found

    def _wake_one(self) -> None:
        """Wake a thread if one is needed; the lock is held."""
        if self._queue and self._idle and not self._on_its_way:
            self._on_its_way = True
            self._idle.pop().put(True)

    def _run(self) -> None:
        mine: SimpleQueue[bool] = SimpleQueue()
        while self._wanted_still():
            task = self._take(mine)
            if task is None:
                if not mine.get():
                    return
                with self._lock:
                    self._on_its_way = False
                continue
            try:
                task.service()
            except BaseException as error:
                log.opt(exception=error).error("a request was not answered in order")

    def _wanted_still(self) -> bool:
        with self._lock:
            if self.threads <= self._wanted:
                return True
            self.threads -= 1
            self._wake_one()
            return False

    def _take(self, mine: SimpleQueue[bool]) -> Any:
        """A task that waits; None where there is none, and *mine* tells when to come again."""
        with self._lock:
            if not self._queue:
                self._idle.append(mine)
                return None
            task = self._queue.popleft()
            self._wake_one()
            return task


class Lanes:
    """A dispatcher for waitress with two lanes.

    An answer needs a place until it is over, and a thread until it is left to whoever brings its events. Those that
    have to wait for either do so in order and without a thread, up to :data:`PATIENCE` seconds; for a place, no more
    than :attr:`most_waiting` of them. Then they are refused.

    A thread that is inside of a wrapper whose client has left cannot be ended: another one and a free place stand in
    for it, until there are as many such as there are threads.

    :param answers: threads for answers.
    :param short: threads for everything else.
    :param places: answers at once; None for any number.
    """

    def __init__(self, answers: int, short: int, places: int | None) -> None:
        self._answers = _Lane("answers", answers)
        self._short = _Lane("short", short)
        self._places = inf if places is None else places
        self._threads = answers
        self._lock = threading.Lock()  # over what follows
        self._open: set[Any] = set()  # the requests that have a place
        self._held: deque[Any] = deque()  # the channels that wait for one
        # Of those that have a place, those whose client has left: since when, and what to call when they are given up.
        self._left: dict[Any, tuple[float, Callable[[], None] | None]] = {}
        self._given_up: set[Any] = set()  # those that a thread is still busy with
        self.most_waiting = MOST_WAITING * answers
        self.stopping = False

    def add_task(self, channel: Any) -> None:
        """Have *channel*'s request answered; called by waitress."""
        request = channel.requests[0]
        channel.queued_at = monotonic()
        if request.error is not None or not _is_long(request):
            self._short.add_task(channel)
        else:
            self._add_answer(channel)

    def _add_answer(self, channel: Any) -> None:
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
            if request in self._given_up:
                self._given_up.remove(request)
                self._answers.set_thread_count(self._threads + len(self._given_up))
            self._free(request)

    def client_left(self, request: Any, give_up: Callable[[], None] | None) -> None:
        """The client of *request* has left while it was being answered, by one of the threads.

        :param give_up: called if another thread takes the place of that one.
        """
        with self._lock:
            if request in self._open:
                self._left[request] = monotonic(), give_up

    def _free(self, request: Any) -> None:
        """Give the place of *request* to who waits for one; the lock is held."""
        self._open.discard(request)
        self._left.pop(request, None)
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
        return self._answers.waiting + self._short.waiting

    @property
    def held(self) -> int:
        """How many requests wait for a place."""
        return len(self._held)

    def look_after(self, now: float) -> None:
        """Refuse those that have waited too long, or have left; give up threads whose client has left."""
        self._refuse_queued(
            ConcurrencyLimit, lambda channel: now - channel.queued_at >= PATIENCE or not channel.connected
        )
        for give_up in self._give_up(now):
            if give_up is not None:
                give_up()

    def _give_up(self, now: float) -> list[Callable[[], None] | None]:
        with self._lock:
            late = [(request, call) for request, (since, call) in self._left.items() if now - since >= _GIVE_UP_AFTER]
            late = late[: self._threads - len(self._given_up)]
            for request, _ in late:
                self._given_up.add(request)
                self._free(request)
            if late:
                self._answers.set_thread_count(self._threads + len(self._given_up))
        return [call for _, call in late]

    def stop(self) -> None:
        """Let no answer begin any more."""
        with self._lock:
            self.stopping = True
        self._refuse_queued(ShuttingDown, lambda channel: True)

    def let_go(self) -> None:
        """Let each thread end when it is done, without waiting for it."""
        with self._lock:
            self._given_up.clear()
        for lane in (self._answers, self._short):
            lane.set_thread_count(0)

    def _refuse_queued(self, error: type[APIError], chosen: Any) -> None:
        with self._lock:
            refused = [channel for channel in self._held if chosen(channel)]
            for channel in refused:
                self._held.remove(channel)
            refused += self._answers.take_out(chosen)
        for channel in refused:
            self.answer_over(channel.requests[0])
            self._refuse(channel, error())

    def _refuse(self, channel: Any, error: APIError) -> None:
        channel.requests[0].error = error
        self._short.add_task(channel)


def _is_long(request: Any) -> bool:
    return bool(
        (request.command == "POST" and _LONG.search(request.path))
        or (request.command == "GET" and _DOWNLOAD.search(request.path))
    )
