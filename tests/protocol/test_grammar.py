"""Random runs: the grammar holds, deltas add up, and the stream says what the whole answer says."""

from __future__ import annotations

import json
from typing import Any

from haystack.dataclasses import ReasoningContent, StreamingChunk, ToolCall, ToolCallDelta, ToolCallResult
from hypothesis import given
from hypothesis import strategies as st

from flaskcompat import PipelineEvent
from flaskcompat.protocol.chat import ChatCompletionMachine
from flaskcompat.protocol.deltas import Citation, deltas, plain_text
from flaskcompat.protocol.responses import ResponseMachine

from ..support import events_of
from .test_responses import assert_grammar

TOOLS = ("mine", "yours", "theirs")

texts = st.text(st.characters(codec=None), max_size=5)
finishes = st.sampled_from(["stop", "length", "tool_calls", "tool_call_results", "content_filter"])


def _calls(indexes: list[int], step: int) -> list[StreamingChunk]:
    """Parallel calls of one step whose pieces come in the order of *indexes*."""
    chunks, begun = [], set()
    pieces = {index: iter(['{"a"', ": 1", "}"]) for index in set(indexes)}
    order = [*indexes, *(index for index in pieces for _ in range(3))]
    for index in order:
        piece = next(pieces[index], None)
        if piece is None:
            continue
        first = index not in begun
        begun.add(index)
        delta = ToolCallDelta(
            index, TOOLS[index] if first else None, piece, id=f"call_{step}_{index}" if first else None
        )
        chunks.append(StreamingChunk("", index=0, tool_calls=[delta]))
    return chunks


@st.composite
def runs(draw: st.DrawFn) -> list[Any]:
    """A run of several steps, as an agent makes it, with events and usage strewn in."""
    items: list[Any] = []
    for step in range(draw(st.integers(0, 3))):
        items += [StreamingChunk("", index=0, reasoning=ReasoningContent(t)) for t in draw(st.lists(texts, max_size=2))]
        items += [draw(st.sampled_from([StreamingChunk(t), t])) for t in draw(st.lists(texts, max_size=3))]
        if draw(st.booleans()):
            items.append(Citation("u", "t"))
        indexes = draw(st.lists(st.integers(0, 2), max_size=6))
        calls = _calls(indexes, step)
        for place in draw(st.lists(st.integers(0, len(calls)), max_size=2)):
            calls.insert(place, StreamingChunk(draw(texts)))  # as of another component at the same time
        items += calls
        for index in set(indexes):
            if draw(st.booleans()) and TOOLS[index] != "mine":
                origin = ToolCall(TOOLS[index], {"a": 1}, id=f"call_{step}_{index}")
                items.append(StreamingChunk("", index=0, tool_call_result=ToolCallResult("r", origin, False)))
        items.append(StreamingChunk("", finish_reason=draw(finishes)))
        if draw(st.booleans()):
            usage = {"prompt_tokens": draw(st.integers(0, 9)), "completion_tokens": draw(st.integers(0, 9))}
            items.append(StreamingChunk("", meta={"usage": usage}))
        if draw(st.booleans()):
            items.append(PipelineEvent("status", {"step": step}))
    return items


def stream(machine: Any, items: list[Any]) -> list[dict[str, Any]]:
    """What goes over the wire, by the way that replies take."""
    frames = [*map(machine.encode, machine.start())]
    for item in items:
        text = plain_text(item)
        if text is None:
            for delta in deltas(item):
                frames += map(machine.encode, machine.feed(delta))
        elif text:
            frames.append(machine.text_frame(text))
    frames += map(machine.encode, machine.end())
    return events_of("".join(frames))


def whole(machine: Any, items: list[Any]) -> dict[str, Any]:
    for item in items:
        for delta in deltas(item):
            machine.feed(delta)
    machine.end()
    result: dict[str, Any] = json.loads(json.dumps(machine.result()))
    return result


def _chat_answer(events: list[dict[str, Any]]) -> dict[str, Any]:
    """A stream's chunks added up as a client does it."""
    answer: dict[str, Any] = {"content": "", "reasoning_content": "", "annotations": [], "calls": {}}
    for event in events:
        for choice in event["choices"]:
            delta = choice["delta"]
            answer["content"] += delta.get("content", "")
            answer["reasoning_content"] += delta.get("reasoning_content", "")
            answer["annotations"] += delta.get("annotations", [])
            for piece in delta.get("tool_calls", []):
                call = answer["calls"].setdefault(piece["index"], {"arguments": ""})
                function = piece["function"]
                call["arguments"] += function["arguments"]
                if "id" in piece:
                    assert "id" not in call
                    call |= {"id": piece["id"], "name": function["name"]}
    assert list(answer["calls"]) == list(range(len(answer["calls"])))
    return answer


@given(runs())
def test_chat(items: list[Any]) -> None:
    kwargs: dict[str, Any] = {"model": "m", "tools": {"mine"}, "include_usage": True}
    events = stream(ChatCompletionMachine(**kwargs, keep=False), items)
    result = whole(ChatCompletionMachine(**kwargs), items)
    *chunks, finish, usage = events
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant"}
    assert all("role" not in chunk["choices"][0]["delta"] for chunk in chunks[1:])
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in chunks)
    choice = result["choices"][0]
    assert finish["choices"][0]["finish_reason"] == choice["finish_reason"]
    assert finish["choices"][0]["delta"] == {}
    assert usage["usage"] == result["usage"]
    answer, message = _chat_answer(events), choice["message"]
    assert answer["content"] == (message["content"] or "")
    assert answer["reasoning_content"] == message.get("reasoning_content", "")
    assert answer["annotations"] == message.get("annotations", [])
    calls = [{"id": c["id"], **c["function"]} for c in message.get("tool_calls", [])]
    assert list(answer["calls"].values()) == calls
    assert all(json.loads(call["arguments"]) == {"a": 1} for call in calls)


@given(runs())
def test_responses(items: list[Any]) -> None:
    kwargs: dict[str, Any] = {"model": "m", "tools": {"mine"}}
    events = stream(ResponseMachine(**kwargs), items)
    result = whole(ResponseMachine(**kwargs), items)
    assert_grammar(events)
    final = events[-1]["response"]
    for response in (final, result):
        for item in response["output"]:
            item["id"] = ""
    for key in ("output", "status", "usage", "incomplete_details"):
        assert final[key] == result[key]


@given(runs())
def test_both_surfaces_agree(items: list[Any]) -> None:
    kwargs: dict[str, Any] = {"model": "m", "tools": {"mine"}}
    chat = whole(ChatCompletionMachine(**kwargs), items)
    response = whole(ResponseMachine(**kwargs), items)
    message, output = chat["choices"][0]["message"], response["output"]
    parts = [part for item in output if item["type"] == "message" for part in item["content"]]
    assert "".join(part["text"] for part in parts) == (message["content"] or "")
    thoughts = [part["text"] for item in output if item["type"] == "reasoning" for part in item["summary"]]
    assert "".join(thoughts) == message.get("reasoning_content", "")
    calls = [(i["call_id"], i["name"], i["arguments"]) for i in output if i["type"] == "function_call"]
    chat_calls = [(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in message.get("tool_calls", [])]
    assert calls == chat_calls
    assert chat["usage"]["total_tokens"] == response["usage"]["total_tokens"]
    stopped = {"stop": "completed", "tool_calls": "completed"}
    assert stopped.get(chat["choices"][0]["finish_reason"], "incomplete") == response["status"]
