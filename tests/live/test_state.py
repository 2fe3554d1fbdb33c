"""What clients come back to, by the official client, on each kind of store."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from flask import Flask
from haystack.dataclasses import StreamingChunk, ToolCallDelta
from openai import OpenAI
from openai.types import FileObject
from openai.types.chat import ChatCompletion
from openai.types.conversations import Conversation, ConversationItem
from openai.types.responses import Response, ResponseItem
from pydantic import TypeAdapter

from flaskcompat import BasePipelineWrapper, FlaskCompat, get_file

from ..support import TIMEOUT, Raise, eventually, scripted, serving

ITEM: TypeAdapter[Any] = TypeAdapter(ResponseItem)
CONVERSATION_ITEM: TypeAdapter[Any] = TypeAdapter(ConversationItem)
#: For what needs the content of files.
KEPT = pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
KEYS = "alice=sk-alice, bob=sk-bob"


class Echo(BasePipelineWrapper):
    """Says what it was given, as JSON, in pieces."""

    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Iterator[str]:
        yield from json.dumps(messages)

    def run_response(self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]) -> Iterator[str]:
        yield from json.dumps(input_items)


class Loop(BasePipelineWrapper):
    """Asks for the client's tool, then answers from its result."""

    async def run_response_async(self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        for item in input_items:
            if item.get("type") == "function_call_output":
                yield f"{item['output']} for {input_items[0]['content']}"
                return
        yield StreamingChunk("", index=0, tool_calls=[ToolCallDelta(0, "weather", "{}", id="call_1")])
        yield StreamingChunk("", finish_reason="tool_calls")


class Reader(BasePipelineWrapper):
    """Reads a file that the input names."""

    def run_response(self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]) -> str:
        file = get_file(input_items[-1]["content"])
        return f"{file.filename}: {file.text()}"


def make_app(settings: dict[str, Any]) -> Flask:
    app = Flask("host")
    app.config.update({"FLASKCOMPAT_API_KEYS": KEYS, **settings})
    registry = FlaskCompat(app).registry
    registry.add("echo", Echo())
    registry.add("loop", Loop())
    registry.add("reader", Reader())
    registry.add("half", scripted(["half", Raise(ValueError("s3cret"))]))
    registry.add("cut", scripted(["cut", StreamingChunk("", finish_reason="length")]))
    return app


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    settings: dict[str, Any] = {}
    if request.param != "memory":
        database = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
        settings = {"FLASKCOMPAT_DATABASE_URL": database, "FLASKCOMPAT_FILES_URL": (tmp_path / "files").as_uri()}
    app = make_app(settings)
    with serving(app) as served:
        yield served
    app.extensions["flaskcompat"].stores.close()


def client_of(url: str, key: str = "sk-alice") -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


@pytest.fixture
def client(url: str) -> Iterator[OpenAI]:
    with client_of(url) as made:
        yield made


@pytest.fixture
def bob(url: str) -> Iterator[OpenAI]:
    with client_of(url, "sk-bob") as made:
        yield made


def raw(client: OpenAI, path: str) -> Any:
    answer = httpx.get(f"{client.base_url}{path}", headers={"Authorization": f"Bearer {client.api_key}"})
    assert answer.status_code == 200, answer.text
    return answer.json()


# -- responses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_response_is_there_when_its_end_is_seen(client: OpenAI, stream: bool) -> None:
    asked: Any = {"model": "echo", "input": "hello", "metadata": {"k": "v"}}
    if stream:
        last = list(client.responses.create(**asked, stream=True))[-1]
        assert last.type == "response.completed"
        made: Response = last.response
    else:
        made = client.responses.create(**asked)
    kept = raw(client, f"responses/{made.id}")
    assert (
        Response.model_validate(kept, strict=True).to_dict()
        == made.to_dict()
        == client.responses.retrieve(made.id).to_dict()
    )
    assert kept["metadata"] == {"k": "v"} and kept["status"] == "completed"
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.delete(made.id)


