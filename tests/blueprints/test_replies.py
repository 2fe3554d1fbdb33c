"""The body of a stream, over a run whose batches the test decides."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from flask import Flask

from flaskcompat.blueprints.event_stream import EventStream
from flaskcompat.config import set_defaults
from flaskcompat.protocol.chat import ChatCompletionMachine
from flaskcompat.protocol.machine import Machine
from flaskcompat.protocol.responses import ResponseMachine

from ..support import frames, make_app, scripted


class Batches:
    """A run that gives these batches, one at each take."""

    label = "m.run"
    error: BaseException | None = None
    left = False

    def __init__(self, *batches: list[Any]) -> None:
        self._batches = list(batches)
        self.closed = 0

    @property
    def ended(self) -> bool:
        return not self._batches

    def take(self) -> list[Any]:
        return self._batches.pop(0)

    def writes(self) -> None:
        pass

    def close(self) -> None:
        self.closed += 1


def stream(machine: Machine, run: Any) -> EventStream:
    app = Flask("x")
    set_defaults(app)
    with app.app_context():
        body = EventStream(machine, run, lambda: None)
        body.begin()
    return body


@pytest.mark.parametrize("make", [ChatCompletionMachine, ResponseMachine])
def test_what_waits_together_goes_out_in_one_write_of_whole_events(make: Any) -> None:
    words = [f"w{n} " for n in range(100)]
    run = Batches(["first "], words, ["last"])
    first, burst, last = list(stream(make(model="m"), run))
    assert b"first " in first and b"w0 " not in first
    assert len(frames(burst.decode())) == 100 and burst.endswith(b"\n\n")
    assert b"last" in last and last.endswith(b"data: [DONE]\n\n")


def test_stream_that_is_dropped_takes_no_lock() -> None:
    run = Batches(["a"], ["b"])
    body = stream(ChatCompletionMachine(model="m"), run)
    del body
    gc.collect()
    assert run.closed == 0, "a finalizer may run inside of a lock; the watch over the run closes it"


def test_closing_ends_the_run_whenever_it_comes() -> None:
    run = Batches(["a"], ["b"])
    body = stream(ChatCompletionMachine(model="m"), run)
    body.close()
    assert run.closed == 1
    next(body)
    assert list(body) == []


SURFACES = {
    "chat/completions": {
        "messages": [{"role": "user", "content": "hi"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "integer"}}},
    },
    "responses": {
        "input": "hi",
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "integer"}}},
    },
}


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("text", ["12", "twelve"])
def test_answer_that_is_not_in_the_form_asked_for_fails(surface: str, text: str) -> None:
    wrapper = scripted([text[:1], text[1:]])
    type(wrapper).check_format = True
    client = make_app(m=wrapper).test_client()
    body = {"model": "m", **SURFACES[surface]}
    whole = client.post(f"/v1/{surface}", json=body)
    stream = client.post(f"/v1/{surface}", json={**body, "stream": True}).text
    if text == "12":
        assert whole.status_code == 200 and '"error":{' not in stream
    else:
        assert (whole.status_code, whole.json["error"]["code"]) == (500, "invalid_answer")
        assert '"code":"invalid_answer"' in stream and "response.completed" not in stream
    assert (
        client.post(
            f"/v1/{surface}", json={"model": "m", **{**SURFACES[surface], **_without_schema(surface)}}
        ).status_code
        == 400
    )


def _without_schema(surface: str) -> dict[str, Any]:
    form = {"type": "json_schema", "name": "n", "schema": {"type": "none"}}
    return {"text": {"format": form}} if surface == "responses" else {"response_format": {**form, "json_schema": form}}
