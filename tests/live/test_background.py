"""Responses in the background: made while nobody waits, left and picked up again, cancelled, lost."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from flask import Flask
from haystack.dataclasses import ReasoningContent, StreamingChunk
from openai import OpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from flaskcompat import BasePipelineWrapper, FlaskCompat
from flaskcompat.stores import responses as responses_module
from flaskcompat.stores.responses import Context

from ..support import TIMEOUT, Raise, eventually, frames, response_body, scripted, serving

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
KEYS = "alice=sk-alice, bob=sk-bob"


class Steps(BasePipelineWrapper):
    """Says a word for each step that it is let go, up to twenty."""

    def __init__(self) -> None:
        self.steps = threading.Semaphore(0)
        self.closed = threading.Event()
        self.seen: list[Any] = []

    def run_response(self, model: str, input_items: Any, body: Any, principal: Any, headers: Any) -> Iterator[Any]:
        self.seen.append((input_items, principal.name, headers["x-test"]))
        try:
            for number in range(20):
                assert self.steps.acquire(timeout=TIMEOUT)
                yield f"{number} "
                if number == 4:
                    yield StreamingChunk("", index=0, reasoning=ReasoningContent("hm"))
        finally:
            self.closed.set()

    def go(self, count: int = 20) -> None:
        self.steps.release(count)


class AsyncSteps(Steps):
    """The same on the loop, silent until it is let go."""

    run_response = BasePipelineWrapper.run_response  # type: ignore[assignment]

    async def run_response_async(self, model: str, input_items: Any, body: Any) -> Any:
        import asyncio

        try:
            while not self.steps.acquire(blocking=False):
                await asyncio.sleep(0.005)
            yield "done"
        finally:
            self.closed.set()


def make_app(settings: dict[str, Any], **wrappers: BasePipelineWrapper) -> Flask:
    app = Flask("host")
    app.config.update({"FLASKCOMPAT_API_KEYS": KEYS, **settings})
    compat = FlaskCompat(app)
    for name, wrapper in wrappers.items():
        compat.registry.add(name, wrapper)
    return app


class Site:
    """A server on a store, and more on the same one."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.steps, self.slow = Steps(), AsyncSteps()
        self.apps: list[Flask] = []

    def app(self) -> Flask:
        app = make_app(
            self.settings,
            steps=self.steps,
            slow=self.slow,
            two=scripted(["one ", "two"]),
            broken=scripted(["half", Raise(ValueError("s3cret"))]),
            failing=scripted([Raise(ValueError("s3cret"))]),
        )
        self.apps.append(app)
        return app

    def close(self) -> None:
        self.steps.go(1000)
        self.slow.go(1000)
        for app in self.apps:
            state = app.extensions["flaskcompat"]
            assert eventually(lambda state=state: not state.background._jobs and not state.followers._runs)
            state.stores.close()


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    settings: dict[str, Any] = {}
    if request.param != "memory":
        database = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
        settings = {"FLASKCOMPAT_DATABASE_URL": database}
    made = Site(settings)
    yield made
    made.close()


#: For what needs a store that several processes share.
SHARED = pytest.mark.parametrize("site", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def url(site: Site) -> Iterator[str]:
    with serving(site.app()) as served:
        yield served


def client_of(url: str, key: str = "sk-alice") -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, default_headers={"X-Test": "x"}, timeout=TIMEOUT)


@pytest.fixture
def client(url: str) -> Iterator[OpenAI]:
    with client_of(url) as made:
        yield made


def ended(client: OpenAI, id: str) -> Response:
    """The response *id* once it has ended."""
    assert eventually(lambda: client.responses.retrieve(id).status not in ("queued", "in_progress"))
    return client.responses.retrieve(id)


def numbers(events: list[Any]) -> list[int]:
    return [event.sequence_number for event in events]


def test_answer_comes_later(site: Site, client: OpenAI) -> None:
    made = client.responses.create(model="steps", input="go", background=True, metadata={"k": "v"})
    assert (made.status, made.background, made.output, made.metadata) == ("queued", True, [], {"k": "v"})
    assert eventually(lambda: client.responses.retrieve(made.id).status == "in_progress")
    site.steps.go(6)  # past the thought
    assert eventually(lambda: client.responses.retrieve(made.id).output_text == "0 1 2 3 4 ")
    site.steps.go()
    last = ended(client, made.id)
    assert last.status == "completed" and last.output_text.endswith("18 19 ") and last.id == made.id
    assert [item.type for item in last.output] == ["message", "reasoning", "message"]
    assert site.steps.seen == [([{"type": "message", "role": "user", "content": "go"}], "alice", "x")]
    raw = httpx.get(f"{client.base_url}responses/{made.id}", headers={"Authorization": "Bearer sk-alice"}).json()
    Response.model_validate(raw, strict=True)
    assert client.responses.input_items.list(made.id).data[0].id
    again = client.responses.create(model="two", input="x", previous_response_id=made.id)
    assert again.output_text == "one two"


