from __future__ import annotations

import json
import time
from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from flaskcompat.errors import APIError, PipelineError, WrapperContractError
from flaskcompat.protocol.deltas import (
    Citation,
    Delta,
    Event,
    Finish,
    Reasoning,
    Refusal,
    Text,
    ToolCallPart,
    ToolResult,
    deltas,
)
from flaskcompat.protocol.machine import MOST_TEXT, AnswerTooLong
from flaskcompat.protocol.responses import ResponseMachine
from flaskcompat.protocol.usage import Usage

from ..support import counting_ids
from ..support import run_events as run

sdk_event: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def machine(**kwargs: Any) -> ResponseMachine:
    return ResponseMachine(**{"model": "m", "ids": counting_ids(), "clock": lambda: 7.9, **kwargs})


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


MESSAGE = ["output_item.added", "content_part.added", "output_text.delta", "output_text.done"] + [
    "content_part.done",
    "output_item.done",
]
CALL = ["output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"]
REASONING = ["output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta"] + [
    "reasoning_summary_text.done",
    "reasoning_summary_part.done",
    "output_item.done",
]


def test_text() -> None:
    made = machine()
    events = run(made, [Text("Hi"), Text(" you")])
    message = MESSAGE[:3] + MESSAGE[2:]
    assert types(events) == ["created", "in_progress", *message, "completed"]
    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    part = {"type": "output_text", "text": "Hi you", "annotations": [], "logprobs": []}
    item = {"id": "msg_2", "type": "message", "status": "completed", "role": "assistant", "content": [part]}
    assert events[2]["item"] == {**item, "status": "in_progress", "content": []}
    place = {"item_id": "msg_2", "output_index": 0, "content_index": 0}
    assert events[3] == {
        "type": "response.content_part.added",
        **place,
        "part": {**part, "text": ""},
        "sequence_number": 3,
    }
    assert events[4] == {
        "type": "response.output_text.delta",
        **place,
        "delta": "Hi",
        "logprobs": [],
        "sequence_number": 4,
    }
    assert events[6]["text"] == "Hi you"
    assert events[7]["part"] == part
    assert events[8]["item"] == item
    assert events[-1]["response"]["output"] == [item]


def test_first_two_events_hold_the_response_as_it_is_then() -> None:
    made = machine(request={"temperature": 0.5, "metadata": {"a": "b"}, "instructions": None})
    for event in made.start():
        response = event["response"]
        assert (response["status"], response["output"], response["usage"]) == ("in_progress", [], None)
        assert (response["temperature"], response["metadata"], response["instructions"]) == (0.5, {"a": "b"}, None)
        assert response["id"] == "resp_1"


def test_response_has_every_key_with_defaults() -> None:
    made = machine()
    run(made, [])
    result = made.result()
    assert result == {
        "id": "resp_1",
        "object": "response",
        "created_at": 7,
        "completed_at": 7,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "model": "m",
        "output": [],
        "previous_response_id": None,
        "parallel_tool_calls": True,
        "reasoning": None,
        "store": True,
        "background": False,
        "temperature": 1.0,
        "top_p": 1.0,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "top_logprobs": 0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "truncation": "disabled",
        "usage": Usage().to_response(),
        "user": None,
        "service_tier": "default",
        "metadata": {},
        "safety_identifier": None,
        "prompt_cache_key": None,
    }


def test_request_is_echoed_and_made_whole() -> None:
    request = {
        "text": {"verbosity": "low"},
        "tools": [{"type": "function", "name": "f"}, {"type": "x"}],
        "store": False,
    }
    made = machine(request=request)
    run(made, [])
    result = made.result()
    assert result["text"] == {"verbosity": "low", "format": {"type": "text"}}
    assert result["tools"] == [
        {"type": "function", "description": None, "parameters": None, "strict": None, "name": "f"},
        {"type": "x"},
    ]
    assert result["store"] is False


