"""The runner: waitress, set up for answers that stream."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from flask import Flask

from flaskcompat.blueprints.servers import DETACHED_ANSWERS, SPARE_THREADS
from flaskcompat.errors import CannotListen
from flaskcompat.log import log, take_logger
from flaskcompat.runtime.composition import models_that_ask
from flaskcompat.runtime.state import states_of
from flaskcompat.server.memory import keep_freed_memory
from flaskcompat.server.runner import Runner, places_of

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 1416
DEFAULT_THREADS = 64
#: Connections that are left when there are as many answers as there may be.
SPARE_CONNECTIONS = 1000
# Descriptors that are not connections.
_SPARE_DESCRIPTORS = 64
# What a multipart body or its headers may add to the largest upload, in bytes.
_BODY_MARGIN = 1 << 20
# Seconds after the grace when a process that hangs at its exit is ended.
_HANGS = 0.5


def url_prefix() -> str:
    """The path below which this process serves: ``SCRIPT_NAME`` in its environment, as gunicorn's own workers do."""
    # WSGI has paths as text of one character for each byte.
    path = os.fsencode(os.environ.get("SCRIPT_NAME", "")).decode("latin-1").strip("/")
    return f"/{path}" if path else ""


def options(app: Flask, threads: int) -> dict[str, Any]:
    """Waitress's settings; each that differs from its default has its reason here.

    ``send_bytes`` stays at its default of 1 (naming it is deprecated): each write goes out at once.
    """
    return {
        # The others are for short requests.
        "threads": threads + SPARE_THREADS,
        # At the default of 100, as many idle connections would lock everyone out.
        "connection_limit": max(places_of(app) or DETACHED_ANSWERS, threads) + SPARE_CONNECTIONS,
        "backlog": 2048,
        # A head and a short body in one piece; the rest of a long one comes in larger pieces.
        "recv_bytes": 16 * 1024,
        # What a client may leave unread before the stream that writes to it waits.
        "outbuf_high_watermark": 256 * 1024,
        # Lets `waitress.client_disconnected` see a client that leaves while it is being answered.
        "channel_request_lookahead": 1,
        "channel_timeout": 60,
        "max_request_header_size": 64 * 1024,
        "max_request_body_size": app.config["FLASKCOMPAT_MAX_UPLOAD_BYTES"] + _BODY_MARGIN,
        "ident": None,
        "url_prefix": url_prefix(),
        # Whether to believe what a proxy says is the application's to know: by ProxyFix, as under other servers.
        "clear_untrusted_proxy_headers": False,
    }


def make_server(
    app: Flask, *, host: str = DEFAULT_HOST, port: int = DEFAULT_PORT, threads: int = DEFAULT_THREADS
) -> Runner:
    """A server that is bound and not yet running; its ``port`` tells the port.

    :raises CannotListen: if the address is in use or not one of this machine.
    """
    settings = options(app, threads)
    try:
        return Runner(app, {"host": host, "port": port, **settings})
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        why = "the port is in use; choose another one with --port" if in_use else error.strerror or str(error)
    except ValueError:  # of waitress, which cannot resolve the host
        why = "the host is not known"
    raise CannotListen(f"Cannot listen on {host}, port {port}: {why}.")


def serve(
    app: Flask,
    *,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    threads: int = DEFAULT_THREADS,
    on_start: Callable[[int], None] | None = None,
) -> None:
    """Serve *app* until SIGTERM or SIGINT, then stop within ``FLASKCOMPAT_SHUTDOWN_GRACE``; a second signal ends it.

    :param on_start: called with the port once the server listens.
    :raises CannotListen: if the address is in use or not one of this machine.
    """
    take_logger("waitress")
    allow_descriptors(options(app, threads)["connection_limit"])
    keep_freed_memory()
    runner = make_server(app, host=host, port=port, threads=threads)
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = _stop_on_signals(runner, app.config["FLASKCOMPAT_SHUTDOWN_GRACE"])
    warn_if_open(app, host)
    if on_start is not None:
        on_start(runner.port)
    warn_of_composition(app, host, runner.port, threads)
    try:
        runner.run()
    finally:
        runner.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    log.info("stopped")


def warn_if_open(app: Flask, host: str) -> None:
    """Log a warning if *app* asks nobody who they are, and *host* is an address that others reach."""
    if not _is_loopback(host) and not all(state.guarded for state in states_of(app.extensions)):
        unless = " unless a before_request hook refuses them" if app.before_request_funcs.get(None) else ""
        log.warning(
            "serving on {}: anyone who reaches this address can use the models{}; no API key is set", host, unless
        )


def warn_of_composition(app: Flask, host: str, port: int, threads: int) -> None:
    """Log what models that ask this server itself need of its *threads*."""
    names = [name for state in states_of(app.extensions) for name in models_that_ask(state.registry, host, port)]
    if not names:
        return
    shown = ", ".join(names)
    if threads < 2:
        log.error("{}: asks this server, which has one thread: no whole answer of it can be made", shown)
    else:
        most = threads // 2
        log.warning("{}: asks this server; more than {} whole answers at once would wait for each other", shown, most)


def allow_descriptors(connections: int) -> None:
    """Raise this process's own limit of open files to what *connections* need, as far as the system lets it."""
    number = connections + _SPARE_DESCRIPTORS
    try:
        import resource
    except ImportError:  # Windows has none
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < number:
        allowed = number if hard == resource.RLIM_INFINITY else min(number, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        if allowed < number:
            log.warning("only {} files may be open: fewer connections than the {} that may come", allowed, connections)


def _stop_on_signals(runner: Runner, grace: float) -> dict[int, Any]:
    """Stop *runner* on SIGTERM and SIGINT; gives the handlers before."""

    def stop(number: int, frame: FrameType | None) -> None:
        if runner.stopping:
            os._exit(1)
        runner.stopping = True
        threading.Thread(target=stop_process, args=(runner, grace), name="flaskcompat-stop", daemon=True).start()

    return {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}


def stop_process(runner: Runner, grace: float) -> None:
    """Stop *runner* within *grace* seconds, and end this process if it does not end by itself."""
    log.info("stopping within {:.0f} s", grace)
    begun = time.monotonic()
    runner.stop(grace)
    # A wrapper that blocks a thread of the loop's would keep the process from its end.
    time.sleep(max(0.0, begun + grace + _HANGS - time.monotonic()))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
