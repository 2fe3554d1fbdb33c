"""The official client against a live server, strictly: what it sends is taken, what comes back fits its types."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from haystack.dataclasses import ChatMessage, ReasoningContent, StreamingChunk, ToolCall, ToolCallDelta, ToolCallResult
from openai import AsyncOpenAI, OpenAI
from openai.types import FileObject, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from flaskcompat import APIError, BasePipelineWrapper, Citation, PipelineEvent

from ..support import Raise, chat_body, events_of, make_app, response_body, returning, scripted, serving

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
FLAT_TOOL: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 2}}


def call(index: int, name: str | None, arguments: str | None, id: str | None) -> StreamingChunk:
    return StreamingChunk("", index=0, tool_calls=[ToolCallDelta(index, name, arguments, id=id)])


RICH: list[Any] = [
    StreamingChunk("", index=0, reasoning=ReasoningContent("let me ")),
    StreamingChunk("", index=0, reasoning=ReasoningContent("think")),
    PipelineEvent("status", {"description": "thinking", "done": False}),
    StreamingChunk("It "),
    "is ",
    StreamingChunk("sunny"),
    Citation("http://x", "X"),
    Citation("http://y", "Y"),
    StreamingChunk("", finish_reason="stop"),
    StreamingChunk("", meta={"usage": USAGE}),
]
CALLS: list[Any] = [
    call(0, "weather", '{"city"', "call_a"),
    call(0, None, ': "Rome"}', None),
    call(1, "weather", '{"city": "Bern"}', "call_b"),
    StreamingChunk("", finish_reason="tool_calls"),
]
SERVER_RUN: list[Any] = [
    call(0, "search", "{}", "call_s"),
    StreamingChunk("", finish_reason="tool_calls"),
    StreamingChunk("", index=0, tool_call_result=ToolCallResult("found", ToolCall("search", {}, id="call_s"), False)),
    StreamingChunk("", finish_reason="tool_call_results"),
    StreamingChunk("It is sunny"),
    StreamingChunk("", finish_reason="stop"),
]


class Loop(BasePipelineWrapper):
    """Asks for the client's tool, then answers from its results."""

    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        results = {m["tool_call_id"]: m["content"] for m in messages if m["role"] == "tool"}
        return iter(CALLS) if not results else f"{results['call_a']} and {results['call_b']}"

    def run_response(self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        results = {i["call_id"]: i["output"] for i in input_items if i.get("type") == "function_call_output"}
        return iter(CALLS) if not results else f"{results['call_a']} and {results['call_b']}"


class Echo(BasePipelineWrapper):
    """Says what it was given, as JSON."""

    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> str:
        return json.dumps({"model": model, "messages": messages, "body": body})

    def run_response(self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]) -> str:
        return json.dumps({"model": model, "input_items": input_items, "body": body})


def refuse() -> None:
    raise APIError("Slow down.", status=429, type="rate_limit_error", code="rate_limit_exceeded")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    message = ChatMessage.from_assistant(
        "It is sunny",
        reasoning=ReasoningContent("let me think"),
        meta={"usage": USAGE, "finish_reason": "stop"},
    )
    app = make_app(
        rich=scripted(RICH),
        rich_async=scripted(RICH, "async generator function"),
        message=returning(message),
        calls=scripted(CALLS),
        loop=Loop(),
        echo=Echo(),
        agent=scripted(SERVER_RUN),
        length=scripted(["cut o", StreamingChunk("", finish_reason="length")]),
        filtered=scripted([StreamingChunk("x", finish_reason="content_filter")]),
        refusal=scripted([StreamingChunk("", meta={"refusal": "I would rather not"})]),
        empty=scripted([]),
        broken=scripted(["half", Raise(ValueError("s3cret"))]),
        failing=scripted([Raise(ValueError("s3cret"))]),
        limited=returning(refuse),
        json=returning('{"city": "Rome", "degrees": 21}'),
    )
    with serving(app, threads=32) as base:
        yield base


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{url}/v1", api_key="not-used", max_retries=0) as made:
        yield made


