"""Background responses made by Celery's workers, on real brokers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from flaskcompat import create_app
from flaskcompat.stores import responses

from ..support import TIMEOUT, eventually, serving

BROKERS = {"redis": "FLASKCOMPAT_TEST_REDIS_URL", "rabbitmq": "FLASKCOMPAT_TEST_RABBITMQ_URL"}
WRAPPER = """
import json, os, time
from flaskcompat import BasePipelineWrapper, get_file, get_last_user_input_text

class PipelineWrapper(BasePipelineWrapper):
    def run_response(self, model, input_items, body, principal, headers):
        wish = json.loads(get_last_user_input_text(input_items))
        yield f"{os.getpid()} {principal.name} {headers['x-test']} {'authorization' in headers} {len(input_items)} "
        if "file" in wish:
            yield get_file(wish["file"]).text()
        for number in range(wish.get("words", 3)):
            time.sleep(wish.get("delay", 0))
            yield f"{number} "
"""


@pytest.fixture(params=[("redis", "sqlite_url"), ("rabbitmq", "postgres_url")], ids=lambda pair: pair[0])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    broker, database = request.param
    variable = BROKERS[broker]
    database_url = request.getfixturevalue(database)
    if variable not in os.environ:
        pytest.skip(f"{variable} is not set")
    folder = tmp_path / "pipelines" / "story"
    folder.mkdir(parents=True)
    (folder / "pipeline_wrapper.py").write_text(WRAPPER)
    return {
        "FLASKCOMPAT_PIPELINES_DIR": str(folder.parent),
        "FLASKCOMPAT_DATABASE_URL": database_url,
        "FLASKCOMPAT_FILES_URL": (tmp_path / "files").as_uri(),
        "FLASKCOMPAT_API_KEYS": "alice=sk-alice",
        "FLASKCOMPAT_CELERY_BROKER_URL": os.environ[variable],
    }


@contextmanager
def worker(settings: dict[str, str], queue: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "celery", "-A", "flaskcompat.contrib.celery", "worker", "-P", "threads", "-c", "4"]
    command += ["--without-gossip", "--without-mingle", "-Q", queue, "-l", "WARNING"]
    process = subprocess.Popen(command, env=os.environ | {"HAYSTACK_TELEMETRY_ENABLED": "False"} | settings)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> str:
    """A queue of this test's own: others may be left in the broker."""
    from flaskcompat.contrib import celery

    name = f"test-{os.getpid()}-{time.monotonic_ns()}"
    make = celery.make_celery

    def make_with_queue(broker: str | None) -> Any:
        made = make(broker)
        made.conf.task_default_queue = name
        return made

    monkeypatch.setattr(celery, "make_celery", make_with_queue)
    return name


@pytest.fixture
def client(settings: dict[str, str], queue: str) -> Iterator[OpenAI]:
    app = create_app(settings)
    with serving(app) as url:
        with OpenAI(
            base_url=f"{url}/v1", api_key="sk-alice", max_retries=0, timeout=60, default_headers={"X-Test": "yes"}
        ) as made:
            yield made
    app.extensions["flaskcompat"].stores.close()


def test_workers_make_what_web_processes_tell(
    client: OpenAI, settings: dict[str, str], queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responses, "LOST_AFTER", 5.0)  # sooner than in earnest
    first = client.responses.create(model="story", input='{"words": 1}')
    file = client.files.create(file=("a.txt", b"from a file "), purpose="user_data")
    wish = f'{{"words": 30, "delay": 0.01, "file": "{file.id}"}}'
    waiting = client.responses.create(model="story", input=wish, background=True, previous_response_id=first.id)
    assert waiting.status == "queued"
    dropped = client.responses.create(model="story", input='{"words": 1}', background=True)
    assert client.responses.cancel(dropped.id).status == "cancelled"
    with worker(settings, queue) as process:
        events = list(client.responses.retrieve(waiting.id, stream=True))
        assert [event.sequence_number for event in events] == list(range(len(events)))
        last = client.responses.retrieve(waiting.id)
        told = f"{process.pid} alice yes False 3 from a file " + "".join(f"{n} " for n in range(30))
        assert (last.status, last.output_text) == ("completed", told)
        assert events[-1].response.to_dict() == last.to_dict()  # type: ignore[union-attr]
        assert client.responses.retrieve(dropped.id).status == "cancelled"

        running = client.responses.create(model="story", input='{"words": 9999, "delay": 0.01}', background=True)
        assert eventually(lambda: client.responses.retrieve(running.id).status == "in_progress", 60)
        assert client.responses.cancel(running.id).status == "cancelled"

        stream = client.responses.create(model="story", input='{"words": 5}', background=True, stream=True)
        assert [event.type for event in stream][-1] == "response.completed"

        lost = client.responses.create(model="story", input='{"words": 9999, "delay": 0.01}', background=True)
        assert eventually(lambda: client.responses.retrieve(lost.id).status == "in_progress", 60)
        process.send_signal(signal.SIGKILL)
        process.wait(TIMEOUT)
    assert eventually(lambda: client.responses.retrieve(lost.id).status == "failed", 60)


def test_broker_that_cannot_be_reached(settings: dict[str, str]) -> None:
    app = create_app({**settings, "FLASKCOMPAT_CELERY_BROKER_URL": "redis://127.0.0.1:1/0"})
    with serving(app) as url, OpenAI(base_url=f"{url}/v1", api_key="sk-alice", max_retries=0, timeout=60) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            client.responses.create(model="story", input="{}", background=True)
        assert caught.value.status_code == 503 and caught.value.code == "queue_unavailable"
    app.extensions["flaskcompat"].stores.close()


def test_settings_that_do_not_fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = {"FLASKCOMPAT_CELERY_BROKER_URL": "redis://x"}
    with pytest.raises(ValueError, match="needs FLASKCOMPAT_DATABASE_URL"):
        create_app(config)
    monkeypatch.setitem(sys.modules, "flaskcompat.contrib.celery", None)
    with pytest.raises(ValueError, match="flaskcompat\\[celery\\]"):
        create_app({**config, "FLASKCOMPAT_DATABASE_URL": f"sqlite:///{tmp_path}/x.db"})
