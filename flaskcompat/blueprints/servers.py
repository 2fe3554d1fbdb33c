"""What can be learned from the WSGI server underneath, each in its own way: waitress, gunicorn, mod_wsgi, uWSGI."""

from __future__ import annotations

import select
import signal
import socket
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from flaskcompat.log import log
from flaskcompat.runtime.admission import Places

Environ = dict[str, Any]

#: Threads that are left for short requests and for requests that wait, half for each; of a small server fewer.
SPARE_THREADS = 8
#: In the environ of servers that write streams without a thread for each.
DETACHES = "flaskcompat.detaches"
#: Answers that such a server makes at once, unless the setting says otherwise.
DETACHED_ANSWERS = 1000


def places(environ: Environ, setting: int | None) -> Places:
    """How many answers may be made at once, and how many requests may wait.

    :param setting: the number that was set, 0 for any; None takes what the server's threads allow.
    """
    if detaches(environ):
        # Those that wait for the place of one model hold threads that begin the answers of all.
        begin = int(_waitress_channel(environ).adj.threads) - SPARE_THREADS
        running = DETACHED_ANSWERS if setting is None else setting or None
        return Places(running, min(SPARE_THREADS, begin) // 2)
    threads = _threads(environ)
    spare = SPARE_THREADS if threads is None else min(SPARE_THREADS, threads // 2)
    running = setting or None
    if setting is None and threads is not None:
        running = threads - spare
    return Places(running, spare // 2)


def _threads(environ: Environ) -> int | None:
    channel = _waitress_channel(environ)
    if channel is not None:
        return int(channel.adj.threads)
    if "mod_wsgi.version" in environ:
        return getattr(sys.modules.get("mod_wsgi"), "threads_per_process", None)
    if (uwsgi := _uwsgi(environ)) is not None:
        if not uwsgi.has_threads:
            _warn_without_threads()
        return int(uwsgi.cores)
    worker = gunicorn_worker(environ)
    # Its other workers have one thread, or as many as there are connections.
    return int(worker.cfg.threads) if hasattr(worker, "tpool") else None


def _waitress_channel(environ: Environ) -> Any:
    channel = getattr(environ.get("waitress.client_disconnected"), "__self__", None)
    return channel if hasattr(channel, "adj") else None


def _uwsgi(environ: Environ) -> Any:
    """The module that uWSGI makes; None under any other server."""
    return sys.modules.get("uwsgi") if "uwsgi.version" in environ else None


@cache
def _warn_without_threads() -> None:
    """Say so once: such a uWSGI runs no Python between requests. Newer ones have threads unless told otherwise."""
    log.warning("uWSGI runs without threads: responses in the background stand still; start it with --enable-threads")


def gunicorn_worker(environ: Environ) -> Any:
    """The gunicorn worker that this process is, None in any other process.

    It is found by its own handler of SIGTERM: so nothing of the process's signals is touched.
    """
    if "gunicorn.socket" not in environ:
        return None
    worker = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return worker if hasattr(worker, "alive") and hasattr(worker, "cfg") else None


def stop_check(environ: Environ, stop: Callable[[float], None], grace: float) -> Callable[[], None]:
    """A function that calls ``stop(grace)`` once a gunicorn worker has been told to end; does nothing elsewhere."""
    worker = gunicorn_worker(environ)
    if worker is None:
        return _nothing

    def check() -> None:
        if not worker.alive:
            stop(min(grace, float(worker.cfg.graceful_timeout)))

    return check


def is_stopping(environ: Environ) -> bool:
    """Whether the gunicorn worker that this process is has been told to end."""
    worker = gunicorn_worker(environ)
    return worker is not None and not worker.alive


def _nothing() -> None:
    pass


def detaches(environ: Environ) -> bool:
    """Whether the server writes streams without a thread that waits for their next event: our own runner does."""
    return DETACHES in environ


def queued_since(environ: Environ) -> float | None:
    """When the request began to wait for a thread (``time.monotonic()``); None where the server does not tell."""
    task = environ.get(DETACHES)
    return task.channel.queued_at if task is not None else None


def client_probe(environ: Environ) -> Callable[[], bool]:
    """A function that tells, without waiting, whether the client has left; False where the server cannot tell."""
    disconnected = environ.get("waitress.client_disconnected")
    if callable(disconnected):
        return lambda: bool(disconnected())
    connection = _connection(environ)
    if connection is not None:
        return lambda: _hung_up(connection)
    if (uwsgi := _uwsgi(environ)) is not None:
        descriptor = int(uwsgi.connection_fd())  # of the request that this thread answers
        return lambda: _descriptor_hung_up(descriptor)
    return lambda: False


def cutter(environ: Environ) -> Callable[[], None] | None:
    """A function that ends the connection, whoever waits in a write to it.

    None where nothing can be done, and under our own runner, which sees to it itself.
    """
    if detaches(environ):
        return None
    channel = _waitress_channel(environ)
    if channel is not None:
        return lambda: channel.server.trigger.pull_trigger(channel.handle_close)
    connection = _connection(environ)
    if connection is not None:
        return lambda: _shut(connection)
    return None


def offer_thread(environ: Environ, give_up: Callable[[], None]) -> bool:
    """Let the server put another thread in the place of this one once the client has left; *give_up* is called then.

    False where the server does no such thing.
    """
    task = environ.get(DETACHES)
    if task is None:
        return False
    task.give_up = give_up
    return True


def _connection(environ: Environ) -> socket.socket | None:
    connection = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    return connection if isinstance(connection, socket.socket) else None


def _shut(connection: socket.socket) -> None:
    try:
        # Not by a TLS connection's own method: it would let go of its encryption first, under the write that waits.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:  # closed
        pass


def _hung_up(connection: socket.socket) -> bool:
    try:
        if not _is_readable(connection):
            return False
        return connection.recv(1, socket.MSG_PEEK) == b""
    except ConnectionError:
        return True
    except (OSError, ValueError):  # TLS cannot be peeked at: no answer is no leaver
        return False


def _descriptor_hung_up(descriptor: int) -> bool:
    try:
        connection = socket.socket(fileno=descriptor)
    except OSError:  # closed: the request is over
        return False
    try:
        return _hung_up(connection)
    finally:
        connection.detach()  # it stays the server's


def _is_readable(connection: socket.socket) -> bool:
    if hasattr(select, "poll"):  # select() has a limit
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([connection], [], [], 0)[0])