MODELS = ["rich", "rich_async", "message", "calls", "loop", "agent", "length", "filtered", "refusal", "empty"]
sdk_event: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


@pytest.mark.parametrize("model", [*MODELS, "broken"])
def test_every_body_and_event_fits_the_sdk_s_types(url: str, model: str) -> None:
    tools = {"tools": [TOOL]}
    whole = httpx.post(f"{url}/v1/chat/completions", json=chat_body(model, **tools))
    response = httpx.post(f"{url}/v1/responses", json=response_body(model, tools=[FLAT_TOOL]))
    if model != "broken":
        ChatCompletion.model_validate_json(whole.content, strict=True)
        Response.model_validate_json(response.content, strict=True)
    options = {"stream_options": {"include_usage": True}}
    for event in events_of(
        httpx.post(f"{url}/v1/chat/completions", json=chat_body(model, stream=True, **tools, **options)).text
    ):
        if "error" not in event:
            ChatCompletionChunk.model_validate_json(json.dumps(event), strict=True)
            assert not {"message"} & set((event["choices"] or [{}])[0])
    for event in events_of(
        httpx.post(f"{url}/v1/responses", json=response_body(model, stream=True, tools=[FLAT_TOOL])).text
    ):
        if ":" not in event["type"]:
            sdk_event.validate_json(json.dumps(event))


def test_models(client: OpenAI) -> None:
    listed = list(client.models.list())
    assert {"rich", "echo"} <= {model.id for model in listed}
    assert client.models.retrieve("rich") == next(model for model in listed if model.id == "rich")
    assert isinstance(listed[0], Model) and listed[0].object == "model"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("nobody")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize("model", ["rich", "rich_async", "message"])
def test_chat_whole_and_streamed_say_the_same(client: OpenAI, model: str) -> None:
    messages: Any = [{"role": "user", "content": "hi"}]
    whole: Any = client.chat.completions.create(model=model, messages=messages)
    assert whole.choices[0].message.content == "It is sunny"
    assert whole.choices[0].message.reasoning_content == "let me think"
    assert whole.choices[0].finish_reason == "stop"
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens, whole.usage.total_tokens) == (11, 7, 18)
    assert whole.usage.prompt_tokens_details.cached_tokens == 2
    with client.chat.completions.stream(
        model=model, messages=messages, stream_options={"include_usage": True}
    ) as stream:
        kinds = [event.type for event in stream]
        final: Any = stream.get_final_completion()
    assert "content.done" in kinds
    assert final.choices[0].message.role == "assistant"
    assert final.choices[0].message.content == "It is sunny"
    assert final.choices[0].finish_reason == "stop"
    assert final.usage == whole.usage
    assert whole.id.startswith("chatcmpl-") and whole.id != final.id


@pytest.mark.parametrize("model", ["rich", "rich_async", "message"])
def test_responses_whole_and_streamed_say_the_same(client: OpenAI, model: str) -> None:
    whole = client.responses.create(model=model, input="hi")
    assert whole.output_text == "It is sunny" and whole.status == "completed"
    assert [item.type for item in whole.output] == ["reasoning", "message"]
    assert whole.usage is not None and whole.usage.total_tokens == 18
    with client.responses.stream(model=model, input="hi") as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    assert final.output_text == whole.output_text and final.usage == whole.usage
    assert [item.type for item in final.output] == ["reasoning", "message"]
    assert final.id != whole.id and final.id.startswith("resp_")


