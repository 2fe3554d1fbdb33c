"""What a request asks of the model, as generators take it."""

from __future__ import annotations

from typing import Any

import pytest
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.utils import Secret

from flaskcompat import generation_kwargs_from_body, tools_from_body
from flaskcompat.errors import InvalidValue
from flaskcompat.protocol.parameters import answer_format

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTION = {"name": "weather", "description": "tells", "parameters": SCHEMA, "strict": True}
NESTED, FLAT = {"type": "function", "function": FUNCTION}, {"type": "function", **FUNCTION}
HUGE = {**FLAT, "parameters": {"anyOf": [{}] * 100_000}}
CHAT_FORMAT = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA, "strict": True}}
TEXT_FORMAT = {"type": "json_schema", "name": "place", "schema": SCHEMA, "strict": True}


@pytest.mark.parametrize("name", ["temperature", "top_p", "logprobs", "stop", "seed", "presence_penalty"])
def test_sampling_keeps_its_names(name: str) -> None:
    body = {"model": "m", "messages": [], "stream": True, "metadata": {"a": "b"}, "store": True, name: 1}
    assert generation_kwargs_from_body(body) == {name: 1}


def test_nothing_asked_gives_nothing() -> None:
    assert generation_kwargs_from_body({"model": "m", "input": "hi", "stream": True}) == {}
    assert generation_kwargs_from_body({"model": "m", "input": "hi", "text": {}, "tools": []}, "responses") == {}


@pytest.mark.parametrize(
    ("sent", "chat"),
    [
        ("max_tokens", "max_tokens"),
        ("max_completion_tokens", "max_completion_tokens"),
        ("max_output_tokens", "max_completion_tokens"),
    ],
)
def test_most_tokens_under_the_name_of_the_api(sent: str, chat: str) -> None:
    assert generation_kwargs_from_body({sent: 7}) == {chat: 7}
    assert generation_kwargs_from_body({sent: 7}, "responses") == {"max_output_tokens": 7}


def test_reasoning_effort_of_both() -> None:
    for body in ({"reasoning_effort": "low"}, {"reasoning": {"effort": "low"}}):
        assert generation_kwargs_from_body(body) == {"reasoning_effort": "low"}
        assert generation_kwargs_from_body(body, "responses") == {"reasoning": {"effort": "low"}}
    body = {"reasoning": {"summary": "auto"}}
    assert generation_kwargs_from_body(body) == {}
    assert generation_kwargs_from_body(body, "responses") == body


@pytest.mark.parametrize("form", [{"response_format": CHAT_FORMAT}, {"text": {"format": TEXT_FORMAT}}])
def test_form_of_the_answer(form: dict[str, Any]) -> None:
    assert answer_format(form) == TEXT_FORMAT
    assert generation_kwargs_from_body(form) == {"response_format": CHAT_FORMAT}
    assert generation_kwargs_from_body(form, "responses") == {"text": {"format": TEXT_FORMAT}}


def test_json_without_a_schema_and_verbosity() -> None:
    body = {"text": {"format": {"type": "json_object"}, "verbosity": "low"}}
    assert generation_kwargs_from_body(body) == {"response_format": {"type": "json_object"}, "verbosity": "low"}
    assert generation_kwargs_from_body(body, "responses") == body
    assert answer_format({"response_format": {"no": "type"}}) is None


@pytest.mark.parametrize("tool", [NESTED, FLAT])
@pytest.mark.parametrize(
    "choice", [{"type": "function", "function": {"name": "weather"}}, {"type": "function", "name": "weather"}]
)
def test_tools_and_choice_of_both(tool: dict[str, Any], choice: dict[str, Any]) -> None:
    body = {"tools": [tool], "tool_choice": choice, "parallel_tool_calls": False}
    assert generation_kwargs_from_body(body) == {
        "tools": [NESTED],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": False,
    }
    assert generation_kwargs_from_body(body, "responses") == {
        "tools": [FLAT],
        "tool_choice": {"type": "function", "name": "weather"},
        "parallel_tool_calls": False,
    }
    without = generation_kwargs_from_body(body, tools=False)
    assert without.keys() == {"tool_choice", "parallel_tool_calls"}
    [made] = tools_from_body(body)
    assert (made.name, made.description, made.parameters) == ("weather", "tells", SCHEMA)
    with pytest.raises(Exception, match="client's"):
        made.invoke(city="Paris")


def test_tools_that_one_api_alone_knows(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="flaskcompat")
    body = {
        "tools": [{"type": "web_search"}, {"type": "namespace", "name": "n", "tools": []}],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
    }
    assert generation_kwargs_from_body(body) == {}
    assert "namespace" in caplog.text and "web_search" in caplog.text
    assert generation_kwargs_from_body(body, "responses") == body
    assert tools_from_body(body) == []
    hosted = {"tools": [FLAT], "tool_choice": {"type": "web_search"}}
    assert generation_kwargs_from_body(hosted) == {"tools": [NESTED]}
    assert generation_kwargs_from_body(hosted, "responses") == hosted


