"""What a Celery worker does, without a broker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from flaskcompat import BasePipelineWrapper, FlaskCompat
from flaskcompat.contrib import celery
from flaskcompat.runtime.state import State

from ..support import post, response_body


class Telling(BasePipelineWrapper):
    def run_response(self, model: str, input_items: Any, body: Any, principal: Any, headers: Any) -> Iterator[str]:
        yield f"{principal.name} {principal.models} {sorted(headers)} {len(input_items)}"


@pytest.fixture
def app(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    made = Flask("host")
    made.config.update(FLASKCOMPAT_DATABASE_URL=sqlite_url, FLASKCOMPAT_API_KEYS="alice=sk-alice m")
    FlaskCompat(made).registry.add("m", Telling())
    monkeypatch.setattr(celery, "_made_app", lambda: made)
    yield made
    state_of(made).stores.close()


def state_of(app: Flask) -> State:
    state: State = app.extensions["flaskcompat"]
    return state


def begin(app: Flask, **more: Any) -> list[tuple[str, str]]:
    """What was put into the queue for one response in the background."""
    queue: list[tuple[str, str]] = []
    state_of(app).send = lambda owner, id: queue.append((owner, id))
    headers = {"Authorization": "Bearer sk-alice", "X-Test": "x", "Cookie": "secret=1"}
    answer = post(app, "/v1/responses", response_body(background=True, **more), headers=headers)
    assert answer.status_code == 200 and answer.json["status"] == "queued"
    return queue


def test_response_is_made_from_what_is_stored(app: Flask) -> None:
    [(owner, id)] = begin(app)
    store = state_of(app).stores.responses
    assert store.task(owner, id).details["body"]["model"] == "m"
    celery.make_response(owner, id)
    made = store.response(owner, id)
    assert made["status"] == "completed"
    text = made["output"][0]["content"][0]["text"]
    assert (
        text.startswith("alice ('m',) ") and "Cookie" not in text and "Authorization" not in text and "X-Test" in text
    )
    celery.make_response(owner, id)  # a message that comes twice
    assert store.response(owner, id) == made
    [(owner, again)] = begin(app, previous_response_id=id)
    celery.make_response(owner, again)
    assert store.response(owner, again)["output"][0]["content"][0]["text"].endswith(" 3")


def test_model_that_the_worker_does_not_have(app: Flask) -> None:
    [(owner, id)] = begin(app)
    state_of(app).registry._models = {}
    celery.make_response(owner, id)
    assert state_of(app).stores.responses.response(owner, id)["status"] == "failed"


def test_cancelled_while_it_waited(app: Flask) -> None:
    [(owner, id)] = begin(app)
    store = state_of(app).stores.responses
    store.cancel(owner, id)
    celery.make_response(owner, id)
    cancelled = store.response(owner, id)
    assert cancelled["status"] == "cancelled" and cancelled["usage"]["total_tokens"] == 0
