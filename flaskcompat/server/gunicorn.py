"""The runner as a worker of gunicorn's, which looks after several processes on one socket."""

from __future__ import annotations

import os
import socket
import threading

from flask import Flask
from gunicorn.errors import AppImportError
from gunicorn.workers.base import Worker as BaseWorker

from flaskcompat.log import log, take_logger
from flaskcompat.server import DEFAULT_THREADS, allow_descriptors, options, stop_process, warn_if_open
from flaskcompat.server.memory import keep_freed_memory
from flaskcompat.server.runner import Runner

# What gunicorn takes for threads if it is told nothing.
_GUNICORNS_THREADS = 1


class Worker(BaseWorker):  # type: ignore[misc]
    """Serves as ``serve`` does; gunicorn starts it, watches it, replaces it, and tells it to stop.

    Of gunicorn's settings those of processes, sockets and logs hold, with ``threads`` (1 stands for
    :data:`DEFAULT_THREADS`), ``max_requests`` and ``graceful_timeout``, and ``SCRIPT_NAME`` in the environment or in
    ``raw_env``. Requests are read by waitress, so those that are about HTTP do not.
    """

    _runner: Runner

    def run(self) -> None:
        """Serve until told to stop.

        :raises AppImportError: for a setting that cannot be met.
        """
        app = self.wsgi
        if self.cfg.is_ssl:
            raise AppImportError("this worker speaks no TLS: let a proxy do it")
        if not isinstance(app, Flask):
            raise AppImportError("this worker serves a Flask application; middleware belongs on its `wsgi_app`")
        take_logger("waitress")
        threads = DEFAULT_THREADS if self.cfg.threads == _GUNICORNS_THREADS else self.cfg.threads
        settings = options(app, threads)
        allow_descriptors(settings["connection_limit"])
        keep_freed_memory()
        sockets = [listener.sock for listener in self.sockets]
        self._runner = Runner(app, settings, sockets=sockets, on_round=self._look_after)
        for bound in sockets:
            if bound.family != socket.AF_UNIX:
                warn_if_open(app, bound.getsockname()[0])
        try:
            self._runner.run()
        finally:
            self._runner.close()
        log.info("stopped")

    def _look_after(self) -> None:
        self.notify()
        is_due = not self.alive or self._runner.requests >= self.max_requests or os.getppid() != self.ppid
        if is_due and not self._runner.stopping:
            self._runner.stopping = True
            grace = min(self.wsgi.config["FLASKCOMPAT_SHUTDOWN_GRACE"], float(self.cfg.graceful_timeout))
            threading.Thread(target=stop_process, args=(self._runner, grace), daemon=True).start()
