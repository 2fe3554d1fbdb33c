from __future__ import annotations

from enum import IntEnum
from math import inf
from typing import Any

import pytest
from haystack.dataclasses import (
    ChatMessage,
    ImageContent,
    ReasoningContent,
    StreamingChunk,
    TextContent,
    ToolCall,
    ToolCallDelta,
    ToolCallResult,
)
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response

from flaskcompat import PipelineEvent
from flaskcompat.errors import UpstreamFailed, WrapperContractError
from flaskcompat.protocol.citations import citations
from flaskcompat.protocol.deltas import (
    Citation,
    Event,
    Finish,
    Reasoning,
    Refusal,
    Text,
    ToolCallPart,
    ToolResult,
    Whole,
    check_whole,
    deltas,
    plain_text,
)
from flaskcompat.protocol.usage import RUN_USAGE, Usage


def read(item: Any) -> list[Any]:
    return list(deltas(item))


def test_text() -> None:
    assert read("hi") == [Text("hi")]
    assert read("") == []


@pytest.mark.parametrize(
    ("chunk", "expected"),
    [
        (StreamingChunk("hi"), [Text("hi")]),
        (StreamingChunk("hi", finish_reason="stop"), [Text("hi"), Finish("stop")]),
        (StreamingChunk("", meta={"finish_reason": "length"}), [Finish("length")]),
        (StreamingChunk("", meta={"finish_reason": "eos"}), []),
        (StreamingChunk("", index=0, reasoning=ReasoningContent("hm")), [Reasoning("hm")]),
        (StreamingChunk("", index=0, reasoning=ReasoningContent("")), []),
        (StreamingChunk("", meta={"refusal": "no"}), [Refusal("no")]),
        (StreamingChunk("", meta={"type": "response.refusal.delta", "delta": "no"}), [Refusal("no")]),
        (
            StreamingChunk("", index=0, tool_calls=[ToolCallDelta(2, "f", '{"a":1}', id="c")]),
            [ToolCallPart(2, "c", "f", '{"a":1}', "c")],
        ),
        (
            StreamingChunk("", index=0, tool_calls=[ToolCallDelta(1, "f", id="fc_1", extra={"call_id": "call_1"})]),
            [ToolCallPart(1, "call_1", "f", "", "fc_1")],
        ),
        (StreamingChunk("", meta={"usage": {"prompt_tokens": 1, "completion_tokens": 2}}), [Usage(1, 2)]),
        (StreamingChunk("", meta={"usage": {"input_tokens": 1}, RUN_USAGE: True}), [Usage(1, 0, of_run=True)]),
        (StreamingChunk("", meta={"response": {"usage": {"input_tokens": 3, "output_tokens": 4}}}), [Usage(3, 4)]),
        (StreamingChunk("", meta={"usage": None, "response": None}), []),
    ],
)
def test_chunk(chunk: StreamingChunk, expected: list[Any]) -> None:
    assert read(chunk) == expected


@pytest.mark.parametrize(
    ("result", "output"),
    [("found", "found"), ([TextContent("a"), ImageContent("aGk=", "image/png"), TextContent("b")], "a\nb")],
)
def test_tool_result_chunk(result: Any, output: str) -> None:
    origin = ToolCall("f", {"a": "ü"}, id="fc_1", extra={"call_id": "call_1"})
    chunk = StreamingChunk("", index=0, tool_call_result=ToolCallResult(result, origin, False))
    assert read(chunk) == [ToolResult("call_1", "f", '{"a": "ü"}', output)]


def test_message() -> None:
    message = ChatMessage.from_assistant(
        "hi",
        reasoning=ReasoningContent("hm"),
        tool_calls=[ToolCall("f", {"a": 1}, id="c")],
        meta={"usage": {"prompt_tokens": 1, "completion_tokens": 1}, "finish_reason": "tool_calls"},
    )
    assert read(message) == [
        Reasoning("hm"),
        Text("hi"),
        ToolCallPart(0, "c", "f", '{"a": 1}'),
        Usage(1, 1),
        Finish("tool_calls"),
    ]
    origin = ToolCall("f", {}, id="c")
    assert read(ChatMessage.from_tool("found", origin=origin)) == [ToolResult("c", "f", "{}", "found")]


@pytest.mark.parametrize(
    "item",
    [
        None,
        3,
        b"bytes",
        object(),
        ["nested"],
        ChatMessage.from_user("x"),
        StreamingChunk(3),  # type: ignore[arg-type]
        {"object": "chat.completion", "choices": []},
        {"object": "chat.completion", "choices": [{"message": 3}]},
        {"object": "response"},
        {"object": "response", "output": [], "status": "failed"},
        {"object": "response", "output": [{"type": "function_call"}]},
        type("Sneaky", (), {"to_event_dict": lambda self: 3})(),
        type("Other", (), {"object": "list", "model_dump": lambda self, **_: {"object": "list"}})(),
    ],
)
def test_what_is_no_answer_is_refused(item: Any) -> None:
    with pytest.raises(WrapperContractError):
        read(item)


@pytest.mark.parametrize("data", [{"at": object()}, {"x": float("nan")}, {"x": {1}}])
def test_event_that_is_no_json_is_refused_as_it_is_read(data: dict[str, Any]) -> None:
    with pytest.raises(WrapperContractError, match="the data of an event 'status' is no JSON"):
        read(PipelineEvent("status", data))


@pytest.mark.parametrize("kind", ["response.failed", "error"])
def test_failure_that_the_generator_does_not_raise_is_told(kind: str) -> None:
    chunk = StreamingChunk("", meta={"type": kind, "response": {"error": {"message": "overloaded"}}})
    with pytest.raises(UpstreamFailed, match="overloaded"):
        read(chunk)
    assert plain_text(chunk) is None


