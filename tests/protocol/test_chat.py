from __future__ import annotations

from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from flaskcompat.errors import PipelineError, WrapperContractError
from flaskcompat.protocol import sse
from flaskcompat.protocol.chat import ChatCompletionMachine
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
from flaskcompat.protocol.machine import AnswerTooLong
from flaskcompat.protocol.responses import ResponseMachine
from flaskcompat.protocol.usage import Usage

from ..support import counting_ids
from ..support import run_events as run


def machine(**kwargs: Any) -> ChatCompletionMachine:
    return ChatCompletionMachine(**{"model": "m", "ids": counting_ids(), "clock": lambda: 7.9, **kwargs})


def told(events: list[dict[str, Any]]) -> list[Any]:
    """Delta and finish of each chunk."""
    return [(e["choices"][0]["delta"], e["choices"][0]["finish_reason"]) for e in events if e["choices"]]


def test_text_is_role_deltas_and_one_finish() -> None:
    events = run(machine(), [Text("Hi"), Text(" you")])
    assert told(events) == [
        ({"role": "assistant"}, None),
        ({"content": "Hi"}, None),
        ({"content": " you"}, None),
        ({}, "stop"),
    ]
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "m"}
    assert all(head.items() <= event.items() for event in events)
    assert all(event["choices"][0]["logprobs"] is None and event["choices"][0]["index"] == 0 for event in events)


def test_whole_answer_has_every_required_key() -> None:
    made = machine()
    run(made, [Text("Hi")])
    assert made.result() == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hi", "refusal": None},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": Usage().to_chat(),
    }


def test_empty_run_still_has_role_finish_and_empty_text() -> None:
    made = machine()
    assert told(run(made, [])) == [({"role": "assistant"}, None), ({}, "stop")]
    assert made.result()["choices"][0]["message"]["content"] == ""


def test_reasoning_goes_beside_the_content() -> None:
    made = machine()
    events = run(made, [Reasoning("hm, "), Reasoning("so"), Text("42")])
    assert told(events)[1:-1] == [
        ({"reasoning_content": "hm, "}, None),
        ({"reasoning_content": "so"}, None),
        ({"content": "42"}, None),
    ]
    assert made.result()["choices"][0]["message"]["reasoning_content"] == "hm, so"


def test_refusal() -> None:
    made = machine()
    assert ({"refusal": "no"}, None) in told(run(made, [Refusal("no")]))
    message = made.result()["choices"][0]["message"]
    assert (message["content"], message["refusal"]) == (None, "no")


