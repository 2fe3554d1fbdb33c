from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from flask.globals import _cv_app
from hypothesis import HealthCheck, settings

from flaskcompat.runtime.bridge import bridge

from .stores.places import clock, database_url, postgres_url, records, sqlite_url  # noqa: F401
from .support import eventually

# A shared machine may be slow at any moment: that is no finding about the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# The process's own threads live as long as it does. Those that make background responses live as long as their app:
# pytest holds that until the test's fixtures are torn down.
_KEPT = (
    "flaskcompat-loop",
    "flaskcompat-executor",
    "flaskcompat-watcher",
    "flaskcompat-save",
    "flaskcompat-background_",
)


def _running() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.name.startswith("flaskcompat") and not t.name.startswith(_KEPT)}


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """Fails a test that leaves a worker thread, a task on the bridge or a Flask context behind."""
    before = _running()
    yield
    assert eventually(lambda: not _running() - before), f"threads left: {_running() - before}"
    assert eventually(lambda: bridge.active == 0), f"tasks left on the bridge: {bridge._all}"
    assert _cv_app.get(None) is None, "a Flask context was left pushed"