def test_stream_that_is_left_and_picked_up_again(site: Site, client: OpenAI) -> None:
    seen: list[Any] = []
    stream = client.responses.create(model="steps", input="go", background=True, stream=True)
    site.steps.go(3)
    for event in stream:
        seen.append(event)
        if event.type == "response.output_text.delta" and event.delta == "2 ":
            break
    stream.close()
    id = seen[0].response.id
    assert [event.type for event in seen[:3]] == ["response.created", "response.queued", "response.in_progress"]
    assert [event.response.status for event in seen[:3]] == ["queued", "queued", "in_progress"]
    site.steps.go(8)
    for event in client.responses.retrieve(id, stream=True, starting_after=seen[-1].sequence_number):
        seen.append(event)
        if event.type == "response.output_text.delta" and event.delta == "9 ":
            break
    site.steps.go()
    seen += client.responses.retrieve(id, stream=True, starting_after=seen[-1].sequence_number)
    assert numbers(seen) == list(range(len(seen)))
    assert seen[-1].type == "response.completed" and seen[-1].response.status == "completed"
    assert "".join(e.delta for e in seen if e.type == "response.output_text.delta") == "".join(
        f"{n} " for n in range(20)
    )
    whole = list(client.responses.retrieve(id, stream=True))
    assert [event.to_dict() for event in whole] == [event.to_dict() for event in seen]
    assert list(client.responses.retrieve(id, stream=True, starting_after=len(seen) - 1)) == []
    assert client.responses.retrieve(id).to_dict() == seen[-1].response.to_dict()


def test_every_event_fits_its_type(site: Site, client: OpenAI) -> None:
    site.steps.go()
    body = response_body("steps", stream=True, background=True)
    headers = {"Authorization": "Bearer sk-alice", "X-Test": "x"}
    text = httpx.post(f"{client.base_url}responses", json=body, headers=headers, timeout=TIMEOUT).text
    for name, event in frames(text)[:-1]:
        assert name == event["type"]
        EVENT.validate_python(event, strict=True)
    assert frames(text)[-1] == (None, "[DONE]")


@pytest.mark.parametrize("model", ["steps", "slow"])
def test_cancelled_stays_cancelled(site: Site, client: OpenAI, model: str) -> None:
    wrapper = getattr(site, model)
    stream = iter(client.responses.create(model=model, input="go", background=True, stream=True))
    seen = [next(stream) for _ in range(3)]
    id = seen[0].response.id
    cancelled = client.responses.cancel(id)
    assert (cancelled.status, cancelled.id) == ("cancelled", id)
    seen += stream
    assert (seen[-1].type, seen[-1].response.status) == ("response.incomplete", "cancelled")
    assert numbers(seen) == list(range(len(seen)))
    wrapper.go(1)
    assert wrapper.closed.wait(TIMEOUT)
    assert client.responses.cancel(id).status == client.responses.retrieve(id).status == "cancelled"
    assert [event.to_dict() for event in client.responses.retrieve(id, stream=True)] == [e.to_dict() for e in seen]


def test_what_has_ended_cannot_be_cancelled_any_more(client: OpenAI) -> None:
    made = client.responses.create(model="two", input="x", background=True)
    assert ended(client, made.id).output_text == "one two"
    assert client.responses.cancel(made.id).status == "completed"
    front = client.responses.create(model="two", input="x")
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(front.id)
    with pytest.raises(openai.BadRequestError):
        client.responses.retrieve(front.id, stream=True)
    with pytest.raises(openai.NotFoundError):
        client.responses.cancel("resp_unknown")


@pytest.mark.parametrize(("model", "text"), [("broken", "half"), ("failing", "")])
def test_failure_is_told_and_kept(client: OpenAI, model: str, text: str) -> None:
    made = client.responses.create(model=model, input="x", background=True)
    failed = ended(client, made.id)
    assert failed.status == "failed" and failed.error is not None and failed.output_text == text
    assert "s3cret" not in failed.to_json()
    with pytest.raises(openai.APIError):
        list(client.responses.create(model=model, input="x", background=True, stream=True))


def test_deleted_while_it_is_made(site: Site, client: OpenAI) -> None:
    stream = iter(client.responses.create(model="steps", input="go", background=True, stream=True))
    id = next(stream).response.id  # type: ignore[union-attr]
    client.responses.delete(id)
    site.steps.go()
    list(stream)
    assert site.steps.closed.wait(TIMEOUT)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(id)


def test_conversation_gets_what_was_said(client: OpenAI) -> None:
    conversation = client.conversations.create()
    made = client.responses.create(model="two", input="x", background=True, conversation=conversation.id)
    ended(client, made.id)
    assert eventually(lambda: len(client.conversations.items.list(conversation.id).data) == 2)


