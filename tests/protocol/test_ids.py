"""Ids."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from flaskcompat.protocol import ids
from flaskcompat.protocol.ids import new_id


def test_later_ones_sort_behind() -> None:
    made = [new_id("fc_") for _ in range(1000)]
    assert made == sorted(made) and len({id[:16] for id in made}) == 1000


def test_clock_that_goes_back_does_not_turn_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    before = new_id("fc_")
    monkeypatch.setattr(ids.time, "time_ns", lambda: 0)
    assert new_id("fc_") > before


def test_all_differ_and_hold_what_cannot_be_guessed() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = [*pool.map(new_id, ["resp_"] * 4000)]
    assert len({id[-24:] for id in made}) == 4000 and all(len(id) == 42 for id in made)
