"""Events that a wrapper yields to drive a chat page, in the form Open WebUI acts on.

An event is any object with ``to_event_dict()`` giving ``{"type": str, "data": dict}``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal


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
