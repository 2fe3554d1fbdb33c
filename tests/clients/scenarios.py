"""What clients are asked to do, and what has to come of it.

A client's program prints one JSON object for each scenario that it can do, ``{"scenario": "chat plain", ...}``. The
first word is the surface: ``chat``, ``responses``, or ``api`` for what belongs to neither.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Result = dict[str, Any]


def _plain(result: Result) -> bool:
    return bool(result["text"] == "You said: hello there (turn 1)")


def _streamed(result: Result) -> bool:
    return _plain(result) and result["pieces"] >= 4


def _tools(result: Result) -> bool:
    return "21 degrees in Paris" in result["text"] and result.get("calls", ["Paris"]) == ["Paris"]


def _parallel(result: Result) -> bool:
    both = all(f"21 degrees in {city}" in result["text"] for city in ("Paris", "Rome"))
    return both and result.get("calls", ["Paris", "Rome"]) == ["Paris", "Rome"]


def _typed(result: Result) -> bool:
    return bool(result["value"] == {"city": "Paris", "degrees": 21})


def _reasoning(result: Result) -> bool:
    said = result["text"] == "You said: think about it please (turn 1)"
    return said and bool(result["reasoning"] == "There are 4 words.")


def _usage(result: Result) -> bool:
    return bool((result["input"], result["output"]) == (11, 7))


def _turns(result: Result) -> bool:
    return bool(result["text"] == "You said: three (turn 3)")


def _error(result: Result) -> bool:
    """An unknown model is told by the server's message."""
    return "no-such-model" in result["error"]


def _failure(result: Result) -> bool:
    """A stream that fails after two words is an error, and no exception's text is in it."""
    return bool(result["error"]) and "secret" not in str(result)


def _models(result: Result) -> bool:
    return {"scripted", "scripted_async"} <= set(result["ids"])


def _files(result: Result) -> bool:
    return bool(result["content"] == "red is the colour" and result["listed"] and result["deleted"])


def _file_input(result: Result) -> bool:
    """A file that was uploaded, or sent along, is a part of the message."""
    return bool(result["text"] == "You said: read this, with a file (turn 1)")


#: What a result has to be, by the name of the scenario without its surface.
CHECKS: dict[str, Callable[[Result], bool]] = {
    "plain": _plain,
    "streamed": _streamed,
    "tools": _tools,
    "tools streamed": _tools,
    "parallel": _parallel,
    "typed": _typed,
    "reasoning": _reasoning,
    "reasoning streamed": _reasoning,
    "usage": _usage,
    "usage streamed": _usage,
    "turns": _turns,
    "error": _error,
    "failure": _failure,
    "models": _models,
    "files": _files,
    "file input": _file_input,
}


#: What every client is asked for on each surface; the rest is beyond.
DEMANDED = [name for name in CHECKS if name not in ("models", "files", "file input")]


def check(name: str, result: Result) -> bool:
    """Whether *result* is what has to come of the scenario *name*."""
    try:
        return CHECKS[name.partition(" ")[2]](result)
    except KeyError:
        return False