@pytest.mark.parametrize("streamed", [False, True])
def test_chat_tool_loop_with_parallel_calls(client: OpenAI, streamed: bool) -> None:
    messages: list[Any] = [{"role": "user", "content": "weather?"}]
    arguments: Any = {"model": "loop", "messages": messages, "tools": [TOOL]}
    if streamed:
        with client.chat.completions.stream(**arguments) as stream:
            choice: Any = stream.get_final_completion().choices[0]
    else:
        choice = client.chat.completions.create(**arguments).choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    calls = [(c.id, c.function.name, json.loads(c.function.arguments)) for c in choice.message.tool_calls]
    assert calls == [("call_a", "weather", {"city": "Rome"}), ("call_b", "weather", {"city": "Bern"})]
    messages.append(choice.message.model_dump(exclude_none=True))
    messages += [{"role": "tool", "tool_call_id": id, "content": f"sun in {args['city']}"} for id, _, args in calls]
    answer = client.chat.completions.create(model="loop", messages=messages, tools=[TOOL])  # type: ignore[list-item]
    assert answer.choices[0].message.content == "sun in Rome and sun in Bern"


@pytest.mark.parametrize("streamed", [False, True])
def test_responses_tool_loop_with_parallel_calls(client: OpenAI, streamed: bool) -> None:
    items: list[Any] = [{"role": "user", "content": "weather?"}]
    arguments: Any = {"model": "loop", "input": items, "tools": [FLAT_TOOL]}
    if streamed:
        with client.responses.stream(**arguments) as stream:
            first: Any = stream.get_final_response()
    else:
        first = client.responses.create(**arguments)
    calls = [item for item in first.output if item.type == "function_call"]
    assert [(c.call_id, c.name, json.loads(c.arguments), c.status) for c in calls] == [
        ("call_a", "weather", {"city": "Rome"}, "completed"),
        ("call_b", "weather", {"city": "Bern"}, "completed"),
    ]
    items += [item.model_dump(exclude_none=True) for item in first.output]
    items += [{"type": "function_call_output", "call_id": c.call_id, "output": c.call_id} for c in calls]
    assert client.responses.create(model="loop", input=items, tools=[FLAT_TOOL]).output_text == "call_a and call_b"


def test_tools_that_ran_here_never_reach_the_client(client: OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "hi"}]
    choice = client.chat.completions.create(model="agent", messages=messages, tools=[TOOL]).choices[0]  # type: ignore[list-item]
    assert (choice.message.content, choice.message.tool_calls, choice.finish_reason) == ("It is sunny", None, "stop")
    response = client.responses.create(model="agent", input="hi", tools=[FLAT_TOOL])
    assert [item.type for item in response.output] == ["message"]


def test_length_filter_and_refusal(client: OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "hi"}]
    assert client.chat.completions.create(model="length", messages=messages).choices[0].finish_reason == "length"
    filtered = client.chat.completions.create(model="filtered", messages=messages)
    assert filtered.choices[0].finish_reason == "content_filter"
    response = client.responses.create(model="length", input="hi")
    assert response.status == "incomplete" and response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens" and response.output_text == "cut o"
    refused = client.chat.completions.create(model="refusal", messages=messages).choices[0].message
    assert (refused.refusal, refused.content) == ("I would rather not", None)
    part: Any = client.responses.create(model="refusal", input="hi").output[0].content[0]  # type: ignore[union-attr,index]
    assert (part.type, part.refusal) == ("refusal", "I would rather not")


class City(BaseModel):
    city: str
    degrees: int


def test_parse_helpers(client: OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "hi"}]
    chat = client.chat.completions.parse(model="json", messages=messages, response_format=City)
    assert chat.choices[0].message.parsed == City(city="Rome", degrees=21)
    response = client.responses.parse(model="json", input="hi", text_format=City)
    assert response.output_parsed == City(city="Rome", degrees=21)


