from __future__ import annotations

from typing import Any

import pytest
from haystack.dataclasses import ChatMessage

from flaskcompat import (
    PipelineEvent,
    default_on_pipeline_end,
    default_on_tool_call_end,
    default_on_tool_call_start,
)
from flaskcompat.open_webui import (
    OpenWebUIEvent,
    OpenWebUIUser,
    background_task,
    create_chat_completion_event,
    create_details_tag,
    create_message_event,
    create_notification_event,
    create_replace_event,
    create_source_event,
    create_status_event,
    user_of,
)
from flaskcompat.runtime.wrapper import Headers


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (create_status_event("x"), {"type": "status", "data": {"description": "x", "done": False, "hidden": False}}),
        (
            create_status_event("x", done=True, hidden=True),
            {"type": "status", "data": {"description": "x", "done": True, "hidden": True}},
        ),
        (create_notification_event("x"), {"type": "notification", "data": {"type": "info", "content": "x"}}),
        (
            create_notification_event("x", notification_type="error"),
            {"type": "notification", "data": {"type": "error", "content": "x"}},
        ),
        (create_message_event("x"), {"type": "message", "data": {"content": "x"}}),
        (create_replace_event("x"), {"type": "replace", "data": {"content": "x"}}),
        (create_source_event({"source": {}}), {"type": "source", "data": {"source": {}}}),
        (create_chat_completion_event({"done": True}), {"type": "chat:completion", "data": {"done": True}}),
        (PipelineEvent("custom"), {"type": "custom", "data": {}}),
        (PipelineEvent(type="custom", data={"a": 1}), {"type": "custom", "data": {"a": 1}}),
    ],
)
def test_events(event: PipelineEvent, expected: dict[str, Any]) -> None:
    assert event.to_event_dict() == event.to_dict() == expected


def test_open_webui_events_are_pipeline_events() -> None:
    assert isinstance(create_message_event("x"), OpenWebUIEvent)
    assert issubclass(OpenWebUIEvent, PipelineEvent)


def test_details_tag_escapes_its_head_alone() -> None:
    tag = create_details_tag('a"b', "1 < 2", "**bold** <b>")
    assert tag == '<details type="a&quot;b" done="true">\n<summary>1 &lt; 2</summary>\n\n**bold** <b>\n</details>\n\n'


def test_default_tool_callbacks() -> None:
    start = default_on_tool_call_start("add", {}, "call_1")
    assert start is not None and start.data["description"] == "Calling 'add' tool..." and not start.data["done"]
    assert default_on_tool_call_start("", {}, None) is None
    status, details = default_on_tool_call_end("add", {"a": 1}, "3", False)
    assert isinstance(status, PipelineEvent) and status.data["done"] and not status.data["hidden"]
    assert isinstance(details, str) and "{'a': 1}" in details and "3" in details
    status, notice = default_on_tool_call_end("add", {}, "", True)
    assert isinstance(status, PipelineEvent) and status.data["hidden"]
    assert isinstance(notice, PipelineEvent) and notice.data["type"] == "error"


def test_default_pipeline_end_is_text() -> None:
    result = {"llm": {"replies": [ChatMessage.from_assistant("é")]}}
    assert "é" in default_on_pipeline_end(result) and default_on_pipeline_end(result).startswith("{")
    loop: list[Any] = []
    loop.append(loop)
    assert default_on_pipeline_end(loop) == str(loop)
    assert default_on_pipeline_end({"a": object}).startswith("{")


def asked(text: Any, stream: bool = False) -> dict[str, Any]:
    return {"model": "m", "stream": stream, "messages": [{"role": "user", "content": text}]}


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ('### Task:\nGenerate a title.\n### Output:\nJSON format: { "title": "your concise title here" }', "title"),
        ('### Task:\nGenerate tags.\n### Output:\nJSON format: { "tags": ["tag1"] }\n<chat>{"title": 1}', "tags"),
        ('### Task:\nPredict.\nan object with a "follow_ups" key.\nJSON format: { "follow_ups": ["a"] }', "follow_ups"),
        ('### Task:\nDescribe.\nStrictly return in JSON format:\n{\n    "prompt": "..."\n}', "prompt"),
        ("### Task:\nof an administrator's own", "other"),
        ("### Task:\nRespond to the user query using the provided context", None),
        ("What is a ### Task:?", None),
        (None, None),
        ([{"type": "text", "text": "### Task:"}], None),
    ],
)
def test_background_task_is_recognised(text: Any, task: str | None) -> None:
    assert background_task(asked(text)) == task


def test_header_tells_more_surely() -> None:
    def headers(value: str) -> Headers:
        return Headers([("X-OpenWebUI-Task", value)])

    assert background_task(asked("in words of an administrator"), headers("title_generation")) == "title"
    assert background_task(asked("any"), headers("emoji_generation")) == "other"
    assert background_task(asked("### Task:\nof the user"), headers("")) is None
    assert background_task(asked("### Task:\nGenerate"), Headers([("Host", "x")])) == "other"


def test_task_on_responses() -> None:
    body = {"model": "m", "input": asked('### Task:\nJSON format: { "title": "x" }')["messages"]}
    assert background_task(body) == "title"


def test_question_is_no_task_whatever_it_says() -> None:
    assert background_task(asked("### Task:\nof the user", stream=True)) is None
    body = asked("### Task:\nof the user")
    assert background_task({**body, "messages": [{"role": "system", "content": "x"}, *body["messages"]]}) is None
    assert background_task({"model": "m", "input": "### Task:"}) is None


def test_user_as_open_webui_names_it() -> None:
    names = [("X-OpenWebUI-User-Name", "Zo%C3%AB O"), ("X-OpenWebUI-User-Id", "7"), ("Host", "x")]
    assert user_of(Headers(names)) == OpenWebUIUser(id="7", name="Zoë O")
    # An address is as it is: one may have been made to become another's.
    assert user_of(Headers([("X-OpenWebUI-User-Email", "alic%65@x")])) == OpenWebUIUser(email="alic%65@x")
    assert user_of(Headers([("Host", "x")])) is None
