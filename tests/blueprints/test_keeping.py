"""An answer is kept before its client sees the end of it; if it cannot be, it has failed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import httpx
import pytest
from flask import Flask

from flaskcompat import FlaskCompat
from flaskcompat.stores.records import Record, StorageUnavailable
from flaskcompat.stores.responses import Context

from ..support import (
    TIMEOUT,
    Raise,
    chat_body,
    events_of,
    eventually,
    frames,
    make_app,
    post,
    response_body,
    returning,
    scripted,
    serving,
)

MODES = ("generator", "async generator function")


def spoil(app: Flask, save: Callable[..., None], *, waits: bool = True) -> None:
    """Have *app* save records with *save*."""
    records = app.extensions["flaskcompat"].stores.responses._records
    records.save, records.waits = save, waits


def unavailable(*args: Any, **kwargs: Any) -> None:
    raise StorageUnavailable


def broken(*args: Any, **kwargs: Any) -> None:
    raise ValueError("s3cret")


@pytest.mark.parametrize("save", [unavailable, broken])
@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_response_that_cannot_be_kept_has_failed(save: Any, waits: bool, mode: str, caplog: Any) -> None:
    app = make_app(m=scripted(["one ", "two"], mode))
    spoil(app, save, waits=waits)
    with serving(app) as url:
        answer = httpx.post(f"{url}/v1/responses", json=response_body(stream=True), timeout=TIMEOUT)
    events = events_of(answer.text)
    assert [event["type"] for event in events[-3:]] == ["response.output_item.done", "response.failed", "error"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    failed = events[-2]["response"]
    assert (failed["status"], failed["completed_at"]) == ("failed", None)
    assert failed["output"][0]["content"][0]["text"] == "one two"
    assert frames(answer.text)[-1] == (None, "[DONE]")
    assert "s3cret" not in answer.text and "response.completed" not in answer.text


@pytest.mark.parametrize("save", [unavailable, broken])
@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_chat_completion_that_cannot_be_kept_has_failed(save: Any, waits: bool, mode: str) -> None:
    app = make_app(m=scripted(["one ", "two"], mode))
    spoil(app, save, waits=waits)
    with serving(app) as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json=chat_body(stream=True, store=True), timeout=TIMEOUT)
    *chunks, last = events_of(answer.text)
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "one two"
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in chunks)
    assert last["error"]["type"] == "server_error" and "[DONE]" not in answer.text and "s3cret" not in answer.text


@pytest.mark.parametrize(("save", "status"), [(unavailable, 503), (broken, 500)])
def test_whole_answer_that_cannot_be_kept_is_an_error(save: Any, status: int) -> None:
    app = make_app(m=returning("x"))
    spoil(app, save)
    for path, body in (("responses", response_body()), ("chat/completions", chat_body(store=True))):
        answer = post(app, f"/v1/{path}", body)
        assert answer.status_code == status and answer.json["error"]["type"] == "server_error"
    assert post(app, "/v1/responses", response_body(store=False)).status_code == 200
    assert post(app, "/v1/chat/completions", chat_body()).status_code == 200


def test_failure_is_told_even_if_it_cannot_be_kept() -> None:
    app = make_app(m=scripted(["half", Raise(ValueError("why"))]))
    spoil(app, unavailable)
    with serving(app) as url:
        answer = httpx.post(f"{url}/v1/responses", json=response_body(stream=True), timeout=TIMEOUT)
    assert [event["type"] for event in events_of(answer.text)[-2:]] == ["response.failed", "error"]


@pytest.mark.parametrize("mode", MODES)
def test_slow_store_holds_up_its_own_streams_alone(mode: str) -> None:
    app = make_app(m=scripted(["one"], mode))
    go, inside = threading.Event(), threading.Event()

    def save(records: list[Record], **kwargs: Any) -> None:
        inside.set()
        assert go.wait(TIMEOUT)

    spoil(app, save)
    with serving(app, threads=1) as url:
        with httpx.stream("POST", f"{url}/v1/responses", json=response_body(stream=True), timeout=TIMEOUT) as slow:
            assert inside.wait(TIMEOUT)
            for _ in range(3):
                body = response_body(stream=True, store=False)
                assert "response.completed" in httpx.post(f"{url}/v1/responses", json=body, timeout=TIMEOUT).text
            go.set()
            assert "response.completed" in "".join(slow.iter_text())


def test_client_that_leaves_while_its_answer_is_kept() -> None:
    app = make_app(m=scripted(["one"]))
    go, inside, saved = threading.Event(), threading.Event(), threading.Event()

    def save(records: list[Record], **kwargs: Any) -> None:
        inside.set()
        assert go.wait(TIMEOUT)
        saved.set()

    spoil(app, save)
    with serving(app) as url:
        with httpx.stream("POST", f"{url}/v1/responses", json=response_body(stream=True), timeout=TIMEOUT):
            assert inside.wait(TIMEOUT)
        time.sleep(0)
        go.set()
        assert saved.wait(TIMEOUT)
        admission = app.extensions["flaskcompat"].admission
        assert eventually(lambda: admission.active == 0)


@pytest.mark.parametrize("path", ["/v1/responses/resp_1", "/responses/resp_1", "/v1/conversations/conv_1/items"])
def test_store_that_cannot_be_read_is_told(path: str) -> None:
    app = make_app(m=returning("x"))
    app.extensions["flaskcompat"].stores.responses._records.get = unavailable
    answer = app.test_client().get(path)
    assert answer.status_code == 503 and answer.headers["Retry-After"] == "1"
    assert answer.json is not None and answer.json["error"]["code"] == "storage_unavailable"


@pytest.mark.parametrize(
    ("query", "param"),
    [("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"), ("limit=²", "limit"),
     ("limit=1" + "0" * 50, "limit"), ("order=up", "order"), ("after=nothing", "after"), ("after=%00", "after")],
)  # fmt: skip
def test_page_that_cannot_be_had(query: str, param: str) -> None:
    app = make_app(m=returning("x"))
    id = post(app, "/v1/responses", response_body()).json["id"]
    answer = app.test_client().get(f"/v1/responses/{id}/input_items?{query}")
    assert answer.status_code == 400 and answer.json is not None and answer.json["error"]["param"] == param


def test_host_s_users_are_told_apart() -> None:
    users: dict[str, Any] = {
        "a": SimpleNamespace(id=1, name="same"),
        "b": SimpleNamespace(id=2, name="same"),
        "c": SimpleNamespace(name="same"),
        "d": "same",
        "e": True,
        "f": SimpleNamespace(),
        "g": SimpleNamespace(id=UUID(int=1), name="same"),
        "h": SimpleNamespace(id=UUID(int=2), name="same"),
        "i": SimpleNamespace(id=object(), name="same"),
    }
    app = Flask("host")
    compat = FlaskCompat(app, authenticate=lambda request: users.get(request.headers.get("x-user", "")))
    compat.registry.add("m", returning("x"))
    client = app.test_client()
    made = {
        user: client.post("/v1/responses", json=response_body(), headers={"x-user": user}).get_json()["id"]
        for user in users
    }
    for user in users:
        for other, id in made.items():
            # A text and an object may be the same user of the host's; who cannot be told apart sees nothing.
            sees = user not in ("e", "f", "i") and (user == other or {user, other} == {"c", "d"})
            status = client.get(f"/v1/responses/{id}", headers={"x-user": user}).status_code
            assert status == (200 if sees else 404), (user, other)


def test_answer_whose_id_is_the_wrapper_s_own(caplog: Any) -> None:
    answer = {"id": "resp_mine", "object": "response", "output": [{"type": "message", "content": []}]}
    app = make_app(m=returning(answer), odd=returning({**answer, "id": "a/../b"}))
    for _ in range(2):
        assert post(app, "/v1/responses", response_body()).json["id"] == "resp_mine"
    assert app.test_client().get("/v1/responses/resp_mine").status_code == 200
    assert post(app, "/v1/responses", response_body(model="odd")).status_code == 200
    assert "is not kept" in caplog.text
    again = post(app, "/v1/responses", response_body(previous_response_id="resp_mine"))
    assert again.status_code == 200
    assert json.loads(again.get_data())["previous_response_id"] == "resp_mine"


@pytest.mark.parametrize("mode", MODES)
def test_what_was_streamed_is_kept_as_it_was_told(mode: str) -> None:
    answer = {"id": "resp_mine", "object": "response", "output": [{"type": "message", "content": [], "id": "msg_mine"}]}
    app = make_app(m=scripted([answer], mode))
    with serving(app) as url:
        text = httpx.post(f"{url}/v1/responses", json=response_body(stream=True), timeout=TIMEOUT).text
        last = events_of(text)[-1]["response"]
        assert last["id"] == events_of(text)[0]["response"]["id"]
        assert httpx.get(f"{url}/v1/responses/{last['id']}").json() == last


def test_response_that_has_not_ended_is_not_continued() -> None:
    app = make_app(m=returning("x"))
    store = app.extensions["flaskcompat"].stores.responses
    response = post(app, "/v1/responses", response_body()).json | {"id": "resp_running", "status": "in_progress"}
    store.begin("", response, [], Context(), "worker", [])
    answer = post(app, "/v1/responses", response_body(previous_response_id="resp_running"))
    assert answer.status_code == 400 and answer.json["error"]["param"] == "previous_response_id"


def test_response_of_a_conversation_is_continued_by_that() -> None:
    app = make_app(m=returning("x"))
    conversation = post(app, "/v1/conversations", {}).json["id"]
    id = post(app, "/v1/responses", response_body(conversation=conversation)).json["id"]
    answer = post(app, "/v1/responses", response_body(previous_response_id=id))
    assert answer.status_code == 400 and "conversation" in answer.json["error"]["message"]


def test_too_many_that_wait_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app(m=returning("x"))
    monkeypatch.setattr("flaskcompat.runtime.background.MOST_WAITING", 0)
    answer = post(app, "/v1/responses", response_body(background=True))
    assert answer.status_code == 429 and answer.headers["Retry-After"] == "1"


def test_head_of_a_log_has_no_body() -> None:
    app = make_app(m=returning("x"))
    with serving(app) as url:
        id = httpx.post(f"{url}/v1/responses", json=response_body(background=True), timeout=TIMEOUT).json()["id"]
        assert eventually(lambda: httpx.get(f"{url}/v1/responses/{id}").json()["status"] == "completed")
        head = httpx.head(f"{url}/v1/responses/{id}?stream=true", timeout=TIMEOUT)
        assert head.status_code == 200 and head.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("path", ["files?purpose=%00", "chat/completions?model=%00"])
def test_filter_that_no_database_takes(path: str) -> None:
    answer = make_app(m=returning("x")).test_client().get(f"/v1/{path}")
    assert answer.status_code == 400