@pytest.mark.parametrize(
    ("change", "param"),
    [({"store": False}, "background"), ({"background": "yes"}, "background"), ({"model": "nothing"}, "model")],
)
def test_what_cannot_be_made_in_the_background(client: OpenAI, change: dict[str, Any], param: str) -> None:
    body: Any = {"model": "two", "input": "x", "background": True, **change}
    with pytest.raises(openai.APIStatusError) as caught:
        client.responses.create(**body)
    assert caught.value.param == param


@pytest.mark.parametrize("after", ["x", "-5", "1" * 30, "²"])
def test_place_to_go_on_from_that_is_none(client: OpenAI, after: str) -> None:
    made = client.responses.create(model="two", input="x", background=True)
    ended(client, made.id)
    query = {"stream": "true", "starting_after": after}
    headers = {"Authorization": "Bearer sk-alice"}
    answer = httpx.get(f"{client.base_url}responses/{made.id}", params=query, headers=headers)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "starting_after"


def test_nobody_else_sees_or_cancels_it(site: Site, client: OpenAI, url: str) -> None:
    made = client.responses.create(model="steps", input="x", background=True)
    with client_of(url, "sk-bob") as bob:
        for call in (bob.responses.retrieve, bob.responses.cancel):
            with pytest.raises(openai.NotFoundError):
                call(made.id)
        with pytest.raises(openai.NotFoundError):
            bob.responses.retrieve(made.id, stream=True)
    assert client.responses.cancel(made.id).status == "cancelled"


def test_more_than_threads_wait_their_turn(site: Site, tmp_path: Path) -> None:
    site.settings["FLASKCOMPAT_MAX_BACKGROUND"] = 1
    with serving(site.app()) as url, client_of(url) as client:
        first = client.responses.create(model="steps", input="x", background=True)
        waiting = [client.responses.create(model="two", input="x", background=True) for _ in range(3)]
        assert eventually(lambda: client.responses.retrieve(first.id).status == "in_progress")
        assert [client.responses.retrieve(made.id).status for made in waiting] == ["queued"] * 3
        assert client.responses.cancel(waiting[1].id).status == "cancelled"
        site.steps.go()
        assert [ended(client, made.id).status for made in (first, *waiting)] == [
            "completed", "completed", "cancelled", "completed",
        ]  # fmt: skip


@SHARED
def test_any_process_tells_cancels_and_streams(site: Site, client: OpenAI) -> None:
    with serving(site.app()) as url, client_of(url) as other:
        stream = iter(client.responses.create(model="steps", input="go", background=True, stream=True))
        seen = [next(stream) for _ in range(3)]
        id = seen[0].response.id
        assert other.responses.retrieve(id).status == "in_progress"
        from_other = iter(other.responses.retrieve(id, stream=True))
        site.steps.go(2)
        there = [next(from_other) for _ in range(6)]
        seen += [next(stream) for _ in range(3)]
        assert [event.to_dict() for event in there] == [event.to_dict() for event in seen]
        assert other.responses.cancel(id).status == "cancelled"
        there += from_other
        seen += stream
        assert [event.to_dict() for event in there] == [event.to_dict() for event in seen]
        assert seen[-1].response.status == "cancelled"  # type: ignore[union-attr]
        site.steps.go()
        assert site.steps.closed.wait(TIMEOUT)


@SHARED
def test_cancelled_elsewhere_while_it_is_silent(site: Site, client: OpenAI) -> None:
    made = client.responses.create(model="slow", input="go", background=True)
    assert eventually(lambda: client.responses.retrieve(made.id).status == "in_progress")
    with serving(site.app()) as url, client_of(url) as other:
        other.responses.cancel(made.id)
        assert site.slow.closed.wait(TIMEOUT)


def test_response_whose_process_has_ended_has_failed(
    site: Site, client: OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = site.apps[0].extensions["flaskcompat"].stores.responses
    response = json.loads(client.responses.create(model="two", input="x").to_json())
    response |= {"id": "resp_lost", "status": "in_progress", "output": []}
    store.begin("key:alice", response, [], Context(), "a process that is no more", ["event: x\ndata: {}\n\n"])
    assert client.responses.retrieve("resp_lost").status == "in_progress"
    monkeypatch.setattr(responses_module, "LOST_AFTER", -1.0)
    failed = client.responses.retrieve("resp_lost")
    assert failed.status == "failed" and failed.error is not None and failed.error.code == "server_error"
    last = frames(
        httpx.get(
            f"{client.base_url}responses/resp_lost?stream=true&starting_after=0",
            headers={"Authorization": "Bearer sk-alice"},
        ).text
    )
    assert [(name, event["sequence_number"]) for name, event in last[:-1]] == [("response.failed", 1), ("error", 2)]


def test_process_that_stops_ends_what_it_makes(site: Site, client: OpenAI) -> None:
    made = client.responses.create(model="slow", input="go", background=True)
    assert eventually(lambda: client.responses.retrieve(made.id).status == "in_progress")
    site.apps[0].extensions["flaskcompat"].admission.stop(0.5)
    assert ended(client, made.id).status == "failed"
    with pytest.raises(openai.InternalServerError):
        client.responses.create(model="two", input="x", background=True)