@pytest.mark.parametrize("stream", [False, True])
def test_chain_hands_over_all_that_was_said(client: OpenAI, stream: bool) -> None:
    previous = None
    for word in ("one", "two", "three"):
        made = client.responses.create(model="echo", input=word, previous_response_id=previous, stream=False)
        previous = made.id
    if stream:
        with client.responses.stream(model="echo", input="four", previous_response_id=previous) as events:
            last: Response = events.get_final_response()
    else:
        last = client.responses.create(model="echo", input="four", previous_response_id=previous)
    assert last.previous_response_id == previous
    given = json.loads(last.output_text)
    assert [item["role"] for item in given] == ["user", "assistant"] * 3 + ["user"]
    assert [item["content"] for item in given[::2]] == ["one", "two", "three", "four"]
    assert json.loads(given[3]["content"][0]["text"])[0]["content"] == "one"


def test_tool_loop_sends_the_output_alone(client: OpenAI) -> None:
    first = client.responses.create(model="loop", input="Rome")
    call = first.output[0]
    assert call.type == "function_call"
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    second = client.responses.create(model="loop", input=[output], previous_response_id=first.id)
    assert second.output_text == "sunny for Rome"


def test_chain_without_one_of_its_links_is_refused(client: OpenAI) -> None:
    first = client.responses.create(model="echo", input="one")
    second = client.responses.create(model="echo", input="two", previous_response_id=first.id)
    client.responses.delete(first.id)
    for previous in (first.id, second.id, "resp_unknown", "../x\0", "x" * 200):
        with pytest.raises(openai.BadRequestError) as caught:
            client.responses.create(model="echo", input="three", previous_response_id=previous)
        assert caught.value.code == "previous_response_not_found" and caught.value.param == "previous_response_id"


def test_what_is_not_stored_is_not_there(client: OpenAI) -> None:
    made = client.responses.create(model="echo", input="one", store=False)
    assert made.store is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model="echo", input="two", previous_response_id=made.id)


def test_failed_and_incomplete_responses_are_kept(client: OpenAI) -> None:
    with client.responses.create(model="half", input="x", stream=True) as events:
        failed = next(event.response for event in events if event.type == "response.failed")
    kept = client.responses.retrieve(failed.id)
    assert (kept.status, kept.output_text) == ("failed", "half") and kept.error is not None
    cut = client.responses.create(model="cut", input="x")
    assert client.responses.retrieve(cut.id).incomplete_details == cut.incomplete_details


def test_input_items(client: OpenAI) -> None:
    given: Any = [
        {"role": "user", "content": "one"},
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "two"}, {"type": "input_image", "image_url": "http://x"}],
        },
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "done"},
        {"role": "assistant", "content": "three"},
    ]
    made = client.responses.create(model="echo", input=given)
    listed = raw(client, f"responses/{made.id}/input_items?limit=100&order=asc")["data"]
    for item in listed:
        ITEM.validate_python(item, strict=True)
    assert len({item["id"] for item in listed}) == 5
    assert listed[0]["content"] == [{"type": "input_text", "text": "one"}] and listed[2]["status"] == "completed"
    paged = list(client.responses.input_items.list(made.id, limit=2))
    assert [item.id for item in paged] == [item["id"] for item in listed][::-1]
    with pytest.raises(openai.BadRequestError):
        client.responses.input_items.list(made.id, after="nothing")
    with pytest.raises(openai.NotFoundError):
        client.responses.input_items.list("resp_unknown")


def test_response_that_runs_in_front_cannot_be_cancelled(client: OpenAI) -> None:
    made = client.responses.create(model="echo", input="x")
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.cancel("resp_unknown")


# -- conversations -------------------------------------------------------------------------------------------


