"""The items of a response while they are open: each emits the events of its own part of the stream.

::

    message   := output_item.added content_part.added output_text.delta* output_text.done content_part.done
                 output_item.done
    call      := output_item.added function_call_arguments.delta* function_call_arguments.done output_item.done
    reasoning := output_item.added reasoning_summary_part.added reasoning_summary_text.delta*
                 reasoning_summary_text.done reasoning_summary_part.done output_item.done
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from io import StringIO
from typing import Any, Protocol

from flaskcompat.protocol.deltas import Citation
from flaskcompat.protocol.tool_calls import Call

_CALL = "response.function_call_arguments."


class Emit(Protocol):
    """Adds an event of a type, with these fields."""

    def __call__(self, type: str, **fields: Any) -> None: ...


class Item(ABC):
    """An output item while it is open; emits its own events.

    :param emit: adds an event to the stream.
    """

    def __init__(self, emit: Emit, id: str, index: int) -> None:
        self._emit = emit
        self.id = id
        self.index = index
        #: What it consists of by now: the open part of a message, thoughts, or arguments.
        self.text = StringIO()

    def emit(self, type: str, **fields: Any) -> None:
        self._emit(type, item_id=self.id, output_index=self.index, **fields)

    def _added(self, item: dict[str, Any]) -> None:
        self._emit("response.output_item.added", output_index=self.index, item=item)

    def close(self, status: str) -> dict[str, Any]:
        """Emit what ends the item; gives it as it stands in ``output``."""
        item = self._finished(status)
        self._emit("response.output_item.done", output_index=self.index, item=item)
        return item

    def break_off(self) -> dict[str, Any]:
        """The same for an item whose run has failed."""
        return self.close("incomplete")

    @abstractmethod
    def _finished(self, status: str) -> dict[str, Any]: ...


class Message(Item):
    def __init__(self, emit: Emit, id: str, index: int) -> None:
        super().__init__(emit, id, index)
        self._content: list[dict[str, Any]] = []
        self._kind: str | None = None
        self._annotations: list[dict[str, Any]] = []
        self._added({"id": id, "type": "message", "status": "in_progress", "role": "assistant", "content": []})

    def add(self, kind: str, text: str) -> None:
        """Add to the part that is open, ``output_text`` or ``refusal``; opens one where it must."""
        self._open(kind)
        self.text.write(text)
        event = self.delta_event(kind, text)
        self._emit(event.pop("type"), **event)

    def cite(self, citation: Citation) -> None:
        self._open("output_text")
        index = len(self._annotations)
        annotation = {"type": "url_citation", **citation.placed(len(self.text.getvalue()))}
        self._annotations.append(annotation)
        self.emit(
            "response.output_text.annotation.added",
            content_index=len(self._content),
            annotation_index=index,
            annotation=annotation,
        )

    @property
    def parts(self) -> list[dict[str, Any]]:
        """All parts by now, with the open one as it is."""
        return self._content if self._kind is None else [*self._content, self._part(self.text.getvalue())]

    def delta_event(self, kind: str, text: str) -> dict[str, Any]:
        """The event of one delta, without its sequence number."""
        event = {"type": f"response.{kind}.delta", "item_id": self.id, "output_index": self.index}
        event |= {"content_index": len(self._content), "delta": text}
        if kind == "output_text":
            event["logprobs"] = []
        return event

    def _open(self, kind: str) -> None:
        if self._kind == kind:
            return
        self._close_part()
        self._kind = kind
        self.emit("response.content_part.added", content_index=len(self._content), part=self._part(""))

    def _part(self, text: str) -> dict[str, Any]:
        if self._kind == "refusal":
            return {"type": "refusal", "refusal": text}
        annotations = list(self._annotations)
        return {"type": "output_text", "text": text, "annotations": annotations, "logprobs": []}

    def _close_part(self) -> None:
        if self._kind is None:
            return
        part, index = self._part(self.text.getvalue()), len(self._content)
        if self._kind == "refusal":
            self.emit("response.refusal.done", content_index=index, refusal=part["refusal"])
        else:
            self.emit("response.output_text.done", content_index=index, text=part["text"], logprobs=[])
        self.emit("response.content_part.done", content_index=index, part=part)
        self._content.append(part)
        self._kind, self.text, self._annotations = None, StringIO(), []

    def _finished(self, status: str) -> dict[str, Any]:
        self._close_part()
        return {
            "id": self.id, "type": "message", "status": status, "role": "assistant", "content": self._content
        }  # fmt: skip


class Reasoning(Item):
    def __init__(self, emit: Emit, id: str, index: int) -> None:
        super().__init__(emit, id, index)
        self._added({"id": id, "type": "reasoning", "status": "in_progress", "summary": []})
        self.emit("response.reasoning_summary_part.added", summary_index=0, part=self._part(""))

    def add(self, text: str) -> None:
        self.text.write(text)
        self.emit("response.reasoning_summary_text.delta", summary_index=0, delta=text)

    def _part(self, text: str) -> dict[str, Any]:
        return {"type": "summary_text", "text": text}

    def _finished(self, status: str) -> dict[str, Any]:
        text = self.text.getvalue()
        self.emit("response.reasoning_summary_text.done", summary_index=0, text=text)
        self.emit("response.reasoning_summary_part.done", summary_index=0, part=self._part(text))
        return {"id": self.id, "type": "reasoning", "status": status, "summary": [self._part(text)]}


class FunctionCall(Item):
    def __init__(self, emit: Emit, id: str, index: int, call: Call) -> None:
        super().__init__(emit, id, index)
        self.call = call
        self._last = ""  # character of the arguments but space
        self._added(self._as_item("in_progress"))

    def add(self, arguments: str) -> None:
        if arguments:
            self._last = arguments.rstrip()[-1:] or self._last
            self.text.write(arguments)
            self.emit(_CALL + "delta", delta=arguments)

    def is_complete(self) -> bool:
        """Nothing can follow a JSON object that is closed."""
        if self._last != "}":  # reading all of it at each piece would take the square of its length
            return False
        try:
            return isinstance(json.loads(self.text.getvalue()), dict)
        except (ValueError, RecursionError):
            return False

    def break_off(self) -> dict[str, Any]:
        # Without a word: some clients run whatever call is said to be done, whole or not (Codex 0.169 does).
        return self._as_item("incomplete")

    def _as_item(self, status: str) -> dict[str, Any]:
        item = {"id": self.id, "type": "function_call", "status": status}
        return item | {
            "call_id": self.call.id, "name": self.call.name, "arguments": self.text.getvalue()
        }  # fmt: skip

    def _finished(self, status: str) -> dict[str, Any]:
        if not self.text.getvalue().strip():
            self.add("{}")
        item = self._as_item(status)
        self.emit(_CALL + "done", arguments=item["arguments"], name=self.call.name)
        return item
