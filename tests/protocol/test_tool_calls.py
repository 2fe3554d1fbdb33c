from __future__ import annotations

from typing import Any

import pytest

from flaskcompat.protocol.deltas import ToolCallPart, ToolResult
from flaskcompat.protocol.tool_calls import ToolCallLedger, tool_names

from ..support import counting_ids


def ledger(*client_tools: str) -> ToolCallLedger:
    return ToolCallLedger(frozenset(client_tools), counting_ids())


def out(pieces: Any) -> list[tuple[int, str, str, str]]:
    return [(piece.call.number, piece.call.id, piece.call.name, piece.arguments) for piece in pieces]


def test_numbers_count_what_went_out() -> None:
    made = ledger("f")
    assert out(made.part(ToolCallPart(5, "a", "hidden", "{}"))) == []
    assert out(made.part(ToolCallPart(6, "b", "f", "{"))) == [(0, "b", "f", "{")]
    assert out(made.part(ToolCallPart(6, None, None, "}"))) == [(0, "b", "f", "}")]
    assert out(made.end()) == [(1, "a", "hidden", "{}")]
    assert made.unanswered


def test_index_starts_anew_with_each_step() -> None:
    made = ledger("f")
    assert out(made.part(ToolCallPart(0, "a", "f", "{}"))) == [(0, "a", "f", "{}")]
    made.end_step()
    assert out(made.part(ToolCallPart(0, "b", "f", "{}"))) == [(1, "b", "f", "{}")]


def test_second_call_on_the_same_index_is_another_call() -> None:
    made = ledger("f", "g")
    list(made.part(ToolCallPart(0, None, "f", "{}")))
    assert out(made.part(ToolCallPart(0, None, "g", "{}"))) == [(1, "call_2", "g", "{}")]


def test_id_and_name_repeated_in_each_piece_are_one_call() -> None:
    made = ledger("f")
    list(made.part(ToolCallPart(0, "a", "f", '{"x"')))
    assert out(made.part(ToolCallPart(0, "a", "f", ":1}"))) == [(0, "a", "f", ":1}")]


def test_key_stands_for_the_id_in_later_pieces() -> None:
    made = ledger("f", "g")
    list(made.part(ToolCallPart(1, "call_a", "f", "", "fc_a")))
    list(made.part(ToolCallPart(1, "call_b", "g", "", "fc_b")))
    assert out(made.part(ToolCallPart(1, "fc_a", None, "{}", "fc_a"))) == [(0, "call_a", "f", "{}")]


def test_name_and_id_may_come_later_than_the_arguments() -> None:
    made = ledger("f")
    assert out(made.part(ToolCallPart(0, None, None, "{"))) == []
    assert out(made.part(ToolCallPart(0, "a", "f", "}"))) == [(0, "a", "f", "{}")]


def test_result_strikes_out_its_call_alone() -> None:
    made = ledger()
    for id in ("a", "b"):
        list(made.part(ToolCallPart(0 if id == "a" else 1, id, "f", "{}")))
    assert made.result(ToolResult("a", "f", "{}", "")) is True
    assert out(made.end()) == [(0, "b", "f", "{}")]


def test_result_without_an_id_answers_the_first_call_of_its_name() -> None:
    made = ledger()
    list(made.part(ToolCallPart(0, None, "f", "{}")))
    list(made.part(ToolCallPart(1, None, "g", "{}")))
    made.result(ToolResult(None, "g", "{}", ""))
    assert [piece.call.name for piece in made.end()] == ["f"]


def test_result_with_an_id_answers_a_call_that_had_none() -> None:
    made = ledger()
    list(made.part(ToolCallPart(0, None, "f", "{}")))
    assert made.result(ToolResult("late", "f", "{}", "")) is True
    assert list(made.end()) == [] and not made.unanswered


def test_two_calls_under_one_id_stay_two() -> None:
    made = ledger("f")
    pieces = [*made.part(ToolCallPart(0, "same", "f", "{}")), *made.part(ToolCallPart(1, "same", "f", '{"x":1}'))]
    assert out(pieces) == [(0, "same", "f", "{}"), (1, "call_1", "f", '{"x":1}')]


def test_result_of_a_call_that_went_out_is_not_hidden() -> None:
    made = ledger("f")
    list(made.part(ToolCallPart(0, "a", "f", "{}")))
    assert made.result(ToolResult("a", "f", "{}", "")) is False
    assert made.result(ToolResult("unknown", "f", "{}", "")) is True


@pytest.mark.parametrize(
    ("tools", "names"),
    [
        (None, set()),
        ("nonsense", set()),
        ([3, {"type": "function", "function": {"name": "f"}}, {"type": "function", "name": "g"}], {"f", "g"}),
        ([{"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "h"}]}], {"n", "h"}),
        ([{"type": "web_search"}], set()),
    ],
)
def test_tool_names(tools: Any, names: set[str]) -> None:
    assert tool_names(tools) == names
