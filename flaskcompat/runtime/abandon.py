"""Ending a run whose reader has left."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any


class Abandoned(BaseException):
    """The reader has left: what makes the answer shall end.

    No ``Exception``, or a pipeline would wrap it, write a snapshot, and a fallback generator would start the next
    model.
    """


def close_upstreams(abandoned: BaseException) -> None:
    """Close the model streams that a run left open when it was abandoned.

    The client library's stream objects sit in reference cycles, so that tokens would keep coming, and being paid
    for, until the garbage collector runs. They are found in the frames that the exception passed through.
    """
    _close_streams(_frames_of(abandoned))


def close_callers_upstreams() -> None:
    """The same for the frames that led to the caller: for a thread whose exception nobody waits for."""
    _close_streams(frame for frame, _ in traceback.walk_stack(None))


async def aclose_callers_upstreams() -> None:
    """The same for a coroutine, and the coroutines that await it.

    Haystack 2 lets a component of an abandoned async pipeline go on; it is stopped when it calls back.
    """
    for stream in list(_streams_in((frame for frame, _ in traceback.walk_stack(None)), "AsyncStream")):
        await stream.close()


def _frames_of(error: BaseException | None) -> Iterator[FrameType]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield from (frame for frame, _ in traceback.walk_tb(error.__traceback__))
        error = error.__cause__ or error.__context__


def _close_streams(frames: Iterable[FrameType]) -> None:
    for stream in list(_streams_in(frames, "Stream")):
        stream.close()


def _streams_in(frames: Iterable[FrameType], name: str) -> Iterator[Any]:
    """The client library's stream objects of the class *name* that the frames hold, each once."""
    seen: set[int] = set()
    for frame in frames:
        for value in list(frame.f_locals.values()):
            kind = type(value)
            if id(value) not in seen and kind.__name__ == name and kind.__module__.startswith("openai"):
                seen.add(id(value))
                yield value
