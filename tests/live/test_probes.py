"""What is learned from the server underneath."""

from __future__ import annotations

import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from flaskcompat.blueprints.servers import (
    DETACHES,
    client_probe,
    cutter,
    gunicorn_worker,
    is_stopping,
    offer_thread,
    places,
    stop_check,
)


class Worker:
    """As much of a gunicorn worker as is looked at."""

    def __init__(self, threads: int) -> None:
        self.alive = True
        self.tpool = object()
        self.cfg = SimpleNamespace(threads=threads, graceful_timeout=30)

    def handle_exit(self, *_: Any) -> None:
        self.alive = False


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    made = Worker(64)
    monkeypatch.setattr(signal, "getsignal", lambda number: made.handle_exit)
    return made


def waitress(threads: int) -> dict[str, Any]:
    class Channel:
        adj = SimpleNamespace(threads=threads)

        def check(self) -> bool:
            return False

    return {"waitress.client_disconnected": Channel().check}


@pytest.mark.parametrize(
    ("threads", "running", "waiting"), [(72, 64, 4), (64, 56, 4), (16, 8, 4), (8, 4, 2), (4, 2, 1), (1, 1, 0)]
)
def test_places_are_what_the_threads_allow(threads: int, running: int, waiting: int, worker: Worker) -> None:
    worker.cfg.threads = threads
    for environ in (waitress(threads), {"gunicorn.socket": object()}):
        found = places(environ, None)
        assert (found.running, found.waiting) == (running, waiting)
        assert places(environ, 5).running == 5 and places(environ, 0).running is None


@pytest.fixture
def uwsgi(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """As much as is looked at of the module that uWSGI makes."""
    made = SimpleNamespace(cores=72, has_threads=1, connection_fd=lambda: -1)
    monkeypatch.setitem(sys.modules, "uwsgi", made)
    return made


def test_uwsgi_tells_its_threads(uwsgi: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    environ = {"uwsgi.version": b"2.0.31"}
    assert (places(environ, None).running, places(environ, None).waiting) == (64, 4)
    assert places({}, None).running is None, "another server, where the module is there for some other reason"
    assert not caplog.records
    uwsgi.cores, uwsgi.has_threads = 1, 0
    for _ in range(2):
        assert (places(environ, None).running, places(environ, None).waiting) == (1, 0)
    assert [record.levelname for record in caplog.records] == ["WARNING"], "said once"
    assert "--enable-threads" in caplog.text


def test_uwsgi_tells_its_connection(uwsgi: SimpleNamespace) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        uwsgi.connection_fd = ours.fileno
        left = client_probe({"uwsgi.version": b"2.0.31"})
        assert not left()
        theirs.close()
        assert left()
        ours.getpeername()  # it is still open
        ours.close()
        assert not left(), "the request is over"


def test_elsewhere_there_are_as_many_as_set() -> None:
    assert (places({}, None).running, places({}, None).waiting) == (None, 4)
    assert places({}, 3).running == 3
    assert places({"waitress.client_disconnected": lambda: False}, None).running is None


def test_gunicorn_s_worker_is_known_by_its_signal_handler(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"gunicorn.socket": object()}
    assert gunicorn_worker({}) is None and gunicorn_worker(environ) is worker
    assert not is_stopping(environ)
    stops: list[float] = []
    check = stop_check(environ, stops.append, 10.0)
    check()
    assert stops == []
    worker.handle_exit()
    check()
    worker.cfg.graceful_timeout = 3
    check()
    assert stops == [10.0, 3.0] and is_stopping(environ)
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_DFL)
    assert gunicorn_worker(environ) is None and not is_stopping(environ)
    stop_check(environ, stops.append, 10.0)()
    assert len(stops) == 2


@pytest.mark.parametrize("key", ["gunicorn.socket", "werkzeug.socket"])
def test_connection_is_cut_under_a_write_that_waits(key: str) -> None:
    ours, theirs = socket.socketpair()
    cut = cutter({key: ours})
    assert cut is not None
    with ours, theirs, ThreadPoolExecutor() as pool:
        writing = pool.submit(ours.sendall, b"x" * 10_000_000)
        cut()
        with pytest.raises(OSError):
            writing.result(20)
        cut()
    cut()  # closed


def test_plain_waitress_closes_a_channel_on_its_own_loop() -> None:
    environ = waitress(4)
    channel = environ["waitress.client_disconnected"].__self__
    pulled: list[Any] = []
    channel.server = SimpleNamespace(trigger=SimpleNamespace(pull_trigger=pulled.append))
    channel.handle_close = object()
    cut = cutter(environ)
    assert cut is not None
    cut()
    assert pulled == [channel.handle_close]


def test_who_sees_to_it_itself_is_left_alone() -> None:
    task = SimpleNamespace(give_up=None)
    assert cutter({DETACHES: task, "gunicorn.socket": object()}) is None and cutter({}) is None
    assert not offer_thread({}, print)
    assert offer_thread({DETACHES: task}, print) and task.give_up is print


@pytest.mark.parametrize(("threads", "waiting"), [(72, 4), (12, 2), (9, 0)])
def test_waiting_for_one_model_leaves_threads_that_begin_answers(threads: int, waiting: int) -> None:
    found = places({DETACHES: object(), **waitress(threads)}, None)
    assert (found.running, found.waiting) == (1000, waiting)