def test_conversation(client: OpenAI) -> None:
    made = client.conversations.create(
        items=[{"type": "message", "role": "system", "content": "Be brief."}], metadata={"topic": "x"}
    )
    Conversation.model_validate(raw(client, f"conversations/{made.id}"), strict=True)
    first = client.responses.create(model="echo", input="one", conversation=made.id)
    assert first.conversation is not None and first.conversation.id == made.id
    with client.responses.stream(model="echo", input="two", conversation={"id": made.id}) as events:
        second: Response = events.get_final_response()
    given = json.loads(second.output_text)
    assert [item["role"] for item in given] == ["system", "user", "assistant", "user"]
    items = raw(client, f"conversations/{made.id}/items?order=asc")["data"]
    for item in items:
        CONVERSATION_ITEM.validate_python(item, strict=True)
    assert [item["role"] for item in items] == ["system", "user", "assistant", "user", "assistant"]
    assert [item.id for item in client.conversations.items.list(made.id, limit=2)] == [item["id"] for item in items][
        ::-1
    ]
    item = client.conversations.items.retrieve(items[1]["id"], conversation_id=made.id)
    assert item.to_dict() == items[1]
    assert client.conversations.items.delete(items[1]["id"], conversation_id=made.id).id == made.id
    with pytest.raises(openai.NotFoundError):
        client.conversations.items.retrieve(items[1]["id"], conversation_id=made.id)
    added = client.conversations.items.create(made.id, items=[{"role": "user", "content": "three"}])
    assert len(added.data) == 1 and added.data[0].id == client.conversations.items.list(made.id).data[0].id
    assert client.conversations.update(made.id, metadata={"topic": "y"}).metadata == {"topic": "y"}
    assert client.conversations.retrieve(made.id).metadata == {"topic": "y"}
    gone = client.conversations.delete(made.id)
    assert (gone.id, gone.deleted, gone.object) == (made.id, True, "conversation.deleted")
    for call in (client.conversations.retrieve, client.conversations.items.list, client.conversations.delete):
        with pytest.raises(openai.NotFoundError):
            call(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="echo", input="x", conversation=made.id)
    assert client.responses.retrieve(first.id).id == first.id


def test_empty_conversation(client: OpenAI) -> None:
    made = client.conversations.create()
    assert made.metadata == {} and client.conversations.items.list(made.id).data == []
    assert json.loads(client.responses.create(model="echo", input="x", conversation=made.id).output_text) != []


def test_conversation_and_previous_response_are_not_taken_together(client: OpenAI) -> None:
    made = client.conversations.create()
    first = client.responses.create(model="echo", input="x")
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model="echo", input="x", conversation=made.id, previous_response_id=first.id)


# -- chat completions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_stored_chat_completion(client: OpenAI, stream: bool) -> None:
    body: Any = {
        "model": "echo",
        "messages": [{"role": "user", "content": "hi"}],
        "store": True,
        "metadata": {"a": "b"},
    }
    if stream:
        id = [chunk.id for chunk in client.chat.completions.create(**body, stream=True)][0]
    else:
        id = client.chat.completions.create(**body).id
    kept = raw(client, f"chat/completions/{id}")
    ChatCompletion.model_validate(kept, strict=True)
    assert json.loads(kept["choices"][0]["message"]["content"]) == body["messages"] and kept["metadata"] == {"a": "b"}
    messages = client.chat.completions.messages.list(id).data
    assert [(message.role, message.content) for message in messages] == [("user", "hi")]
    changed = client.chat.completions.update(id, metadata={"c": "d"})
    assert changed.id == id and raw(client, f"chat/completions/{id}")["metadata"] == {"c": "d"}
    gone = client.chat.completions.delete(id)
    assert (gone.id, gone.deleted, gone.object) == (id, True, "chat.completion.deleted")
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(id)


