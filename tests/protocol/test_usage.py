from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from flaskcompat.protocol.usage import Usage, UsageMeter, usage_of


@pytest.mark.parametrize(
    ("source", "usage"),
    [
        (None, None),
        ({}, None),
        ({"prompt_tokens": 0, "completion_tokens": 0}, None),
        ({"prompt_tokens": "3", "completion_tokens": None}, None),
        ({"prompt_tokens": 3, "completion_tokens": 4.0, "total_tokens": 7}, Usage(3, 4)),
        (SimpleNamespace(input_tokens=3, output_tokens=4), Usage(3, 4)),
        (
            {
                "prompt_tokens": 3,
                "completion_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 1},
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
            Usage(3, 4, cached=1, reasoning=2),
        ),
        (
            {"input_tokens": 3, "output_tokens": 4}
            | {"input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 2}}
            | {"output_tokens_details": {"reasoning_tokens": 3}},
            Usage(3, 4, 1, 2, 3),
        ),
        ({"prompt_tokens": 3, "completion_tokens": 1, "prompt_tokens_details": None}, Usage(3, 1)),
    ],
)
def test_usage_of(source: Any, usage: Usage | None) -> None:
    assert usage_of(source) == usage


def test_calls_add_up_and_one_call_keeps_its_largest_count() -> None:
    meter = UsageMeter()
    for usage in (Usage(10, 1), Usage(10, 5)):
        meter.add(usage)
    meter.next_call()
    meter.add(Usage(20, 2))
    assert meter.total() == Usage(30, 7)


@pytest.mark.parametrize(
    ("of_run", "total"), [(Usage(50, 9, of_run=True), Usage(50, 9)), (Usage(1, 1, of_run=True), Usage(10, 5))]
)
def test_count_of_the_run_holds_where_it_is_larger(of_run: Usage, total: Usage) -> None:
    meter = UsageMeter()
    meter.add(Usage(10, 5))
    meter.add(of_run)
    assert meter.total() == total


def test_runs_add_up() -> None:
    meter = UsageMeter()
    meter.add(Usage(10, 5, of_run=True))
    meter.add(Usage(1, 1))
    meter.add(Usage(3, 2, of_run=True))
    assert meter.total() == Usage(13, 7)
