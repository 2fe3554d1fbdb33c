from __future__ import annotations

from typing import Any

import pytest
from haystack.dataclasses import ChatMessage, FileContent, ImageContent, TextContent

from flaskcompat import (
    chat_messages_from_openai_messages,
    chat_messages_from_openai_response,
    get_input_files,
    get_last_user_input_text,
    get_last_user_message,
    is_user_message,
)

PNG = "data:image/png;base64,aGk="


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([], None),
        ([{"role": "assistant", "content": "x"}], None),
        (
            [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}],
            "b",
        ),
        ([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}], "a\nb"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], None),
        ([{"role": "user", "content": [{"type": "input_text", "text": "a"}]}], "a"),
    ],
)
def test_last_user_message(messages: list[dict[str, Any]], text: str | None) -> None:
    assert get_last_user_message(messages) == text


@pytest.mark.parametrize(
    ("items", "text"),
    [
        ([], None),
        ([{"role": "user", "content": "a"}], "a"),
        ([{"type": "message", "role": "user", "content": "a"}, {"type": "function_call_output", "output": "b"}], "a"),
        (
            [{"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]}],
            "b",
        ),
        ([{"role": "user", "content": "a"}, {"role": "user", "content": [{"type": "input_image"}]}], "a"),
        ([{"type": "reasoning", "role": "user", "content": "a"}], None),
    ],
)
def test_last_user_input_text(items: list[dict[str, Any]], text: str | None) -> None:
    assert get_last_user_input_text(items) == text


def test_input_files_are_whole_parts_with_an_id_in_order() -> None:
    a = {"type": "input_file", "file_id": "file-a", "filename": "a.txt"}
    b = {"type": "input_file", "file_id": "file-b"}
    items = [
        {"role": "user", "content": [a, {"type": "input_file", "file_data": "x"}, {"type": "input_text", "text": "y"}]},
        {"role": "assistant", "content": [a]},
        {"role": "user", "content": "text"},
        {"type": "function_call"},
        {"role": "user", "content": [b]},
    ]
    assert get_input_files(items) == [a, b]


def test_is_user_message() -> None:
    assert is_user_message({"role": "user"}) and not is_user_message({"role": "tool"})


def roles(messages: list[ChatMessage]) -> list[str]:
    return [message.role.value for message in messages]


def test_chat_messages() -> None:
    messages = chat_messages_from_openai_messages(
        [
            {"role": "system", "content": "s"},
            {"role": "developer", "content": [{"type": "text", "text": "d"}]},
            {"role": "user", "content": "u", "name": "ann"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
                    {"id": "b", "type": "function", "function": {"name": "g", "arguments": ""}},
                ],
            },
            {"role": "tool", "tool_call_id": "b", "content": "out b"},
            {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "out a"}]},
            {"role": "assistant", "content": "done"},
        ]
    )
    assert roles(messages) == ["system", "system", "user", "assistant", "tool", "tool", "assistant"]
    assert [m.text for m in messages[:3]] == ["s", "d", "u"] and messages[2].name == "ann"
    assert [(c.id, c.tool_name, c.arguments) for c in messages[3].tool_calls] == [("a", "f", {"x": 1}), ("b", "g", {})]
    assert messages[3].tool_calls[0].extra == {"call_id": "a"}
    results = [m.tool_call_results[0] for m in messages[4:6]]
    assert [(r.result, r.origin.tool_name, r.origin.id) for r in results] == [("out b", "g", "b"), ("out a", "f", "a")]


def test_response_items() -> None:
    messages = chat_messages_from_openai_response(
        [
            {"role": "developer", "content": "d"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "u"}]},
            {"type": "reasoning", "summary": []},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "let me see"}]},
            {"type": "function_call", "call_id": "a", "name": "f", "arguments": '{"x": 1}'},
            {"type": "function_call", "call_id": "b", "name": "g", "arguments": "not json"},
            {"type": "function_call_output", "call_id": "a", "output": "out a"},
            {"type": "function_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "out b"}]},
            {"type": "function_call_output", "call_id": "?", "output": {"odd": 1}},
            {"type": "web_search_call", "id": "ws"},
        ]
    )
    assert roles(messages) == ["system", "user", "assistant", "assistant", "tool", "tool", "tool"]
    assert messages[2].text == "let me see"
    assert [(c.id, c.arguments) for c in messages[3].tool_calls] == [("a", {"x": 1}), ("b", {"input": "not json"})]
    assert [m.tool_call_results[0].result for m in messages[4:]] == ["out a", "out b", '{"odd": 1}']
    assert [m.tool_call_results[0].origin.tool_name for m in messages[4:]] == ["f", "g", "function"]


