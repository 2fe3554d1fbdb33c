"""gunicorn with flaskcompat's worker behind nginx: several processes on one socket."""

import os
from typing import Any

wsgi_app = "flaskcompat:create_app()"
worker_class = "flaskcompat.server.gunicorn.Worker"

# For nginx alone: whoever reaches this address goes around it.
bind = "127.0.0.1:1416"

# One for each core that the models' own work keeps busy; a stream that waits for a model elsewhere needs none.
# More than one needs FLASKCOMPAT_DATABASE_URL: what one process keeps in its memory the others do not know.
workers = 2

# Seconds for a worker that is replaced or stopped; FLASKCOMPAT_SHUTDOWN_GRACE (10), within them, ends long answers
# with an error event.
graceful_timeout = 30


# -- Prometheus: only where PROMETHEUS_MULTIPROC_DIR names a folder, which must be empty at the start -----------------


def child_exit(server: Any, worker: Any) -> None:
    """Take what a worker that has ended counted as open out of the sums of all workers."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(worker.pid)