def test_items_stand_in_the_order_of_their_production() -> None:
    made = machine(tools={"f"})
    items: list[Delta] = [Reasoning("hm"), Text("hi"), ToolCallPart(0, "call_a", "f", "{}"), Usage(1, 2)]
    events = run(made, items)
    assert types(events) == ["created", "in_progress", *REASONING, *MESSAGE, *CALL, "completed"]
    assert events[-1]["response"]["output"] == [e["item"] for e in events if e["type"].endswith("item.done")]
    assert [item["type"] for item in made.result()["output"]] == ["reasoning", "message", "function_call"]
    assert made.result()["output"][0] == {
        "id": "rs_2",
        "type": "reasoning",
        "status": "completed",
        "summary": [{"type": "summary_text", "text": "hm"}],
    }
    assert made.result()["output"][2] == {
        "id": "fc_4",
        "type": "function_call",
        "status": "completed",
        "call_id": "call_a",
        "name": "f",
        "arguments": "{}",
    }


def test_text_after_reasoning_after_text_is_an_item_of_its_own() -> None:
    made = machine()
    run(made, [Text("a"), Reasoning("b"), Text("c")])
    assert [item["type"] for item in made.result()["output"]] == ["message", "reasoning", "message"]


def test_parallel_calls_that_come_one_after_the_other_stream_live() -> None:
    made = machine(tools={"f", "g"})
    made.start()
    assert types(made.feed(ToolCallPart(0, "a", "f", '{"x": 1}'))) == CALL[:2]
    assert types(made.feed(ToolCallPart(1, "b", "g", '{"y"'))) == [*CALL[2:], *CALL[:2]]
    assert types(made.feed(ToolCallPart(1, None, None, ": 2}"))) == CALL[1:2]
    assert types(made.end()) == [*CALL[2:], "completed"]


def test_interleaved_calls_are_put_in_a_row() -> None:
    made = machine(tools={"f", "g", "h"})
    items: list[Delta] = [
        ToolCallPart(0, "a", "f", '{"x"'),
        ToolCallPart(1, "b", "g", ""),
        ToolCallPart(2, "c", "h", '{"z":'),
        ToolCallPart(1, None, None, '{"y":2}'),
        ToolCallPart(0, None, None, ":1}"),
        ToolCallPart(2, None, None, "3}"),
    ]
    events = run(made, items)
    two = [CALL[0], CALL[1], *CALL[1:]]
    assert types(events)[2:-1] == [*two, *CALL, *two]
    calls = [(i["call_id"], i["name"], json.loads(i["arguments"])) for i in made.result()["output"]]
    assert calls == [("a", "f", {"x": 1}), ("b", "g", {"y": 2}), ("c", "h", {"z": 3})]
    assert_grammar(events)


def test_call_without_arguments_gets_an_empty_object_once() -> None:
    made = machine(tools={"f", "g"})
    events = run(made, [ToolCallPart(0, "a", "f"), Text("x"), ToolCallPart(1, "b", "g")])
    assert [i.get("arguments") for i in made.result()["output"]] == ["{}", None, "{}"]
    assert_grammar(events)


def test_pieces_of_a_call_after_its_end_are_not_lost_in_silence() -> None:
    made = machine(tools={"f"})
    with pytest.raises(WrapperContractError):
        run(made, [ToolCallPart(0, "a", "f", '{"x":1}'), Text("x"), ToolCallPart(0, None, None, " more")])


def test_what_comes_between_the_pieces_of_a_call_waits_for_its_end() -> None:
    made = machine(tools={"f", "g"})
    items: list[Delta] = [
        ToolCallPart(0, "a", "f", '{"x"'),
        Text("one "),
        ToolCallPart(1, "b", "g", "{"),
        Reasoning("hm"),
        Event({"type": "status", "data": {}}),
        ToolCallPart(0, None, None, ":1}"),
        ToolCallPart(1, None, None, "}"),
        Text("two"),
    ]
    events = run(made, items)
    assert_grammar(events)
    output = made.result()["output"]
    assert [item["type"] for item in output] == ["function_call", "message", "function_call", "reasoning", "message"]
    assert [item["arguments"] for item in output if "arguments" in item] == ['{"x":1}', "{}"]
    assert types(events)[4] == "flaskcompat:status", "an event does not wait"