def test_request_reaches_the_wrapper_as_it_was_sent(client: OpenAI) -> None:
    parts: Any = [
        {"type": "text", "text": "é😀"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,x"}},
    ]
    messages: Any = [{"role": "user", "content": parts}, {"role": "assistant", "content": None, "tool_calls": []}]
    completion = client.chat.completions.create(
        model="echo", messages=messages, temperature=0.5, metadata={"a": "b"}, extra_body={"foo": {"bar": None}}
    )
    seen = json.loads(completion.choices[0].message.content or "")
    assert seen["model"] == "echo" and seen["messages"] == messages
    body = {"model": "echo", "messages": messages, "temperature": 0.5, "metadata": {"a": "b"}, "foo": {"bar": None}}
    assert seen["body"] == body
    items: Any = [
        {"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "x"},
        {"type": "mystery", "value": 3},
    ]
    seen = json.loads(client.responses.create(model="echo", input=items, instructions="be brief").output_text)
    assert seen["input_items"] == items
    assert seen["body"] == {"model": "echo", "input": items, "instructions": "be brief"}
    seen = json.loads(client.responses.create(model="echo", input="hi").output_text)
    assert seen["input_items"] == [{"type": "message", "role": "user", "content": "hi"}]


def test_echo_of_a_response_s_settings(client: OpenAI) -> None:
    response = client.responses.create(
        model="echo",
        input="hi",
        temperature=0.25,
        top_p=0.5,
        max_output_tokens=99,
        metadata={"a": "b"},
        tools=[FLAT_TOOL, {"type": "web_search"}],
        tool_choice="auto",
        parallel_tool_calls=False,
        reasoning={"effort": "low"},
        store=False,
        truncation="auto",
        user="ann",
        instructions="be brief",
    )
    assert (response.temperature, response.top_p, response.max_output_tokens) == (0.25, 0.5, 99)
    assert (response.metadata, response.user, response.truncation) == ({"a": "b"}, "ann", "auto")
    assert response.instructions == "be brief" and response.parallel_tool_calls is False
    assert [tool.type for tool in response.tools] == ["function", "web_search"]
    assert response.reasoning is not None and response.reasoning.effort == "low"


def test_failure_midway_raises_api_error_not_a_cut(client: OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "hi"}]
    seen = []
    with pytest.raises(openai.APIError) as caught:
        for chunk in client.chat.completions.create(model="broken", messages=messages, stream=True):
            seen.append(chunk)  # noqa: PERF402
    assert not isinstance(caught.value, openai.APIConnectionError) and "s3cret" not in str(caught.value)
    assert [c.choices[0].delta.content for c in seen] == [None, "half"]
    types = []
    with pytest.raises(openai.APIError) as caught:
        for event in client.responses.create(model="broken", input="hi", stream=True):
            types.append(event.type)  # noqa: PERF401
    assert not isinstance(caught.value, openai.APIConnectionError)
    assert types[-1] == "response.failed"


def test_errors_are_the_sdk_s_classes(client: OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "hi"}]
    for model, kind in (
        ("failing", openai.InternalServerError),
        ("limited", openai.RateLimitError),
        ("nobody", openai.NotFoundError),
    ):
        with pytest.raises(kind) as caught:
            client.chat.completions.create(model=model, messages=messages)
        assert caught.value.request_id and "s3cret" not in str(caught.value)
        with pytest.raises(kind):
            client.responses.create(model=model, input="hi", stream=True)
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="rich", messages=messages, temperature=3)
    assert (bad.value.param, bad.value.code) == ("temperature", "invalid_value")


def test_failing_pipeline_runs_once_under_the_client_s_default_retries(url: str) -> None:
    runs = []

    def boom() -> None:
        runs.append(1)
        raise ValueError

    with serving(make_app(m=returning(boom))) as base, OpenAI(base_url=base, api_key="x") as client:
        with pytest.raises(openai.InternalServerError):
            client.responses.create(model="m", input="hi")
    assert runs == [1]


