"""The callbacks that users give to the streaming helpers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from haystack.dataclasses import StreamingChunk

from flaskcompat.log import log
from flaskcompat.open_webui import PipelineEvent
from flaskcompat.protocol.deltas import call_id

StreamItem = StreamingChunk | PipelineEvent | str | dict[str, Any]
CallbackResult = PipelineEvent | str | None | list[PipelineEvent | str]
OnToolCallStart = Callable[[str, dict[str, Any], str | None], CallbackResult]
OnToolCallEnd = Callable[[str, dict[str, Any], str, bool], CallbackResult]
OnReasoning = Callable[[str, dict[str, Any] | None], CallbackResult]
OnPipelineEnd = Callable[[Any], CallbackResult]


class Hooks:
    """The user's callbacks; what they give, flattened. An ``Exception`` of theirs is logged; the stream goes on."""

    def __init__(
        self,
        on_tool_call_start: OnToolCallStart | None,
        on_tool_call_end: OnToolCallEnd | None,
        on_reasoning: OnReasoning | None,
        on_pipeline_end: OnPipelineEnd | None,
    ) -> None:
        self._tool_call_start = on_tool_call_start
        self._tool_call_end = on_tool_call_end
        self._reasoning = on_reasoning
        self._pipeline_end = on_pipeline_end
        #: Whether chunks need looking at.
        self.listening = any((on_tool_call_start, on_tool_call_end, on_reasoning))

    def before(self, chunk: StreamingChunk) -> Iterator[StreamItem]:
        """What comes before *chunk*."""
        if self._tool_call_start:
            for call in chunk.tool_calls or ():
                if call.tool_name:
                    args = call.tool_name, _arguments(call.arguments), call_id(call)
                    yield from _called("on_tool_call_start", self._tool_call_start, *args)
        if self._tool_call_end and (result := chunk.tool_call_result) is not None:
            text = result.result if isinstance(result.result, str) else str(result.result)
            name, arguments = result.origin.tool_name, result.origin.arguments
            yield from _called("on_tool_call_end", self._tool_call_end, name, arguments, text, bool(result.error))
        if self._reasoning and (reasoning := chunk.reasoning) is not None:
            yield from _called("on_reasoning", self._reasoning, reasoning.reasoning_text, reasoning.extra)

    def after(self, result: Any) -> Iterator[StreamItem]:
        """What ends the answer."""
        if self._pipeline_end:
            for item in _called("on_pipeline_end", self._pipeline_end, result):
                yield StreamingChunk(content=item) if isinstance(item, str) else item


def _called(name: str, callback: Callable[..., CallbackResult], *args: Any) -> Iterator[PipelineEvent | str]:
    try:
        result = callback(*args)
    except Exception as error:
        log.opt(exception=error).error("{} failed; the stream goes on", name)
        return
    if isinstance(result, list | tuple):
        yield from (item for item in result if item)
    elif result:
        yield result


def _arguments(arguments: Any) -> dict[str, Any]:
    """Arguments as far as the first piece of a call has them; a model often sends them later."""
    if isinstance(arguments, str) and arguments:
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return {}
    return dict(arguments) if isinstance(arguments, Mapping) else {}
