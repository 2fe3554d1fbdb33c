"""Chat Completions: the machine behind ``chat.completion`` and ``chat.completion.chunk``.

::

    stream  := role delta* finish usage? [DONE]
    delta   := content | reasoning | refusal | annotations | tool_calls | event
    failure := role? delta* error
"""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from typing import Any

from flaskcompat.errors import APIError
from flaskcompat.protocol import sse
from flaskcompat.protocol.deltas import Citation, ToolResult
from flaskcompat.protocol.machine import Machine, StreamEvent, filled
from flaskcompat.protocol.tool_calls import Call, CallPiece

_FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
# Stands for the text while the template of a content chunk is made; no character that JSON escapes.
_MARK = "@text@"


class ChatCompletionMachine(Machine):
    """See :class:`Machine`.

    :param include_usage: end the stream with a usage chunk (``stream_options.include_usage``).
    :param keep: remember the text for :meth:`result`; a stream of any length then needs memory for all of it.
    """

    object = "chat.completion"
    good_tail = sse.DONE
    failed_tail = ""  # [DONE] after an error would look like a good end

    def __init__(self, *, include_usage: bool = False, keep: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.id = self._ids("chatcmpl-")
        self._include_usage = include_usage
        self._keep = keep or self._check is not None
        self._length = 0  # characters of text so far
        self._content = StringIO()
        self._thoughts = StringIO()
        self._refused = StringIO()
        self._annotations: list[dict[str, Any]] = []
        self._calls: list[Call] = []
        self._finish_reason = "stop"
        self._frame: tuple[str, str] | None = None  # what stands before and after a text

    def encode(self, event: StreamEvent) -> str:
        return sse.frame(event)

    def text_frame(self, text: str) -> str:
        if self._reason is not None:
            self._go_on()
        self._untouched = False
        self._length += len(text)
        if self._keep:
            self._content.write(text)
        if self._frame is None:
            head, tail = self.encode(self._chunk({"content": _MARK})).rsplit(f'"{_MARK}"', 1)
            self._frame = (head, tail)
        else:
            head, tail = self._frame
        return head + sse.quote(text) + tail

    @property
    def _held(self) -> int:
        return self._content.tell() + self._thoughts.tell() + self._refused.tell()

    def _said(self) -> str | None:
        return None if self._refused.tell() else self._content.getvalue()

    def result(self) -> dict[str, Any]:
        if self._whole is not None:
            return self._completed(self._whole)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": self._content.getvalue() or (None if self._calls or self._refused.tell() else ""),
            "refusal": self._refused.getvalue() or None,
        }
        if self._thoughts.tell():
            message["reasoning_content"] = self._thoughts.getvalue()
        if self._annotations:
            message["annotations"] = self._annotations
        if self._calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in self._calls
            ]
        choice = {"index": 0, "message": message, "finish_reason": self._finish_reason, "logprobs": None}
        return {
            "id": self.id,
            "object": self.object,
            "created": self._created,
            "model": self.model,
            "choices": [choice],
            "usage": self._meter.total().to_chat(),
        }

    def _completed(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """A whole answer that the wrapper made itself, with what it left out filled in."""
        base = {"id": self.id, "object": self.object, "created": self._created, "model": self.model}
        choices = [self._completed_choice(i, choice) for i, choice in enumerate(answer["choices"])]
        return filled({**answer, "choices": choices}, base | {"usage": self._meter.total().to_chat()})

    def _completed_choice(self, index: int, choice: Mapping[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", "content": None, "refusal": None, **choice["message"]}
        for key in ("tool_calls", "function_call", "audio", "annotations"):
            if key in message and message[key] is None:
                del message[key]
        if message.get("tool_calls"):
            message["tool_calls"] = [self._completed_call(call) for call in message["tool_calls"]]
        reason = choice.get("finish_reason")
        if reason not in _FINISH_REASONS:
            reason = "tool_calls" if message.get("tool_calls") else self._finish_reason
        completed = {"index": index, "logprobs": None, **choice, "message": message, "finish_reason": reason}
        completed.pop("delta", None)
        return completed

    def _completed_call(self, call: Mapping[str, Any]) -> dict[str, Any]:
        kind = call.get("type") or ("custom" if "custom" in call else "function")
        base = {"id": call.get("id") or self._ids("call_"), "type": kind}
        return filled(call, base | ({"function": {"arguments": "{}"}} if kind == "function" else {}))

    # -- events --------------------------------------------------------------------------------------------

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> StreamEvent:
        return {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}],
        }

    def _emit(self, delta: dict[str, Any]) -> None:
        self._events.append(self._chunk(delta))

    def _open_stream(self) -> None:
        self._emit({"role": "assistant"})

    def _text(self, text: str) -> None:
        self._length += len(text)
        if self._keep:
            self._content.write(text)
        self._emit({"content": text})

    def _reasoning(self, text: str) -> None:
        if self._keep:
            self._thoughts.write(text)
        self._emit({"reasoning_content": text})

    def _refusal(self, text: str) -> None:
        if self._keep:
            self._refused.write(text)
        self._emit({"refusal": text})

    def _citation(self, citation: Citation) -> None:
        # Told all at once, at the end: the SDK's helper cannot add up lists whose entries have no index.
        self._annotations.append({"type": "url_citation", "url_citation": citation.placed(self._length)})

    def _call(self, piece: CallPiece) -> None:
        delta: dict[str, Any] = {"index": piece.call.number}
        if piece.first:
            self._calls.append(piece.call)
            delta |= {"id": piece.call.id, "type": "function"}
            delta["function"] = {"name": piece.call.name, "arguments": piece.arguments}
        else:
            delta["function"] = {"arguments": piece.arguments}
        self._emit({"tool_calls": [delta]})

    def _hidden_call(self, result: ToolResult) -> None:
        """Chat has no form for a call that is not the client's to run: shown, it would make clients loop."""

    def _event(self, payload: dict[str, Any]) -> None:
        # A valid chunk with one key more: code that reads choices[0] is safe, Open WebUI acts on the key.
        self._events.append({**self._chunk({}), "event": payload})

    def _close_stream(self, reason: str) -> None:
        self._finish_reason = reason
        if self._annotations:
            self._emit({"annotations": self._annotations})
        self._events.append(self._chunk({}, reason))
        if self._include_usage:
            usage = {"choices": [], "usage": self._meter.total().to_chat()}
            self._events.append({**self._chunk({}), **usage})

    def _close_failed(self, error: APIError) -> None:
        self._events.append(error.body())
