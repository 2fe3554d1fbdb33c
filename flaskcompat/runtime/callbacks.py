"""Callbacks for the streaming helpers that show in a chat page what an agent does."""

from __future__ import annotations

import json
from typing import Any

from flaskcompat.open_webui import PipelineEvent, create_details_tag, create_notification_event, create_status_event


def default_on_tool_call_start(
    tool_name: str, arguments: dict[str, Any], tool_call_id: str | None
) -> PipelineEvent | None:
    """A status line that names the tool."""
    return create_status_event(f"Calling '{tool_name}' tool...") if tool_name else None


def default_on_tool_call_end(
    tool_name: str, arguments: dict[str, Any], result: str, error: bool
) -> list[PipelineEvent | str]:
    """A finished status and a block with arguments and result; after an error a hidden status and a notice."""
    status = create_status_event(f"Called '{tool_name}' tool", done=True, hidden=error)
    if error:
        return [status, create_notification_event(f"Error calling '{tool_name}' tool", "error")]
    content = f"```\nArguments:\n{arguments}\n\nResponse:\n{result}\n```"
    return [status, create_details_tag(tool_name, f"Tool call result for '{tool_name}'", content)]


def default_on_pipeline_end(result: Any) -> str:
    """The run's result as text: JSON where it can be, else as Python prints it."""
    try:
        return json.dumps(result, ensure_ascii=False, default=_plain)
    except (TypeError, ValueError):
        return str(result)


def _plain(value: Any) -> Any:
    to_dict = getattr(value, "to_dict", None)
    return to_dict() if callable(to_dict) else str(value)