def test_surrogates_are_repaired_as_they_are_read() -> None:
    assert plain_text("a\ud800") == plain_text(StreamingChunk("a\ud800")) == "a\ufffd"
    assert read("\ud83d\ude00") == [Text("😀")]
    call = StreamingChunk("", index=0, tool_calls=[ToolCallDelta(0, "f", '{"a":"\udfff"}', id="c")])
    assert read(call) == [ToolCallPart(0, "c", "f", '{"a":"\ufffd"}', "c")]


@pytest.mark.parametrize(
    ("item", "payload"),
    [
        (PipelineEvent("status", {"done": True}), {"type": "status", "data": {"done": True}}),
        ({"type": "status", "data": {"done": True}}, {"type": "status", "data": {"done": True}}),
        ({"type": "status", "data": None}, {"type": "status", "data": {}}),
        ({"type": "status"}, {"type": "status", "data": {}}),
        ({"type": "status", "done": True}, {"type": "status", "data": {"done": True}}),
        ({"event": {"type": "status", "data": {}}}, {"type": "status", "data": {}}),
        ({"progress": 3}, {"type": "custom", "data": {"progress": 3}}),
    ],
)
def test_event(item: Any, payload: dict[str, Any]) -> None:
    assert read(item) == [Event(payload)]


def test_citation_passes() -> None:
    assert read(Citation("u", "t")) == [Citation("u", "t")]


def test_sdk_objects() -> None:
    chunk = ChatCompletionChunk.model_validate(
        {
            "id": "x",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": [
                {
                    "index": 0,
                    "delta": {"content": "hi", "tool_calls": [{"index": 4, "id": "c", "function": {"name": "f"}}]},
                    "finish_reason": "length",
                }
            ],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }
    )
    assert read(chunk) == [Text("hi"), ToolCallPart(4, "c", "f", ""), Finish("length"), Usage(1, 1)]
    empty = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": []}
    assert read(ChatCompletionChunk.model_validate(empty)) == []
    whole = ChatCompletion.model_validate(
        {
            **empty,
            "object": "chat.completion",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        }
    )
    [delta] = read(whole)
    assert isinstance(delta, Whole) and delta.parts == (Text("hi"), Finish("stop")) and delta.answer["id"] == "x"
    note = {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1}
    part = {"type": "output_text", "text": "hi", "annotations": [note]}
    response = Response.model_validate(
        {
            "id": "r",
            "object": "response",
            "created_at": 1,
            "model": "m",
            "output": [{"id": "m", "type": "message", "role": "assistant", "status": "completed", "content": [part]}],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
        }
    )
    [delta] = read(response)
    assert delta.parts == (Text("hi"), Citation("u", "t", 0, 1))


@pytest.mark.parametrize("result", [{}, {"llm": {"replies": []}}, {"type": "status", "data": {}}])
def test_mapping_returned_whole_must_be_openai_s(result: dict[str, Any]) -> None:
    with pytest.raises(WrapperContractError, match="no OpenAI answer"):
        check_whole(result)
    check_whole({"object": "response"})
    check_whole("text")


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ("hi", "hi"),
        (StreamingChunk("hi", meta={"model": "m"}), "hi"),
        (StreamingChunk(""), ""),
        (StreamingChunk("hi", finish_reason="stop"), None),
        (StreamingChunk("hi", meta={"usage": {}}), None),
        (StreamingChunk("", index=0, reasoning=ReasoningContent("hm")), None),
        (StreamingChunk(None), None),  # type: ignore[arg-type]
        (None, None),
        (PipelineEvent("x"), None),
    ],
)
def test_plain_text_is_the_short_way_for_text_alone(item: Any, text: str | None) -> None:
    assert plain_text(item) == text


def test_citations_are_one_for_each_source() -> None:
    from haystack import Document

    documents = [
        Document(content="a", meta={"url": "http://x", "title": "X"}),
        Document(content="b", meta={"url": "http://x", "title": "X again"}),
        Document(content="c", meta={"file_path": "y.md"}),
        Document(content="d", id="z"),
    ]
    assert citations(documents) == [
        Citation("http://x", "X"),
        Citation("y.md", "y.md"),
        Citation("document:z", "document:z"),
    ]


class _Index(IntEnum):
    second = 1


def test_numbers_are_taken_where_they_are_meant() -> None:
    [part] = read(StreamingChunk("", tool_calls=[ToolCallDelta(_Index.second, "f", id=7)], index=0))  # type: ignore[arg-type]
    assert part == ToolCallPart(1, "7", "f", "", "7") and type(part.index) is int
    assert read(Citation("u", "t", 0.0, 3.0)) == [Citation("u", "t", 0, 3)]  # type: ignore[arg-type]
    chunk = {"object": "chat.completion.chunk", "choices": [{"delta": {"content": "a"}, "logprob": -inf}]}
    assert read(chunk) == [Text("a")]


@pytest.mark.parametrize("place", [2**53, -1, float("nan"), 0.5, "3"])
def test_place_that_is_none(place: Any) -> None:
    with pytest.raises(WrapperContractError):
        read(Citation("u", "t", place, place))


@pytest.mark.parametrize("call", [{"index": object()}, {"id": object()}, {"tool_name": b"f"}])
def test_call_of_other_things_than_texts(call: dict[str, Any]) -> None:
    with pytest.raises(WrapperContractError):
        read(StreamingChunk("", tool_calls=[ToolCallDelta(**{"index": 0, "tool_name": "f", **call})], index=0))
