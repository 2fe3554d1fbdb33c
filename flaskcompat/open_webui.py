"""What wrappers have to do with Open WebUI: events that drive its page, its requests in the background, its users.

An event is any object with ``to_event_dict()`` giving ``{"type": str, "data": dict}``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal
from urllib.parse import unquote

#: What a request in the background is for.
Task = Literal["title", "tags", "follow_ups", "queries", "prompt", "text", "other"]

# Its prompts for tasks begin so; the one that puts retrieved passages before a user's question does, too.
_TASK = re.compile(r"\s*### Task:\s*+(?!Respond to the user query)")
# The key of the JSON object that a task's prompt asks for.
_TASK_KEY = re.compile(r'\{\s*"(title|tags|follow_ups|queries|prompt|text)"\s*:')
# The header that names the task, where a connection has it (see `background_task`), and its values.
_TASK_HEADER = "x-openwebui-task"
_TASKS: dict[str, Task] = {
    "title_generation": "title",
    "tags_generation": "tags",
    "follow_up_generation": "follow_ups",
    "query_generation": "queries",
    "image_prompt_generation": "prompt",
    "autocomplete_generation": "text",
}
_USER_HEADERS = {name: f"x-openwebui-user-{name}" for name in ("id", "name", "email", "role")}


@dataclass(frozen=True)
class OpenWebUIUser:
    """Who sits before the page, as Open WebUI says; anybody may say so who reaches this server without it."""

    id: str | None = None
    name: str | None = None
    email: str | None = None
    role: str | None = None


def background_task(body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Task | None:
    """What Open WebUI asks for on its own, beside the answer to a question; None for a question.

    A pipeline that is slow, or that does something, need not run for it: answer with an empty text, and the page goes
    without. Recognised as the prompts of Open WebUI 0.12 are: one user message, not streamed, that begins with
    ``### Task:`` (an administrator may have changed them). Surer is the request's header ``X-OpenWebUI-Task``, which a
    connection has whose settings give it as ``{{TASK}}``.

    :param headers: the request's, as a method gets them that declares a parameter ``headers``.
    """
    if headers is not None and (named := headers.get(_TASK_HEADER)) is not None:
        return _TASKS.get(named, "other") if named else None
    messages = body.get("messages", body.get("input"))
    if body.get("stream") or not isinstance(messages, list) or len(messages) != 1:
        return None
    content = messages[0].get("content")
    if messages[0].get("role") != "user" or not isinstance(content, str) or not _TASK.match(content):
        return None
    found = _TASK_KEY.search(content)
    return found[1] if found else "other"  # type: ignore[return-value]


def user_of(headers: Mapping[str, str]) -> OpenWebUIUser | None:
    """The user whom Open WebUI names with ``ENABLE_FORWARD_USER_INFO_HEADERS``; None where it names nobody.

    :param headers: the request's, as a method gets them that declares a parameter ``headers``.
    """
    found = {name: headers[header] for name, header in _USER_HEADERS.items() if header in headers}
    if "name" in found:  # the one that is encoded
        found["name"] = unquote(found["name"])
    return OpenWebUIUser(**found) if found else None


@dataclass(frozen=True)
class PipelineEvent:
    """An event beside the text of an answer: ``type`` names it, ``data`` is any JSON object."""

    type: str
    data: dict[str, Any] = field(default_factory=dict)

    def to_event_dict(self) -> dict[str, Any]:
        """``{"type", "data"}``, as it goes on the wire."""
        return {"type": self.type, "data": self.data}

    def to_dict(self) -> dict[str, Any]:
        """The same as :meth:`to_event_dict`."""
        return self.to_event_dict()


@dataclass(frozen=True)
class OpenWebUIEvent(PipelineEvent):
    """An event that means something to Open WebUI only."""


def create_status_event(description: str, done: bool = False, hidden: bool = False) -> PipelineEvent:
    """A line of progress above the answer; ``done`` stops its animation, ``hidden`` takes it away."""
    return PipelineEvent("status", {"description": description, "done": done, "hidden": hidden})


def create_notification_event(
    content: str, notification_type: Literal["info", "success", "warning", "error"] = "info"
) -> PipelineEvent:
    """A notice in the corner of the page."""
    return PipelineEvent("notification", {"type": notification_type, "content": content})


def create_message_event(content: str) -> OpenWebUIEvent:
    """Append *content* to the message shown."""
    return OpenWebUIEvent("message", {"content": content})


def create_replace_event(content: str) -> OpenWebUIEvent:
    """Replace the message shown by *content*."""
    return OpenWebUIEvent("replace", {"content": content})


def create_source_event(source_data: dict[str, Any]) -> OpenWebUIEvent:
    """A reference below the message: ``{"source": {"name"}, "document": [...], "metadata": [...]}``."""
    return OpenWebUIEvent("source", source_data)


def create_chat_completion_event(data: dict[str, Any]) -> OpenWebUIEvent:
    """Hand *data* over as a completion of the chat."""
    return OpenWebUIEvent("chat:completion", data)


def create_details_tag(tool_name: str, summary: str, content: str) -> str:
    """Text that Open WebUI renders as a block to unfold; a string, not an event.

    Tool name and summary are escaped, *content* stays Markdown.
    """
    return (
        f'<details type="{escape(tool_name)}" done="true">\n<summary>{escape(summary, quote=False)}</summary>\n\n'
        f"{content}\n</details>\n\n"
    )
