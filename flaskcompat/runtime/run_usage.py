"""The token counts in the result of a whole run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from haystack.dataclasses import ChatMessage, ChatRole, StreamingChunk

from flaskcompat.protocol.usage import RUN_USAGE, Usage, usage_of


def run_usage(result: Any, arguments: Mapping[str, Any]) -> Iterator[StreamingChunk]:
    """A chunk with the token counts of the whole run, where its result has any."""
    usage = _usage_in(result, arguments)
    if usage is not None:
        yield StreamingChunk(content="", meta={"usage": usage.to_response(), RUN_USAGE: True})


def _usage_in(result: Any, arguments: Mapping[str, Any]) -> Usage | None:
    if not isinstance(result, Mapping):
        return None
    if isinstance(result.get("messages"), list):  # an agent: its history holds what it was given, too
        given = arguments.get("messages") or ()
        return _sum(_usages(result["messages"]), _usages(given))
    outputs = [output for output in result.values() if isinstance(output, Mapping)]
    parts = [
        _usage_in(output, {}) if "messages" in output else _sum(_usages(output.get("replies")), [])
        for output in outputs
    ]
    return _sum([part for part in parts if part is not None], [])


def _usages(messages: Any) -> list[Usage]:
    found = [
        usage_of(message.meta.get("usage"))
        for message in (messages if isinstance(messages, list | tuple) else ())
        if isinstance(message, ChatMessage) and message.is_from(ChatRole.ASSISTANT)
    ]
    return [usage for usage in found if usage is not None]


def _sum(usages: list[Usage], given: list[Usage]) -> Usage | None:
    """The sum of *usages* without those at their head that were *given*."""
    own = usages[len(given) :]
    return sum(own, Usage()) if own else None