def test_client_tool_call_goes_out_piece_by_piece() -> None:
    made = machine(tools={"f"})
    events = run(made, [ToolCallPart(3, "call_a", "f", '{"x"'), ToolCallPart(3, None, None, ": 1}"), Finish("stop")])
    assert told(events)[1:] == [
        (
            {
                "tool_calls": [
                    {"index": 0, "id": "call_a", "type": "function", "function": {"name": "f", "arguments": '{"x"'}}
                ]
            },
            None,
        ),
        ({"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]}, None),
        ({}, "tool_calls"),
    ]
    message = made.result()["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "call_a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    ]


def test_tool_that_ran_here_is_hidden_in_both_forms() -> None:
    made = machine()
    items: list[Delta] = [
        ToolCallPart(0, "call_a", "search", "{}"),
        Finish("tool_calls"),
        ToolResult("call_a", "search", "{}", "found"),
        Finish("tool_call_results"),
        Text("done"),
        Finish("stop"),
    ]
    events = run(made, items)
    assert told(events) == [({"role": "assistant"}, None), ({"content": "done"}, None), ({}, "stop")]
    assert "tool_calls" not in made.result()["choices"][0]["message"]


def test_call_without_a_result_goes_out_at_the_end() -> None:
    made = machine()
    events = run(made, [ToolCallPart(0, "call_a", "search", ""), Finish("tool_calls")])
    function = {"name": "search", "arguments": ""}
    assert told(events)[1:] == [
        ({"tool_calls": [{"index": 0, "id": "call_a", "type": "function", "function": function}]}, None),
        ({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}, None),
        ({}, "tool_calls"),
    ]


@pytest.mark.parametrize(
    ("finishes", "reason"),
    [
        ([], "stop"),
        (["stop"], "stop"),
        (["length"], "length"),
        (["content_filter"], "content_filter"),
        (["tool_calls"], "stop"),
        (["tool_call_results"], "stop"),
        (["tool_calls", "length"], "length"),
    ],
)
def test_finish_reason_is_always_a_legal_one(finishes: list[Any], reason: str) -> None:
    made = machine()
    events = run(made, [Text("x"), *map(Finish, finishes)])
    assert [e["choices"][0]["finish_reason"] for e in events].count(None) == len(events) - 1
    assert made.result()["choices"][0]["finish_reason"] == events[-1]["choices"][0]["finish_reason"] == reason


def test_finish_that_more_follows_is_forgotten() -> None:
    events = run(machine(), [Text("x"), Finish("length"), Text("y")])
    assert events[-1]["choices"][0]["finish_reason"] == "stop"
    assert sum(e["choices"][0]["finish_reason"] is not None for e in events) == 1


def test_usage_chunk_only_where_asked() -> None:
    usage = Usage(3, 4, cached=1, reasoning=2)
    assert all(e["choices"] for e in run(machine(), [Text("x"), usage]))
    events = run(machine(include_usage=True), [Text("x"), Finish("stop"), usage])
    assert events[-1]["choices"] == []
    assert events[-1]["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    assert all("usage" not in e for e in events[:-1])
    assert events[-2]["choices"][0]["finish_reason"] == "stop"


def test_event_is_a_valid_chunk_with_one_key_more() -> None:
    payload = {"type": "status", "data": {"done": False}}
    event = run(machine(), [Event(payload)])[1]
    assert event["event"] == payload
    assert event["choices"] == [{"index": 0, "delta": {}, "finish_reason": None, "logprobs": None}]


def test_citation_points_at_the_text_so_far() -> None:
    made = machine()
    run(made, [Text("four"), Citation("http://x", "X"), Citation("http://y", "Y", 1, 3)])
    first, second = made.result()["choices"][0]["message"]["annotations"]
    assert first == {
        "type": "url_citation",
        "url_citation": {"start_index": 4, "end_index": 4, "title": "X", "url": "http://x"},
    }
    assert (second["url_citation"]["start_index"], second["url_citation"]["end_index"]) == (1, 3)


def test_citations_are_told_in_one_delta_at_the_end() -> None:
    events = run(machine(), [Text("a"), Citation("u", "U"), Text("b"), Citation("v", "V")])
    told_in = [n for n, (delta, _) in enumerate(told(events)) if "annotations" in delta]
    assert told_in == [len(events) - 2]


def test_answered_call_of_the_client_s_own_does_not_count_for_the_finish() -> None:
    made = machine(tools={"f"})
    items: list[Delta] = [
        ToolCallPart(0, "a", "f", "{}"),
        ToolResult("a", "f", "{}", "x"),
        Text("done"),
        Finish("stop"),
    ]
    assert told(run(made, items))[-1] == ({}, "stop")


def test_usage_of_a_step_without_an_answer_counts() -> None:
    made = machine()
    items: list[Delta] = [
        Finish("tool_calls"),
        Usage(10, 5),
        ToolResult("a", "f", "{}", "x"),
        Finish("stop"),
        Usage(20, 7),
    ]
    run(made, items)
    assert made.result()["usage"]["total_tokens"] == 42


def test_failure_is_an_error_frame_and_no_finish() -> None:
    made = machine()
    events = made.start() + made.feed(Text("x")) + made.fail(PipelineError())
    assert events[-1] == {
        "error": {
            "message": PipelineError.message,
            "type": "server_error",
            "param": None,
            "code": "pipeline_error",
        }
    }
    assert all(e["choices"][0]["finish_reason"] is None for e in events[:-1])
    assert made.failed_tail == "" and made.good_tail == "data: [DONE]\n\n"


@pytest.mark.parametrize("text", ["plain", 'quote " and \\', "\n\r\u2028\u0085\x00\x1f", "日本 😀", "data: [DONE]\n\n"])
def test_text_frame_says_the_same_as_the_event(text: str) -> None:
    short, long = machine(), machine()
    [event] = long.feed(Text(text))
    assert short.text_frame(text) == long.encode(event)
    short.end()
    assert short.result()["choices"][0]["message"]["content"] == text


def test_model_name_cannot_break_the_template() -> None:
    made = machine(model='x"@text@')
    assert made.text_frame("hi") == made.encode(made.feed(Text("hi"))[0])


def test_stream_does_not_keep_its_text() -> None:
    made = machine(keep=False)
    made.text_frame("x")
    run(made, [Text("y"), Reasoning("z"), Refusal("w")])
    assert made.result()["choices"][0]["message"]["content"] == ""


def test_whole_answer_of_the_wrapper_passes_with_gaps_filled() -> None:
    own = {
        "object": "chat.completion",
        "id": "mine",
        "choices": [{"message": {"content": "hi", "tool_calls": None}, "delta": None}],
        "extra": 1,
    }
    made = machine()
    for delta in deltas(own):
        made.feed(delta)
    made.end()
    result = made.result()
    assert (result["id"], result["extra"], result["model"], result["created"]) == ("mine", 1, "m", 7)
    assert result["choices"] == [
        {
            "index": 0,
            "logprobs": None,
            "message": {"role": "assistant", "content": "hi", "refusal": None},
            "finish_reason": "stop",
        }
    ]
    assert result["usage"] == Usage().to_chat()
    ChatCompletion.model_validate(result, strict=True)


def test_whole_answer_that_more_follows_is_one_part_of_the_answer() -> None:
    own = {"object": "chat.completion", "id": "mine", "choices": [{"message": {"content": "hi"}}]}
    made = machine()
    for item in (own, " there"):
        for delta in deltas(item):
            made.feed(delta)
    made.end()
    assert made.result()["choices"][0]["message"]["content"] == "hi there"
    assert made.result()["id"] == "chatcmpl-1"


def test_inside_of_a_whole_answer_is_filled_in_too() -> None:
    calls = [{"function": {"name": "f"}}, {"id": "c", "custom": {"name": "g", "input": "x"}}]
    own = {
        "object": "chat.completion",
        "choices": [{"message": {"tool_calls": calls}}],
        "usage": {"input_tokens": 3, "output_tokens": 4, "prompt_tokens_details": {"audio_tokens": 1}},
    }
    made = machine()
    for delta in deltas(own):
        made.feed(delta)
    made.end()
    result = made.result()
    function, custom = result["choices"][0]["message"]["tool_calls"]
    assert function["id"].startswith("call_") and function["type"] == "function"
    assert function["function"] == {"name": "f", "arguments": "{}"}
    assert custom == {"id": "c", "type": "custom", "custom": {"name": "g", "input": "x"}}
    assert result["usage"]["total_tokens"] == 7
    assert result["usage"]["prompt_tokens_details"] == {"audio_tokens": 1, "cached_tokens": 0}
    ChatCompletion.model_validate(result, strict=True)


def test_two_whole_answers_are_parts_of_one() -> None:
    own = {"object": "chat.completion", "choices": [{"message": {"content": "hi"}}]}
    made = machine()
    for delta in [*deltas(own), *deltas(own)]:
        made.feed(delta)
    made.end()
    assert made.result()["choices"][0]["message"]["content"] == "hihi"


def test_whole_answer_of_the_other_surface_is_read() -> None:
    own = {
        "object": "response",
        "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "message", "content": [{"type": "output_text", "text": "hi"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        ],
        "usage": {"input_tokens": 1, "output_tokens": 2},
        "incomplete_details": {"reason": "max_output_tokens"},
    }
    made = machine()
    for delta in deltas(own):
        made.feed(delta)
    made.end()
    choice = made.result()["choices"][0]
    assert (choice["message"]["content"], choice["message"]["reasoning_content"]) == ("hi", "hm")
    assert choice["message"]["tool_calls"][0]["id"] == "c"
    assert choice["finish_reason"] == "length"
    assert made.result()["usage"]["total_tokens"] == 3


def test_call_that_never_has_a_name_is_no_answer() -> None:
    made = machine()
    made.feed(ToolCallPart(0, "a", None, "{}"))
    with pytest.raises(WrapperContractError, match="no name"):
        made.end()


def test_every_chunk_and_answer_is_valid_for_the_sdk() -> None:
    made = machine(tools={"f"}, include_usage=True)
    items: list[Delta] = [
        Reasoning("r"),
        Text("t"),
        Refusal("n"),
        Citation("u", "v"),
        ToolCallPart(0, None, "f", ""),
        Event({"type": "status", "data": {}}),
        Usage(1, 2),
    ]
    for event in run(made, items):
        ChatCompletionChunk.model_validate(event, strict=True)
        assert sse.frame(event).startswith("data: {")
    ChatCompletion.model_validate(made.result(), strict=True)


@pytest.mark.parametrize("make", [ChatCompletionMachine, ResponseMachine])
def test_text_that_is_kept_is_bounded(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flaskcompat.protocol.machine.MOST_TEXT", 10)
    machine = make(model="m")
    machine.start()
    for delta in (Reasoning("12345"), Text("12345")):
        machine.feed(delta)
    machine.check_size()
    machine.text_frame("6")
    with pytest.raises(AnswerTooLong, match="longer than 10"):
        machine.check_size()


def test_stream_that_keeps_nothing_has_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flaskcompat.protocol.machine.MOST_TEXT", 10)
    machine = ChatCompletionMachine(model="m", keep=False)
    machine.text_frame("x" * 100)
    machine.check_size()
