"""Answers that must have a form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flaskcompat.errors import InvalidValue
from flaskcompat.protocol import answer_check as answer_check_module
from flaskcompat.protocol.answer_check import InvalidAnswer, answer_check
from flaskcompat.protocol.chat import ChatCompletionMachine
from flaskcompat.protocol.deltas import Delta, Refusal, Text, ToolCallPart, ToolResult
from flaskcompat.protocol.responses import ResponseMachine

PLACE = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "degrees": {"$ref": "#/$defs/number"}},
    "required": ["city"],
    "$defs": {"number": {"type": "integer"}},
}


def chat(schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "place", "schema": schema}}}


def response(schema: Any) -> dict[str, Any]:
    return {"text": {"format": {"type": "json_schema", "name": "place", "schema": schema}}}


@pytest.mark.parametrize("body", [chat(PLACE), response(PLACE)])
def test_schema(body: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    check = answer_check(body)
    assert check is not None
    check('{"city": "Paris", "degrees": 21}')
    for wrong in ('{"city": 5}', '{"city": "s3cret", "degrees": "s3cret"}', "s3cret", "", "[" * 100_000):
        with pytest.raises(InvalidAnswer) as caught:
            check(wrong)
        assert (caught.value.status, caught.value.code) == (500, "invalid_answer")
    assert "$.degrees" in caplog.text and "s3cret" not in caplog.text


def test_object_without_a_schema() -> None:
    check = answer_check({"response_format": {"type": "json_object"}})
    assert check is not None
    check("{}")
    for wrong in ("[]", "{", "no"):
        with pytest.raises(InvalidAnswer):
            check(wrong)


@pytest.mark.parametrize("body", [{}, {"text": {}}, {"text": {"format": {"type": "text"}}}, {"text": {"format": None}}])
def test_any_text_will_do(body: dict[str, Any]) -> None:
    assert answer_check(body) is None


@pytest.mark.parametrize(
    "schema",
    [
        None,
        "text",
        {"type": "nothing"},
        {"$ref": "http://127.0.0.1:9/x"},
        {"prefixItems": [{"$ref": "file:///etc/passwd"}]},
        {"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False},
        {"anyOf": [{}] * 100_000},
        {"title": "x" * 100_000},
        {"enum": ["x" * 100_000]},
    ],
)
def test_what_is_no_schema_is_refused(schema: Any) -> None:
    with pytest.raises(InvalidValue, match="text.format"):
        answer_check(response(schema))
    with pytest.raises(InvalidValue, match="response_format"):
        answer_check(chat(schema))


def test_references_to_nowhere_are_the_clients_fault() -> None:
    check = answer_check(response({"$ref": "#/$defs/none"}))
    assert check is not None
    with pytest.raises(InvalidValue):
        check("{}")


def test_expressions_are_not_run() -> None:
    check = answer_check(response({"type": "string", "pattern": "^(a+)+$"}))
    assert check is not None
    check(json.dumps("a" * 50 + "!"))  # would take for years
    assert answer_check(response({"type": "string", "pattern": r"^\p{L}+$"})) is not None  # one of another language's


def test_schema_that_takes_for_ever_ends_at_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_check_module, "MOST_TIME", 0.05)
    twice = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(40)} | {"a40": {}}
    check = answer_check(response({"$ref": "#/$defs/a0", "$defs": twice}))
    assert check is not None
    with pytest.raises(InvalidValue, match="cannot be followed"):
        check("{}")


@pytest.mark.parametrize("text", ["NaN", '{"a": Infinity}'])
def test_what_is_json_in_python_alone_is_none(text: str) -> None:
    check = answer_check(response({}))
    assert check is not None
    with pytest.raises(InvalidAnswer):
        check(text)


@pytest.mark.parametrize("schema", [{"multipleOf": 0.1}, {"$schema": [], "const": {"$ref": "http://x"}}])
def test_odd_schemas_and_numbers_are_no_faults_of_the_server(schema: Any) -> None:
    with pytest.raises((InvalidValue, InvalidAnswer)):
        check = answer_check(response(schema))
        assert check is not None
        check("1" * 400)


@pytest.mark.parametrize("machine", [ChatCompletionMachine, ResponseMachine])
def test_machine_asks_once_the_answer_is_whole(machine: Any) -> None:
    def ended(*deltas: Delta) -> Any:
        made = machine(model="m", check=answer_check(response(PLACE)), tools={"t"})
        made.start()
        for delta in deltas:
            made.feed(delta)
        return made.end()

    assert ended(Text('{"city": '), Text('"Paris"}'))
    assert ended(Refusal("I will not."))
    # The text waited for a call that this side has answered itself.
    assert ended(ToolCallPart(0, "call_0", "t"), ToolResult("call_0", "t", "{}", "r"), Text('{"city": "Paris"}'))
    assert ended(ToolCallPart(0, "call_1", "t", "{}"))
    with pytest.raises(InvalidAnswer):
        ended(Text('{"city": '), Text("5}"))