def test_images_and_files_become_content() -> None:
    [chat] = chat_messages_from_openai_messages(
        [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
                    {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="}},
                ],
            }
        ]
    )
    text, image, file = chat._content
    assert isinstance(text, TextContent) and text.text == "look"
    assert isinstance(image, ImageContent)
    assert (image.base64_image, image.mime_type, image.detail) == ("aGk=", "image/png", "low")
    assert isinstance(file, FileContent) and (file.filename, file.mime_type) == ("a.pdf", "application/pdf")
    [item] = chat_messages_from_openai_response(
        [
            {
                "role": "user",
                "content": [{"type": "input_image", "image_url": PNG}, {"type": "input_text", "text": "look"}],
            }
        ]
    )
    assert [type(part) for part in item._content] == [ImageContent, TextContent]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_image", "image_url": "https://example.com/x.png"},
        {"type": "input_file", "file_id": "file-a"},
        {"type": "input_audio", "input_audio": {}},
        {"type": "input_image", "image_url": "data:image/png;base64,§"},
    ],
)
def test_what_has_no_haystack_form_is_kept_and_named(part: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    [message] = chat_messages_from_openai_response(
        [{"role": "user", "content": [{"type": "input_text", "text": "see"}, part]}]
    )
    assert message.text == "see"
    assert message.meta["openai_parts"] == [part]
    assert part["type"] in caplog.text


def test_images_in_a_tool_s_output_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    output = [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": PNG}]
    left = {"type": "input_file", "file_id": "file-a"}
    seen, plain = chat_messages_from_openai_response(
        [
            {"type": "function_call_output", "call_id": "c", "output": [*output, left]},
            {"type": "function_call_output", "call_id": "c", "output": [output[0], left]},
        ]
    )
    text, image = seen.tool_call_results[0].result
    assert isinstance(text, TextContent) and isinstance(image, ImageContent)
    assert plain.tool_call_results[0].result == "a"
    assert seen.meta["openai_parts"] == plain.meta["openai_parts"] == [left]
    assert "input_file" in caplog.text


def test_images_of_other_roles_are_kept_and_named(caplog: pytest.LogCaptureFixture) -> None:
    image = {"type": "input_image", "image_url": PNG}
    for role in ("developer", "assistant"):
        [message] = chat_messages_from_openai_response([{"role": role, "content": [image]}])
        assert message.meta["openai_parts"] == [image]
    assert caplog.text.count("input_image") == 2


def test_odd_calls_do_not_raise() -> None:
    [message, odd] = chat_messages_from_openai_messages(
        [
            {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "[" * 100_000}}]},
            {"role": "assistant", "tool_calls": [{"id": "b", "custom": "x"}, {"custom": {"name": "g", "input": "y"}}]},
        ]
    )
    assert message.tool_calls[0].arguments == {"input": "[" * 100_000}
    assert [c.tool_name for c in odd.tool_calls] == ["g"], "the other says nothing that could be called"


def test_refusals_and_legacy_calls_survive() -> None:
    messages = chat_messages_from_openai_messages(
        [
            {"role": "assistant", "refusal": "no"},
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "out"},
            {"role": "assistant", "content": None},
            {"role": "user", "content": [{"type": "input_audio"}]},
            {"role": "tool", "tool_call_id": "x", "content": None},
        ]
    )
    assert roles(messages) == ["assistant", "assistant", "tool", "user", "tool"]
    assert messages[0].text == "no"
    assert messages[1].tool_calls[0].tool_name == "f"
    assert messages[2].tool_call_results[0].origin.tool_name == "f"
    assert messages[4].tool_call_results[0].result == ""


def test_long_runs_of_one_thing_take_time_in_proportion_and_one_line_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    call = {"type": "function_call", "call_id": "", "name": "", "arguments": ""}
    [message] = chat_messages_from_openai_response([call] * 40_000)
    assert len(message.tool_calls) == 40_000
    assert chat_messages_from_openai_response([{"type": "x"}] * 1000 + [{"type": "y"}]) == []
    chat_messages_from_openai_messages([{"role": "user", "content": [{"type": "x"}] * 1000}])
    chat_messages_from_openai_messages([{"role": "assistant", "content": "a", "tool_calls": [{"type": "x"}] * 1000}])
    assert [record.getMessage().split(": ")[1] for record in caplog.records] == [
        "'x' (1000), 'y' (1)",
        "'x' (1000)",
        "'x' (1000)",
    ]


def test_calls_of_custom_tools_are_calls_with_their_text_as_input() -> None:
    call, result = chat_messages_from_openai_response(
        [
            {"type": "custom_tool_call", "call_id": "call_1", "name": "apply_patch", "input": "*** Begin"},
            {"type": "custom_tool_call_output", "call_id": "call_1", "output": "done"},
        ]
    )
    assert call.tool_call is not None and call.tool_call.arguments == {"input": "*** Begin"}
    assert result.tool_call_result is not None and result.tool_call_result.origin.tool_name == "apply_patch"
