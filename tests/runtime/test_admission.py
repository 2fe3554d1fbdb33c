"""Places, who waits for them, and the end."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from flaskcompat.errors import ConcurrencyLimit, ShuttingDown
from flaskcompat.runtime.admission import Admission, Left, Places, Ticket

from ..support import eventually


class Site:
    """An admission with its limits."""

    def __init__(self, running: int | None, waiting: int = 0) -> None:
        self.admission = Admission()
        self.places = Places(running, waiting)
        self.pool = ThreadPoolExecutor(64)

    def enter(self, model: str = "m", limit: int | None = None, patience: float = 20, left: Any = bool) -> Ticket:
        return self.admission.enter(model, self.places, limit, left, patience)

    def waiting(self, model: str = "m", limit: int | None = None, **kwargs: Any) -> Future[Ticket]:
        """One that has come to wait."""
        before = self.admission.waiting
        future = self.pool.submit(self.enter, model, limit, **kwargs)
        assert eventually(lambda: self.admission.waiting == before + 1)
        return future


def test_as_many_as_there_are_places_and_the_rest_is_refused() -> None:
    site = Site(2)
    first, _ = site.enter(), site.enter()
    with pytest.raises(ConcurrencyLimit) as refused:
        site.enter()
    assert refused.value.status == 429 and refused.value.headers["Retry-After"] == "1"
    first.reader_done()
    first.reader_done()
    site.enter()
    with pytest.raises(ConcurrencyLimit):
        site.enter()


def test_those_who_wait_come_in_order() -> None:
    site = Site(1, 3)
    ticket, order = site.enter(), []
    futures = [site.waiting() for _ in range(3)]
    with pytest.raises(ConcurrencyLimit):
        site.enter()
    for future in futures:
        ticket.reader_done()
        ticket = future.result(10)
        order.append([f.done() for f in futures].count(True))
    assert order == [1, 2, 3]


def test_patience_ends_and_leavers_wait_no_more() -> None:
    site = Site(1, 2)
    site.enter()
    begun = time.monotonic()
    with pytest.raises(ConcurrencyLimit):
        site.enter(patience=0.1)
    assert 0.1 <= time.monotonic() - begun < 5
    with pytest.raises(Left):
        site.enter(left=lambda: True)
    assert site.admission.waiting == 0


def test_limit_of_a_model_holds_up_that_model_alone() -> None:
    site = Site(3, 2)
    own = site.enter("one", 1)
    waiting = site.waiting("one", 1)
    site.enter("other")
    site.enter("other", patience=0)
    assert not waiting.done()
    own.reader_done()
    assert waiting.result(10).model == "one"
    with pytest.raises(ConcurrencyLimit):
        site.enter("other", patience=0.05)


def test_full_waiting_room_is_no_matter_where_a_place_is_free() -> None:
    site = Site(2, 1)
    site.enter("one", 1)
    waiting = site.waiting("one", 1)
    site.enter("other", patience=0)
    waiting.cancel()
    with pytest.raises(ConcurrencyLimit):
        site.enter("one", 1)
    site.admission.stop(0.01)


def test_work_that_outlives_its_reader_counts_when_it_is_as_much_as_there_are_places() -> None:
    site = Site(2)
    left = []
    for _ in range(3):
        ticket = site.enter()
        ticket.work_begins()
        ticket.reader_done()
        left.append(ticket)
    site.enter()
    with pytest.raises(ConcurrencyLimit):  # three go on, of which two are for nothing
        site.enter()
    left[0].work_done()
    site.enter()


def test_limit_of_a_model_counts_all_of_its_work() -> None:
    site = Site(8)
    ticket = site.enter("one", 1)
    ticket.work_begins()
    ticket.work_begins()
    ticket.reader_done()
    ticket.work_done()
    with pytest.raises(ConcurrencyLimit):
        site.enter("one", 1)
    ticket.work_done()
    site.enter("one", 1)


class Run:
    def __init__(self, ticket: Ticket) -> None:
        ticket.run = self
        self.ticket = ticket
        self.error: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        self.error = error
        self.ticket.reader_done()


def test_stop_waits_for_short_ones_and_ends_the_rest() -> None:
    site = Site(3, 3)
    short, long, early = site.enter(), Run(site.enter()), site.enter()
    waiting = site.waiting()
    begun = time.monotonic()
    site.admission.begin_stop(1.0)
    site.admission.begin_stop(50)
    with pytest.raises(ShuttingDown):
        waiting.result(10)
    with pytest.raises(ShuttingDown):
        site.enter()
    short.reader_done()
    early.reader_done()
    assert eventually(lambda: long.error is not None)
    assert isinstance(long.error, ShuttingDown) and 0.4 < time.monotonic() - begun < 5
    assert site.admission.active == 0


def test_stop_of_an_idle_one_is_immediate_and_of_a_deaf_one_ends() -> None:
    begun = time.monotonic()
    Site(1).admission.stop(30)
    assert time.monotonic() - begun < 5
    site = Site(1)
    site.enter()  # with no run that could be ended
    site.admission.stop(0.2)
    assert time.monotonic() - begun < 5


def test_never_too_many_and_nobody_lost() -> None:
    site = Site(5, 50)
    most, running, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal most, running
        for _ in range(50):
            ticket = site.enter()
            with lock:
                running += 1
                most = max(most, running)
            ticket.work_begins()
            with lock:
                running -= 1
            ticket.reader_done()
            ticket.work_done()

    for future in [site.pool.submit(work) for _ in range(40)]:
        future.result(60)
    assert most <= 5 and site.admission.active == 0 and not site.admission._tickets
    assert all(taken.working_on == 0 for taken in site.admission._taken.values())


def test_background_has_places_of_its_own() -> None:
    admission = Admission()
    front, back = Places(1, 0), Places(1, 1, background=True)
    first = admission.enter("m", front, None, lambda: False)
    second = admission.enter("m", back, None, lambda: False)
    for places in (front, back):
        with pytest.raises(ConcurrencyLimit):
            admission.enter("m", places, None, lambda: False, patience=0)
    assert admission.active == 2 and admission.waiting == 0
    # A model's own limit is one for both.
    second.reader_done()
    with pytest.raises(ConcurrencyLimit):
        admission.enter("m", back, 1, lambda: False, patience=0)
    first.reader_done()
    admission.enter("m", back, 1, lambda: False).reader_done()
    assert admission.active == 0