def test_arguments_nested_beyond_all_measure_are_passed_on() -> None:
    made = machine(tools={"f"})
    run(made, [ToolCallPart(0, "a", "f", "[" * 100_000), Text("x"), Finish("stop")])
    assert [item["type"] for item in made.result()["output"]] == ["function_call", "message"]


def test_call_that_never_is_complete_ends_with_its_step() -> None:
    made = machine(tools={"f"})
    made.start()
    made.feed(ToolCallPart(0, "a", "f", '{"x"'))
    assert made.feed(Text("waits")) == []
    assert types(made.feed(Finish("length"))) == [*CALL[2:], *MESSAGE[:3]]
    assert types(made.end())[-1] == "incomplete"


@pytest.mark.parametrize(
    ("given", "named"), [("é", "_"), ("x\n\ndata: [DONE]", "x__data:__DONE_"), ("a" * 99, "a" * 64)]
)
def test_type_of_an_event_cannot_break_its_frame(given: str, named: str) -> None:
    made = machine()
    [event] = made.feed(Event({"type": given, "data": {}}))
    assert event["type"] == f"flaskcompat:{named}" and event["event"]["type"] == given
    assert made.encode(event).count("\n") == 3 and made.encode(event).isascii()


def test_refusal_is_a_part_of_the_message() -> None:
    made = machine()
    events = run(made, [Text("a"), Refusal("no"), Text("b"), Text("c")])
    assert [p["type"] for p in made.result()["output"][0]["content"]] == ["output_text", "refusal", "output_text"]
    assert [e["content_index"] for e in events if e["type"].endswith(".delta")] == [0, 1, 2, 2]
    refused = ["content_part.added", "refusal.delta", "refusal.done", "content_part.done"]
    assert types(events)[7:11] == refused


def test_citation_is_an_annotation_of_the_open_text() -> None:
    made = machine()
    events = run(made, [Text("four"), Citation("u", "t"), Citation("v", "s", 0, 2)])
    notes = [e for e in events if e["type"].endswith("annotation.added")]
    assert [n["annotation_index"] for n in notes] == [0, 1]
    part = made.result()["output"][0]["content"][0]
    assert part["annotations"] == [n["annotation"] for n in notes]
    assert part["annotations"][0] == {
        "type": "url_citation",
        "start_index": 4,
        "end_index": 4,
        "title": "t",
        "url": "u",
    }


def test_event_has_a_slug_and_never_closes_an_item() -> None:
    payload = {"type": "status", "data": {}}
    events = run(machine(), [Text("a"), Event(payload), Text("b")])
    assert types(events)[2:7] == [*MESSAGE[:3], "flaskcompat:status", MESSAGE[2]]
    assert events[5] == {"type": "flaskcompat:status", "event": payload, "sequence_number": 5}


