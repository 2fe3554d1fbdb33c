"""Token counts: one form for all that models report, and their sum over a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import add
from typing import Any

#: Key in a chunk's meta that marks its ``usage`` as the count of the whole run, not of one model call.
RUN_USAGE = "usage_of_run"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or more model calls; ``cached``, ``cache_written`` and ``reasoning`` are parts of the others.

    :param of_run: the count of a whole run, as its result tells it, and not of one model call.
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    cache_written: int = 0
    reasoning: int = 0
    of_run: bool = False

    @property
    def total(self) -> int:
        return self.input + self.output

    def __add__(self, other: Usage) -> Usage:
        return self._combined(add, other)

    def at_least(self, other: Usage) -> Usage:
        """The larger of each count: what a model reports several times in one call only grows."""
        return self._combined(max, other)

    def _combined(self, combine: Callable[[int, int], int], other: Usage) -> Usage:
        return Usage(
            combine(self.input, other.input),
            combine(self.output, other.output),
            combine(self.cached, other.cached),
            combine(self.cache_written, other.cache_written),
            combine(self.reasoning, other.reasoning),
        )

    def to_chat(self) -> dict[str, Any]:
        """OpenAI's ``CompletionUsage``."""
        return {
            "prompt_tokens": self.input,
            "completion_tokens": self.output,
            "total_tokens": self.total,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        }

    def to_response(self) -> dict[str, Any]:
        """OpenAI's ``ResponseUsage``; several clients read the details without looking if they are there."""
        return {
            "input_tokens": self.input,
            "input_tokens_details": {"cached_tokens": self.cached, "cache_write_tokens": self.cache_written},
            "output_tokens": self.output,
            "output_tokens_details": {"reasoning_tokens": self.reasoning},
            "total_tokens": self.total,
        }


# More tokens than this are no count: beyond it, clients read JSON's numbers wrong.
_ABSURD = 2**53


def _count(source: Any, *path: str) -> int:
    for name in path:
        source = source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)
    return int(source) if isinstance(source, int | float) and 0 < source < _ABSURD else 0


def usage_of(source: Any, *, of_run: bool = False) -> Usage | None:
    """The counts in a ``usage`` mapping or object, in chat's or responses' names; None where there are none."""
    if not source:
        return None
    usage = Usage(
        input=_count(source, "prompt_tokens") or _count(source, "input_tokens"),
        output=_count(source, "completion_tokens") or _count(source, "output_tokens"),
        cached=_count(source, "prompt_tokens_details", "cached_tokens")
        or _count(source, "input_tokens_details", "cached_tokens"),
        cache_written=_count(source, "input_tokens_details", "cache_write_tokens"),
        reasoning=_count(source, "completion_tokens_details", "reasoning_tokens")
        or _count(source, "output_tokens_details", "reasoning_tokens"),
        of_run=of_run,
    )
    return usage if usage.total else None


_NOTHING = Usage()


class UsageMeter:
    """Sums what the model calls of a run report.

    Within one call the larger count holds (some models report as they go); calls add up. A count for the
    whole run replaces the sum of its calls where it is larger: a run knows calls that were not streamed, a
    stream knows calls whose result the run does not give out.
    """

    def __init__(self) -> None:
        self._runs = _NOTHING
        self._calls = _NOTHING
        self._call = _NOTHING

    def add(self, usage: Usage) -> None:
        if not usage.of_run:
            self._call = self._call.at_least(usage)
            return
        self.next_call()
        self._runs += usage if usage.total > self._calls.total else self._calls
        self._calls = _NOTHING

    def next_call(self) -> None:
        """What comes now belongs to another model call."""
        if self._call is not _NOTHING:
            self._calls += self._call
            self._call = _NOTHING

    def total(self) -> Usage:
        if self._calls is _NOTHING and self._call is _NOTHING:
            return self._runs
        return self._runs + self._calls + self._call