def test_custom_tools_and_allowed_ones() -> None:
    custom = {"type": "custom", "name": "shell", "description": "runs"}
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]}
    body = {"tools": [custom], "tool_choice": allowed}
    found = generation_kwargs_from_body(body)
    assert found["tools"] == [{"type": "custom", "custom": {"name": "shell", "description": "runs"}}]
    nested = {"mode": "required", "tools": [{"type": "function", "function": {"name": "weather"}}]}
    assert found["tool_choice"] == {"type": "allowed_tools", "allowed_tools": nested}
    assert generation_kwargs_from_body(found, "responses") == body


def test_grammar_of_a_custom_tool() -> None:
    grammar = {"definition": "start: A", "syntax": "lark"}
    flat = {"type": "custom", "name": "patch", "format": {**grammar, "type": "grammar"}}
    nested = {"type": "custom", "custom": {"name": "patch", "format": {"type": "grammar", "grammar": grammar}}}
    for tool in (flat, nested):
        assert generation_kwargs_from_body({"tools": [tool]})["tools"] == [nested]
        assert generation_kwargs_from_body({"tools": [tool]}, "responses")["tools"] == [flat]


def test_function_for_responses_is_as_strict_as_it_was_for_chat() -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": None, "type": "web_search"}}]
    [tool] = generation_kwargs_from_body({"tools": tools}, "responses")["tools"]
    assert tool == {
        "type": "function",
        "name": "f",
        "strict": False,
        "parameters": {"type": "object", "properties": {}},
    }
    [tool] = generation_kwargs_from_body({"tools": tools})["tools"]
    assert tool == {"type": "function", "function": {"name": "f"}}


def test_null_of_the_other_api_hides_nothing() -> None:
    body = {"max_output_tokens": 7, "max_completion_tokens": None, "reasoning": {"effort": "low"}}
    body |= {"reasoning_effort": None, "text": {"verbosity": "low"}, "verbosity": None, "logit_bias": None}
    kwargs = generation_kwargs_from_body(body)
    assert kwargs == {"max_completion_tokens": 7, "reasoning_effort": "low", "verbosity": "low"}


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize(
    "body",
    [
        {"text": "hello"},
        {"reasoning": "high"},
        {"response_format": "json"},
        {"tools": "all"},
        {"tools": [1, {"type": 5}]},
        {"tools": [FLAT], "tool_choice": {"type": "allowed_tools", "tools": [{"name": "x"}, 1]}},
        {"tools": [FLAT], "tool_choice": {"type": "allowed_tools", "tools": "abc"}},
        {"tools": [{"type": "function", "name": "f", "function": {"a": 1}}]},
        {"tools": [{"type": "function", "name": "f", "function": "x"}]},
        {"tools": [{"type": "function", "name": "f", "function": None}]},
        {"tools": [{"type": "custom", "custom": None, "name": "f", "format": "x"}]},
    ],
)
def test_odd_requests_are_taken_for_what_they_say(api: Any, body: dict[str, Any]) -> None:
    generation_kwargs_from_body(body, api)
    if isinstance(body.get("tools"), list) and "name" in str(body["tools"]) and "custom" not in str(body["tools"]):
        assert len(tools_from_body(body)) == 1
        assert len(generation_kwargs_from_body(body, api)["tools"]) == 1


def test_a_bad_format_does_not_hide_a_good_one() -> None:
    body = {"response_format": "json", "text": {"format": {"type": "json_object"}}}
    assert answer_format(body) == {"type": "json_object"}
    sly = {"response_format": {"type": "json_schema", "json_schema": {"type": "text", "schema": SCHEMA}}}
    assert answer_format(sly) == {"type": "json_schema", "schema": SCHEMA}


def test_text_is_what_comes_by_default() -> None:
    for api in ("chat", "responses"):
        assert generation_kwargs_from_body({"text": {"format": {"type": "text"}}}, api) == {}  # type: ignore[arg-type]


def test_log_probabilities_are_switched_on_with_their_number() -> None:
    assert generation_kwargs_from_body({"top_logprobs": 3}) == {"top_logprobs": 3, "logprobs": True}


@pytest.mark.parametrize("tools", [[{**FLAT, "parameters": {"type": "objekt"}}], [FLAT, FLAT], [HUGE]])
def test_tools_that_are_none_are_the_clients_fault(tools: list[Any]) -> None:
    with pytest.raises(InvalidValue, match="tools"):
        tools_from_body({"tools": tools})


def test_openai_generator_takes_them() -> None:
    generator = OpenAIChatGenerator(api_key=Secret.from_token("x"))
    kwargs = generation_kwargs_from_body({"tools": [FLAT], "max_output_tokens": 3, "text": {"format": TEXT_FORMAT}})
    sent = generator._prepare_api_call(messages=[ChatMessage.from_user("hi")], generation_kwargs=kwargs)
    assert sent["tools"] == [NESTED] and sent["max_completion_tokens"] == 3 and sent["response_format"] == CHAT_FORMAT
    described = tools_from_body({"tools": [NESTED]})
    sent = generator._prepare_api_call(messages=[ChatMessage.from_user("hi")], tools=described)
    assert sent["tools"][0]["function"]["name"] == "weather"