def test_upload(client: OpenAI, url: str) -> None:
    file = client.files.create(file=("dir/né.txt", b"x" * 3_000_000), purpose="user_data")
    FileObject.model_validate(file.model_dump(), strict=True)
    assert (file.bytes, file.purpose, file.object, file.filename) == (3_000_000, "user_data", "file", "né.txt")
    # The Node client sends the file before the purpose.
    parts: Any = [("file", ("a", b"hi", "application/octet-stream")), ("purpose", (None, "assistants"))]
    answer = httpx.post(f"{url}/files", files=parts)
    assert answer.status_code == 200 and answer.json()["purpose"] == "assistants"


@pytest.mark.parametrize("base", ["/v1", "/v1/", "", "/"])
def test_every_base_url_that_users_give(url: str, base: str) -> None:
    with OpenAI(base_url=url + base, api_key="x", max_retries=0) as client:
        assert client.responses.create(model="rich", input="hi").output_text == "It is sunny"
        assert client.models.retrieve("rich").id == "rich"


def test_asynchronous_client(url: str) -> None:
    async def main() -> tuple[str, str]:
        async with AsyncOpenAI(base_url=url, api_key="x", max_retries=0) as client:
            text = ""
            stream = await client.chat.completions.create(
                model="rich", messages=[{"role": "user", "content": "hi"}], stream=True
            )
            async for chunk in stream:
                text += chunk.choices[0].delta.content or ""
            async with client.responses.stream(model="rich_async", input="hi") as events:
                async for _ in events:
                    pass
                return text, (await events.get_final_response()).output_text

    assert asyncio.run(main()) == ("It is sunny", "It is sunny")


def test_in_process_without_a_socket() -> None:
    transport = httpx.WSGITransport(app=make_app(rich=scripted(RICH)))
    with OpenAI(base_url="http://app/v1", api_key="x", http_client=httpx.Client(transport=transport)) as client:
        chunks = client.chat.completions.create(model="rich", messages=[{"role": "user", "content": "hi"}], stream=True)
        assert "".join(c.choices[0].delta.content or "" for c in chunks) == "It is sunny"
        assert client.responses.create(model="rich", input="hi").output_text == "It is sunny"


def test_wrapper_that_asks_another_wrapper_of_the_same_server() -> None:
    base: list[str] = []

    class Asking(BasePipelineWrapper):
        def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Any:
            with OpenAI(base_url=base[0], api_key="x", max_retries=0) as inner:
                answer = inner.chat.completions.create(model="rich", messages=messages)  # type: ignore[arg-type]
                return f"they say: {answer.choices[0].message.content}"

    with serving(make_app(rich=scripted(RICH), asking=Asking()), threads=2) as url:
        base.append(url)
        with OpenAI(base_url=url, api_key="x", max_retries=0) as client:
            answer = client.chat.completions.create(model="asking", messages=[{"role": "user", "content": "hi"}])
    assert answer.choices[0].message.content == "they say: It is sunny"


def test_sdk_stream_of_another_server_is_passed_on() -> None:
    """A wrapper may return what the official client gives: a stream of chunks, or a whole object."""
    upstream: list[OpenAI] = []

    class Proxy(BasePipelineWrapper):
        def run_chat_completion(self, model: str, messages: Any, body: dict[str, Any]) -> Any:
            given = {k: v for k, v in body.items() if k not in ("model", "messages")}
            return upstream[0].chat.completions.create(model="calls", messages=messages, **given)

    with (
        serving(make_app(calls=scripted(CALLS), proxy=Proxy()), threads=4) as url,
        OpenAI(base_url=url, api_key="x", max_retries=0) as client,
    ):
        upstream.append(client)
        arguments: Any = {"model": "proxy", "messages": [{"role": "user", "content": "hi"}], "tools": [TOOL]}
        whole = client.chat.completions.create(**arguments).choices[0]
        with client.chat.completions.stream(**arguments) as stream:
            streamed = stream.get_final_completion().choices[0]
    for choice in (whole, streamed):
        assert choice.finish_reason == "tool_calls"
        assert [c.id for c in choice.message.tool_calls or []] == ["call_a", "call_b"]
