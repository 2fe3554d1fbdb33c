"""Input items as lists show them: each with an id, contents as parts, calls with a status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: By the type of an item: how its id begins.
ID_PREFIXES = {
    "message": "msg_",
    "function_call": "fc_",
    "function_call_output": "fco_",
    "reasoning": "rs_",
}
_PART_DEFAULTS: dict[str, dict[str, Any]] = {
    "output_text": {"annotations": [], "logprobs": []},
    "input_image": {"detail": "auto"},
}


def listed_item(item: Mapping[str, Any], id: str) -> dict[str, Any]:
    """*item* with the *id* given, and what OpenAI's types need beside it."""
    match item.get("type") or "message":
        case "message":
            own = "output_text" if item.get("role") == "assistant" else "input_text"
            content = _parts(item.get("content"), own)
            return {"status": "completed", **item, "type": "message", "id": id, "content": content}
        case "function_call" | "function_call_output":
            return {"status": "completed", **item, "id": id}
        case "reasoning":
            return {"summary": [], **item, "id": id}
    return {**item, "id": id}


def _parts(content: Any, kind: str) -> list[dict[str, Any]]:
    if isinstance(content, str):
        content = [{"type": kind, "text": content}]
    parts = [{**part, "type": kind} if part.get("type") == "text" else part for part in content or ()]
    return [{**_PART_DEFAULTS.get(str(part.get("type")), {}), **part} for part in parts]
