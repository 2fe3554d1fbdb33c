"""The runner: waitress, set up for answers that stream."""

from __future__ import annotations

import select
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import waitress
from flask import Flask

from flaskcompat.log import log

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 1416
DEFAULT_THREADS = 64
#: Threads beyond those for answers, so that short requests find one.
SPARE_THREADS = 8
# What a multipart body or its headers may add to the largest upload, in bytes.
_BODY_MARGIN = 1 << 20


def options(app: Flask, threads: int) -> dict[str, Any]:
    """Waitress's settings; each that differs from its default has its reason here.

    ``send_bytes`` stays at its default of 1 (naming it is deprecated): each write goes out at once.
    """
    return {
        # A stream holds its thread from the first byte to the last.
        "threads": threads + SPARE_THREADS,
        # At the default of 100, as many idle connections would lock everyone out.
        "connection_limit": max(1000, threads + 256),
        "backlog": 2048,
        # select() ends the whole server at the 1024th open file.
        "asyncore_use_poll": hasattr(select, "poll"),
        # What a client may leave unread before the stream that writes to it waits.
        "outbuf_high_watermark": 256 * 1024,
        # Lets `waitress.client_disconnected` see a client that leaves while it is being answered.
        "channel_request_lookahead": 1,
        "channel_timeout": 60,
        "max_request_header_size": 64 * 1024,
        "max_request_body_size": app.config["FLASKCOMPAT_MAX_UPLOAD_BYTES"] + _BODY_MARGIN,
        "ident": None,
    }


def make_server(
    app: Flask, *, host: str = DEFAULT_HOST, port: int = DEFAULT_PORT, threads: int = DEFAULT_THREADS
) -> Any:
    """A waitress server that is bound and not yet running; ``effective_port`` tells the port."""
    return waitress.create_server(app, host=host, port=port, **options(app, threads))


def serve(
    app: Flask,
    *,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    threads: int = DEFAULT_THREADS,
    on_start: Callable[[int], None] | None = None,
) -> None:
    """Serve *app* until SIGTERM or SIGINT.

    :param on_start: called with the port once the server listens.
    """
    server = make_server(app, host=host, port=port, threads=threads)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _stop)
    if not _is_loopback(host):
        log.warning("serving on {}: anyone who reaches this address can use the models", host)
    if on_start is not None:
        on_start(_port(server))
    try:
        server.run()
    finally:
        server.close()
    log.info("stopped")


def _stop(number: int, frame: FrameType | None) -> None:
    # waitress's loop takes this for the end, and gives running requests a few seconds.
    sys.exit(0)


def _port(server: Any) -> int:
    ports = [server.effective_port] if hasattr(server, "effective_port") else [p for _, p in server.effective_listen]
    return int(ports[0])


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
