"""A stream of events that were made before, or are being made elsewhere."""

from __future__ import annotations

from typing import Any

from flaskcompat.errors import APIError
from flaskcompat.protocol import sse
from flaskcompat.protocol.machine import StreamEvent
from flaskcompat.protocol.usage import Usage


def split(text: str) -> list[str]:
    """The frames of a piece of a stream, one by one."""
    return [f"{frame}\n\n" for frame in text.split("\n\n") if frame]


class Replay:
    """Has the part of a machine that a stream needs; takes frames, and gives them as they are.

    :param number: the sequence number of the first of them.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self.good_tail = self.failed_tail = sse.DONE
        self.usage = Usage()

    def start(self) -> list[StreamEvent]:
        return []

    def end(self) -> list[StreamEvent]:
        return []

    def take(self, item: Any) -> list[StreamEvent]:
        raise TypeError("a log holds frames alone")

    def text_frame(self, text: str) -> str:
        self._number += 1
        return text

    def check_size(self) -> None:
        pass

    def encode(self, event: StreamEvent) -> str:
        return sse.frame(event, event["type"])

    def fail(self, error: APIError) -> list[StreamEvent]:
        """What ends a stream that cannot go on; the response itself may go on."""
        told = error.error()
        flat = {"code": told["code"], "message": told["message"], "param": told["param"]}
        return [{"type": "error", **flat, "error": told, "sequence_number": self._number}]

    def fail_instead(self, ending: list[StreamEvent], error: APIError) -> list[StreamEvent]:
        return self.fail(error)

    def streamed_result(self) -> dict[str, Any]:
        raise TypeError("a log has no answer")