@pytest.mark.parametrize(("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_incomplete(finish: Any, reason: str) -> None:
    made = machine()
    events = run(made, [Reasoning("r"), Text("a"), Finish(finish)])
    result = made.result()
    assert events[-1]["type"] == "response.incomplete"
    assert (result["status"], result["incomplete_details"]) == ("incomplete", {"reason": reason})
    assert [item["status"] for item in result["output"]] == ["completed", "incomplete"]
    assert result["completed_at"] is None and result["usage"] == Usage().to_response()


def test_failure_midway_is_failed_then_error() -> None:
    made = machine()
    made.start()
    made.feed(Text("par"))
    events = made.fail(PipelineError())
    assert types(events) == ["output_text.done", "content_part.done", "output_item.done", "failed", "error"]
    failed, error = events[-2:]
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"] == {"code": "server_error", "message": PipelineError.message}
    assert failed["response"]["output"][0]["status"] == "incomplete"
    assert failed["response"]["usage"] == Usage().to_response()
    assert failed["response"]["completed_at"] is None
    flat = {k: error[k] for k in ("code", "message", "param")}
    assert flat == {"code": "pipeline_error", "message": PipelineError.message, "param": None}
    assert flat.items() <= error["error"].items()
    assert error["sequence_number"] == failed["sequence_number"] + 1
    for event in events:
        sdk_event.validate_python(event)


def test_tools_that_ran_here_are_hidden_or_shown_as_items() -> None:
    items: list[Delta] = [
        ToolCallPart(0, "a", "search", '{"q":1}'),
        Finish("tool_calls"),
        ToolResult("a", "search", '{"q":1}', "found"),
        Text("done"),
    ]
    hidden, shown = machine(), machine(show_tool_calls=True)
    run(hidden, items)
    assert [i["type"] for i in hidden.result()["output"]] == ["message"]
    events = run(shown, items)
    call, output, message = shown.result()["output"]
    assert (call["type"], call["call_id"], call["arguments"]) == ("function_call", "a", '{"q":1}')
    assert (output["type"], output["call_id"], output["output"]) == ("function_call_output", "a", "found")
    assert message["type"] == "message"
    assert [i["status"] for i in shown.result()["output"]] == ["completed"] * 3
    for event in events:
        sdk_event.validate_python(event)


@pytest.mark.parametrize("text", ["plain", 'quote " and \\', "\n\r\u2028\u0085\x00", "日本 😀"])
def test_text_frame_says_the_same_as_the_events(text: str) -> None:
    short, long = machine(), machine()
    for _ in range(3):
        assert short.text_frame(text) == "".join(map(long.encode, long.feed(Text(text))))
    for made in (short, long):
        made.feed(Reasoning("r"))
    assert short.text_frame(text) == "".join(map(long.encode, long.feed(Text(text))))
    for made in (short, long):
        made.feed(Citation("u", "t"))
    assert short.text_frame(text) == "".join(map(long.encode, long.feed(Text(text))))
    for made in (short, long):
        made.feed(Finish("tool_calls"))
    assert short.text_frame(text) == "".join(map(long.encode, long.feed(Text(text))))
    assert short.end() == long.end()


def test_whole_answer_of_the_wrapper_passes_with_gaps_filled() -> None:
    own = {
        "object": "response",
        "id": "mine",
        "output": [
            {"type": "reasoning"},
            {"type": "message", "content": [{"type": "output_text", "text": "hi"}]},
            {"type": "function_call", "call_id": "c", "name": "f"},
            {"type": "web_search_call", "id": "ws", "status": "completed", "action": {"type": "search", "query": "q"}},
        ],
        "extra": 1,
    }
    made = machine()
    for delta in deltas(own):
        made.feed(delta)
    made.end()
    result = made.result()
    assert (result["id"], result["extra"], result["model"]) == ("mine", 1, "m")
    assert result["output"][1]["content"] == [{"type": "output_text", "text": "hi", "annotations": [], "logprobs": []}]
    Response.model_validate(result, strict=True)


def test_whole_chat_answer_is_read() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"content": "hi", "reasoning_content": "hm", "tool_calls": [call], "refusal": "no"}
    message["annotations"] = [{"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 0}}]
    own = {"object": "chat.completion", "choices": [{"message": message, "finish_reason": "tool_calls"}]}
    made = machine()
    for delta in deltas(own):
        made.feed(delta)
    made.end()
    reasoning, text, call_item = made.result()["output"]
    assert reasoning["summary"][0]["text"] == "hm"
    assert [p.get("text") or p.get("refusal") for p in text["content"]] == ["hi", "no", None]
    assert call_item["call_id"] == "c"


def test_every_event_is_valid_for_the_sdk() -> None:
    made = machine(tools={"f"})
    items: list[Delta] = [Reasoning("r"), Text("t"), Refusal("n"), Citation("u", "v"), ToolCallPart(0, None, "f")]
    for event in run(made, items):
        sdk_event.validate_python(event)
        assert made.encode(event).startswith(f"event: {event['type']}\ndata: ")
    Response.model_validate(made.result(), strict=True)


def assert_grammar(events: list[dict[str, Any]]) -> None:
    """The grammar of a stream: one item open at a time, every event about the open one, texts add up."""
    assert types(events)[:2] == ["created", "in_progress"]
    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    terminals = [i for i, e in enumerate(events) if e["type"].split(".")[-1] in ("completed", "incomplete", "failed")]
    assert terminals == [len(events) - 1]
    done: list[dict[str, Any]] = []
    item: dict[str, Any] | None = None
    part: dict[str, Any] | None = None
    text = ""
    for event in events[2:-1]:
        kind = event["type"].removeprefix("response.")
        if ":" in kind:
            continue
        assert event["output_index"] == len(done)
        if kind == "output_item.added":
            assert item is None
            item, parts, text = event["item"], 0, ""
            continue
        assert item is not None
        if kind == "output_item.done":
            assert part is None and event["item"]["id"] == item["id"]
            if item["type"] == "function_call":
                assert event["item"]["arguments"] == text
            done.append(event["item"])
            item = None
            continue
        assert event["item_id"] == item["id"]
        match kind.split("."):
            case ["content_part" | "reasoning_summary_part", "added"]:
                assert part is None
                part, text = event["part"], ""
            case ["content_part" | "reasoning_summary_part", "done"]:
                assert part is not None and (event["part"].get("text") or event["part"].get("refusal") or "") == text
                part = None
                parts += 1
            case ["function_call_arguments", "delta"]:
                text += event["delta"]
            case [_, "delta"]:
                assert part is not None and event.get("content_index", event.get("summary_index")) == parts
                text += event["delta"]
            case ["function_call_arguments", "done"]:
                assert event["arguments"] == text and event["name"] == item["name"]
            case [_, "done"]:
                assert event.get("text", event.get("refusal")) == text
            case other:
                assert other == ["output_text", "annotation", "added"]
    assert item is None
    assert events[-1]["response"]["output"] == done


@pytest.mark.parametrize("arguments", ['{"a":', '{"a": 1}'])
def test_call_that_is_open_at_a_failure_is_not_said_to_be_done(arguments: str) -> None:
    # Codex runs whatever is, and looks at no status.
    machine = ResponseMachine(model="m", tools=["f"], ids=counting_ids())
    machine.start()
    machine.feed(ToolCallPart(0, "a", "f", arguments))
    events = machine.fail(APIError())
    assert types(events) == ["failed", "error"]
    [item] = events[0]["response"]["output"]
    assert (item["status"], item["arguments"]) == ("incomplete", arguments)


def test_text_that_waits_for_an_open_call_is_said_before_the_failure() -> None:
    machine = ResponseMachine(model="m", tools=["f"], ids=counting_ids())
    events = machine.start()
    for delta in (ToolCallPart(0, "a", "f", '{"a":'), Text("said")):
        events += machine.feed(delta)
    events += machine.fail(APIError())
    assert any(e["type"] == "response.output_text.delta" and e["delta"] == "said" for e in events)
    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    assert events[-1]["type"] == "error" and events[-2]["type"] == "response.failed"
    assert [item["status"] for item in events[-2]["response"]["output"]] == ["incomplete", "incomplete"]


def test_call_of_many_pieces_beside_a_text_takes_time_in_proportion() -> None:
    machine = ResponseMachine(model="m", tools=["f"])
    machine.start()
    machine.feed(ToolCallPart(0, "a", "f", '{"a": "'))
    machine.feed(Text("waits"))
    begun = time.monotonic()
    for _ in range(20_000):
        machine.feed(ToolCallPart(0, None, None, "x" * 50))
    assert time.monotonic() - begun < 5


def test_results_that_are_hidden_are_not_kept() -> None:
    for show, kept in ((False, False), (True, True)):
        machine = ResponseMachine(model="m", show_tool_calls=show)
        machine.start()
        machine.feed(ToolCallPart(0, "a", "f", "{}"))
        machine.feed(ToolResult("a", "f", "{}", "x" * (MOST_TEXT + 1)))
        if kept:
            with pytest.raises(AnswerTooLong):
                machine.check_size()
        else:
            machine.check_size()
