"""How many answers are made at once, who waits for a place, and the end of all of them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from flaskcompat.errors import ConcurrencyLimit, ShuttingDown
from flaskcompat.log import log

#: How long a request may wait for a place, in seconds.
PATIENCE = 10.0
#: How often one that waits looks whether its client is still there, in seconds.
_PROBE = 0.5
#: How long before the end of the grace the answers still being made are ended, in seconds.
_MARGIN = 2.0


@dataclass(frozen=True, slots=True)
class Places:
    """How many there are.

    :param running: answers made at once; None: any number.
    :param waiting: requests that may wait for a place, each in a thread of its own.
    :param background: whether they are those of answers that no client waits for, which are counted apart.
    """

    running: int | None
    waiting: int
    background: bool = False


class Endable(Protocol):
    def fail(self, error: BaseException) -> None: ...


class Left(Exception):
    """The client has left while it waited for a place."""


@dataclass(frozen=True, eq=False, slots=True)
class _Waiting:
    model: str
    places: Places
    model_limit: int | None


class _Taken:
    """What is taken of the places of one kind."""

    def __init__(self) -> None:
        self.reading = 0
        self.working_on = 0  # tickets whose work goes on without a reader


class Ticket:
    """The place of one answer: taken by its reader, and by its work as long as that goes on without a reader."""

    def __init__(self, admission: Admission, model: str, taken: _Taken) -> None:
        self._admission = admission
        self.taken = taken
        self.model = model
        self.reading = True
        self.working = 0
        #: What to end when the process stops.
        self.run: Endable | None = None
        self.when_done: Callable[[], None] | None = None

    def reader_done(self) -> None:
        """Nobody reads the answer any more; may be said again."""
        if self._admission._reader_done(self) and self.when_done is not None:
            self.when_done()

    def tell_when_done(self, tell: Callable[[], None]) -> None:
        """Have *tell* called, once, when nobody reads the answer any more."""
        if not self._admission._reads(self, tell):
            tell()

    def work_begins(self) -> None:
        self._admission._work(self, 1)

    def work_done(self) -> None:
        self._admission._work(self, -1)


class Admission:
    """Gives each answer a place, or says no in order: at most so many at once, a few wait, first come, first served.

    Work that goes on after its client has left (a component that blocks cannot be ended from outside) does not
    count, until there is as much of it as there are places: so leavers cost nothing, and threads stay bounded. A
    model's own limit counts all of its work.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # entered as it is: a condition is slower to enter
        self._changed = threading.Condition(self._lock)
        self._queue: list[_Waiting] = []  # in order
        self._tickets: set[Ticket] = set()
        self._taken = {background: _Taken() for background in (False, True)}
        self._of_model: Counter[str] = Counter()
        self.stopping = False

    def enter(
        self,
        model: str,
        places: Places,
        model_limit: int | None,
        client_left: Callable[[], bool],
        patience: float = PATIENCE,
    ) -> Ticket:
        """A place for an answer of *model*; waits for it if need be.

        :raises ConcurrencyLimit: if too many wait already, or none came free in time.
        :raises ShuttingDown: once the process is stopping.
        :raises Left: if the client left meanwhile.
        """
        with self._lock:
            if self.stopping:
                raise ShuttingDown
            request = _Waiting(model, places, model_limit)
            if self._queue or not self._is_free(request):
                self._wait(request, client_left, patience)
            ticket = Ticket(self, model, self._taken[places.background])
            self._tickets.add(ticket)
            ticket.taken.reading += 1
            self._of_model[model] += 1
            return ticket

    @property
    def waiting(self) -> int:
        """How many requests wait for a place."""
        return sum(not request.places.background for request in self._queue)

    @property
    def active(self) -> int:
        """How many answers are being made for somebody."""
        return sum(taken.reading for taken in self._taken.values())

    def begin_stop(self, grace: float) -> None:
        """Begin to :meth:`stop`, without waiting for it; may be said again."""
        with self._lock:
            if self.stopping:
                return
            self.stopping = True
        threading.Thread(target=self.stop, args=(grace,), name="flaskcompat-stop", daemon=True).start()

    def stop(self, grace: float) -> None:
        """Let nobody in any more; wait for what runs, and end what still runs shortly before *grace* seconds are over.

        Returns when nothing is read any more, or the grace is over.
        """
        now = monotonic()
        with self._lock:
            self.stopping = True
            self._changed.notify_all()
            self._wait_until_idle(now + max(grace - _MARGIN, grace / 2))
            late = [ticket for ticket in self._tickets if ticket.reading]
        if late:
            log.warning("{} answers are ended: the process stops", len(late))
        for ticket in late:
            if ticket.run is not None:
                ticket.run.fail(ShuttingDown())
        with self._lock:
            self._wait_until_idle(now + grace - _MARGIN / 4)

    def _wait_until_idle(self, deadline: float) -> None:
        while self.active and (left := deadline - monotonic()) > 0:
            self._changed.wait(left)

    def _is_free(self, request: _Waiting) -> bool:
        if request.model_limit is not None and self._of_model[request.model] >= request.model_limit:
            return False
        limit, taken = request.places.running, self._taken[request.places.background]
        return limit is None or taken.reading + max(0, taken.working_on - limit) < limit

    def _is_next(self, request: _Waiting) -> bool:
        """Whether a place is free, and nobody before *request* can use it."""
        return next((waiting for waiting in self._queue if self._is_free(waiting)), None) is request

    def _wait(self, request: _Waiting, client_left: Callable[[], bool], patience: float) -> None:
        self._queue.append(request)
        deadline = monotonic() + patience
        try:
            same = sum(other.places.background == request.places.background for other in self._queue)
            if not self._is_next(request) and same > request.places.waiting:
                raise ConcurrencyLimit
            while not self._is_next(request):
                left = deadline - monotonic()
                if left <= 0:
                    raise ConcurrencyLimit
                self._changed.wait(min(left, _PROBE))
                if self.stopping:
                    raise ShuttingDown
                if client_left():
                    raise Left
        finally:
            self._queue.remove(request)
            self._changed.notify_all()  # there may be a place for the next one, too

    def _reads(self, ticket: Ticket, tell: Callable[[], None]) -> bool:
        """Whether somebody still reads; if so, *tell* is kept."""
        with self._lock:
            if ticket.reading:
                ticket.when_done = tell
            return ticket.reading

    def _reader_done(self, ticket: Ticket) -> bool:
        """Whether it was the first time that this was said."""
        with self._lock:
            if not ticket.reading:
                return False
            ticket.reading = False
            ticket.run = None
            ticket.taken.reading -= 1
            ticket.taken.working_on += ticket.working > 0
            self._leave(ticket)
            return True

    def _work(self, ticket: Ticket, change: int) -> None:
        with self._lock:
            before, ticket.working = ticket.working, ticket.working + change
            if not ticket.reading:
                ticket.taken.working_on += (ticket.working > 0) - (before > 0)
                self._leave(ticket)

    def _leave(self, ticket: Ticket) -> None:
        if not ticket.reading and not ticket.working and ticket in self._tickets:
            self._tickets.remove(ticket)
            self._of_model[ticket.model] -= 1
        if self._queue or self.stopping:
            self._changed.notify_all()
