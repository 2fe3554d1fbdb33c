"""The host's models in a Celery worker: an application context for each run, and no request."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ..support import TIMEOUT, serving
from . import host
from .asking import ask

HOST = "tests.embedding.host:app_of_environment()"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The host's address, with a worker beside it."""
    pytest.importorskip("celery")
    broker = os.environ.get("FLASKCOMPAT_TEST_REDIS_URL")
    if broker is None:
        pytest.skip("FLASKCOMPAT_TEST_REDIS_URL is not set")
    from flaskcompat.contrib import celery

    folder = tmp_path_factory.mktemp("host")
    queue = f"test-{os.getpid()}-{time.monotonic_ns()}"
    settings = {
        "FLASK_APP": HOST,
        "FLASKCOMPAT_CELERY_BROKER_URL": broker,
        "FLASK_FLASKCOMPAT_CELERY_BROKER_URL": broker,
        "FLASK_FLASKCOMPAT_DATABASE_URL": f"sqlite:///{folder / 'responses.db'}",
        "HOST_DATABASE": f"sqlite:///{folder / 'host.db'}",
    }
    make = celery.make_celery

    def make_with_queue(broker: str | None) -> celery.Celery:
        made = make(broker)
        made.conf.task_default_queue = queue
        return made

    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        patch.setattr(celery, "make_celery", make_with_queue)
        app = host.create_app(settings["HOST_DATABASE"])
        command = [sys.executable, "-m", "celery", "-A", "flaskcompat.contrib.celery", "worker", "-P", "threads"]
        command += ["-c", "4", "--without-gossip", "--without-mingle", "-Q", queue, "-l", "WARNING"]
        worker = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"HAYSTACK_TELEMETRY_ENABLED": "False"})
        try:
            with serving(app) as url:
                yield url
        finally:
            worker.terminate()
            worker.wait(30)
            with app.app_context():
                host.db.engine.dispose()
            app.extensions["flaskcompat"].stores.close()


@pytest.mark.parametrize("shape", ["text", "generator", "pipeline", "wrapped pipeline", "coroutine", "async generator"])
@pytest.mark.parametrize("work", ["sqlite", "session"])
def test_what_a_run_opens_is_closed(served: str, shape: str, work: str) -> None:
    cookies = httpx.get(f"{served}/login", timeout=TIMEOUT).cookies
    assert ask(f"{served}/ai", "background", f"{work} in {shape}", cookies=cookies).startswith("1")
    assert ask(f"{served}/ai", "background", "count in text", cookies=cookies) == "0 0"