def test_list_of_chat_completions(client: OpenAI, bob: OpenAI) -> None:
    made = [
        client.chat.completions.create(
            model=("echo", "cut")[number % 2],
            messages=[{"role": "user", "content": "hi"}],
            store=True,
            metadata={"number": str(number), "all": "yes"},
        ).id
        for number in range(6)
    ]
    client.chat.completions.create(model="echo", messages=[{"role": "user", "content": "hi"}])
    assert [entry.id for entry in client.chat.completions.list(limit=4)] == made
    assert [entry.id for entry in client.chat.completions.list(order="desc", limit=4)] == made[::-1]
    assert [entry.id for entry in client.chat.completions.list(model="cut", limit=2)] == made[1::2]
    assert [entry.id for entry in client.chat.completions.list(metadata={"number": "3"}, limit=1)] == [made[3]]
    assert [entry.id for entry in client.chat.completions.list(metadata={"all": "yes"}, limit=1)] == made
    assert list(bob.chat.completions.list()) == []


# -- files ---------------------------------------------------------------------------------------------------


def test_files(client: OpenAI, url: str, request: pytest.FixtureRequest) -> None:
    content = bytes(range(256)) * 1000
    made = [client.files.create(file=(f"{n}.bin", content), purpose=("user_data", "batch")[n % 2]) for n in range(3)]
    FileObject.model_validate(raw(client, f"files/{made[0].id}"), strict=True)
    assert client.files.retrieve(made[0].id) == made[0]
    assert [file.id for file in client.files.list(limit=2)] == [file.id for file in made][::-1]
    assert [file.id for file in client.files.list(purpose="batch")] == [made[1].id]
    assert [file.id for file in client.files.list(order="asc", limit=1)] == [file.id for file in made]
    if "memory" in request.node.callspec.id:
        with pytest.raises(openai.NotFoundError, match="FLASKCOMPAT_FILES_URL"):
            client.files.content(made[0].id)
    else:
        assert client.files.content(made[0].id).read() == content
    gone = client.files.delete(made[0].id)
    assert (gone.id, gone.deleted, gone.object) == (made[0].id, True, "file")
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError):
            call(made[0].id)


def test_file_that_expires(client: OpenAI) -> None:
    made = client.files.create(file=b"x", purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600})
    assert made.expires_at == made.created_at + 3600
    for wrong in ({"anchor": "created_at", "seconds": 1}, {"anchor": "x", "seconds": 3600}, {"anchor": "created_at"}):
        with pytest.raises(openai.BadRequestError):
            client.files.create(file=b"x", purpose="user_data", expires_after=wrong)  # type: ignore[arg-type]


@KEPT
def test_parts_of_a_file(client: OpenAI) -> None:
    content = bytes(range(256)) * 5000
    made = client.files.create(file=("a.html", content, "text/html"), purpose="user_data")
    where = f"{client.base_url}files/{made.id}/content"
    key = {"Authorization": f"Bearer {client.api_key}"}
    whole = httpx.get(where, headers=key)
    assert whole.content == content and whole.headers["content-length"] == str(len(content))
    assert whole.headers["etag"].strip('"') == hashlib.sha256(content).hexdigest()
    assert whole.headers["content-type"] == "application/octet-stream"
    assert whole.headers["content-disposition"] == "attachment"
    for asked, part in (
        ("bytes=10-19", content[10:20]),
        ("bytes=-7", content[-7:]),
        ("bytes=300000-", content[300000:]),
    ):
        answer = httpx.get(where, headers={**key, "Range": asked})
        assert answer.status_code == 206 and answer.content == part, asked
        assert answer.headers["content-range"].endswith(f"/{len(content)}")
    assert httpx.get(where, headers={**key, "Range": "bytes=9999999-"}).status_code == 416
    assert httpx.get(where, headers={**key, "If-None-Match": whole.headers["etag"]}).status_code == 304
    assert httpx.head(where, headers=key).headers["content-length"] == str(len(content))


@KEPT
def test_wrapper_reads_a_file_of_its_client_alone(client: OpenAI, bob: OpenAI) -> None:
    made = client.files.create(file=("a.txt", "grüße".encode()), purpose="user_data")
    assert client.responses.create(model="reader", input=made.id).output_text == "a.txt: grüße"
    with pytest.raises(openai.NotFoundError):
        bob.responses.create(model="reader", input=made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="reader", input="file-unknown")


