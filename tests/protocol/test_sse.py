from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flaskcompat.protocol import sse


@given(st.text(st.characters(codec=None)))
def test_quote_is_ascii_on_one_line_and_loses_only_lone_surrogates(text: str) -> None:
    quoted = sse.quote(sse.clean(text))
    assert quoted.isascii() and quoted.isprintable()
    assert json.loads(quoted) == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def test_lone_surrogates_are_replaced_everywhere() -> None:
    value: dict[str, Any] = {"a\ud800": ["b\udfff", {"c": "😀\ud83d"}, 3]}
    assert json.loads(sse.dumps(value)) == {"a\ufffd": ["b\ufffd", {"c": "😀\ufffd"}, 3]}


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), b"x", {"a": {1}}])
def test_what_is_no_json_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        sse.dumps({"value": value})


def test_frames() -> None:
    assert sse.frame({"a": "é"}) == 'data: {"a":"\\u00e9"}\n\n'
    assert sse.frame({"a": 1}, "x.y") == 'event: x.y\ndata: {"a":1}\n\n'