# -- whose it is ---------------------------------------------------------------------------------------------


def test_nobody_sees_what_is_another_s(client: OpenAI, bob: OpenAI) -> None:
    response = client.responses.create(model="echo", input="x")
    conversation = client.conversations.create(items=[{"role": "user", "content": "x"}])
    item = client.conversations.items.list(conversation.id).data[0].id
    assert item is not None
    completion = client.chat.completions.create(model="echo", messages=[{"role": "user", "content": "x"}], store=True)
    file = client.files.create(file=b"x", purpose="user_data")
    unknown: list[tuple[Any, ...]] = []
    for call, id, *more in (
        (bob.responses.retrieve, response.id),
        (bob.responses.delete, response.id),
        (bob.responses.cancel, response.id),
        (bob.responses.input_items.list, response.id),
        (bob.conversations.retrieve, conversation.id),
        (bob.conversations.delete, conversation.id),
        (bob.conversations.items.list, conversation.id),
        (bob.chat.completions.retrieve, completion.id),
        (bob.chat.completions.delete, completion.id),
        (bob.chat.completions.messages.list, completion.id),
        (bob.files.retrieve, file.id),
        (bob.files.content, file.id),
        (bob.files.delete, file.id),
    ):
        for tried in (id, id[:-1] + ("0" if id[-1] != "0" else "1")):
            with pytest.raises(openai.NotFoundError) as caught:
                call(tried, *more)  # type: ignore[operator]
            unknown.append((call, caught.value.code, caught.value.message))
        assert unknown[-1] == unknown[-2]
    with pytest.raises(openai.BadRequestError):
        bob.responses.create(model="echo", input="x", previous_response_id=response.id)
    with pytest.raises(openai.NotFoundError):
        bob.responses.create(model="echo", input="x", conversation=conversation.id)
    with pytest.raises(openai.NotFoundError):
        bob.conversations.items.retrieve(item, conversation_id=conversation.id)
    with pytest.raises(openai.NotFoundError):
        bob.conversations.items.create(conversation.id, items=[{"role": "user", "content": "x"}])
    assert list(bob.files.list()) == []
    assert client.files.retrieve(file.id).id == file.id
    assert client.responses.retrieve(response.id).id == response.id


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("left", ["the client leaves", "the form is broken", "no purpose"])
def test_upload_that_is_not_finished_leaves_nothing(client: OpenAI, url: str, tmp_path: Path, left: str) -> None:
    head = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
    ends = {"the client leaves": b"", "the form is broken": b"\r\n--edg", "no purpose": b"\r\n--edge--\r\n"}
    body = head + b"x" * 3_000_000 + ends[left]
    length = len(body) + (1000 if left == "the client leaves" else 0)
    parts = httpx.URL(url)
    with socket.create_connection((parts.host, parts.port), timeout=TIMEOUT) as connection:
        connection.sendall(
            b"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-alice\r\nContent-Length: %d\r\n"
            b"Content-Type: multipart/form-data; boundary=edge\r\nConnection: close\r\n\r\n" % length + body
        )
        if left != "the client leaves":
            assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert list(client.files.list()) == []
    assert eventually(lambda: not [path for path in (tmp_path / "files").rglob("*") if path.is_file()])


def test_second_file_of_a_form_is_not_kept(client: OpenAI, tmp_path: Path) -> None:
    files = [("file", ("a.txt", b"first")), ("file", ("b.txt", b"second")), ("other", ("c.txt", b"third"))]
    key = {"Authorization": f"Bearer {client.api_key}"}
    made = httpx.post(f"{client.base_url}files", files=files, data={"purpose": "user_data"}, headers=key).json()
    assert made["filename"] == "a.txt" and [file.id for file in client.files.list()] == [made["id"]]
    assert len([path for path in (tmp_path / "files").rglob("*") if path.is_file()]) <= 1
