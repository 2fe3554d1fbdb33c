"""JSON and server-sent events as text.

All text is ASCII: JSON escapes the rest. So a frame has one ``data:`` line whatever the text holds (U+2028
and U+0085 end a line for some readers), and no character can be cut in two.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring_ascii
from typing import Any

#: The last frame of a stream that ended well.
DONE = "data: [DONE]\n\n"
#: A comment, which every client skips: keeps proxies from cutting a silent stream.
KEEP_ALIVE = ": keep-alive\n\n"

# NaN and Infinity are no JSON: better refused here than met by a client.
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode

# Every UTF-16 surrogate escapes to \ud8.. to \udf..; so does the tail of emoji, which are fine.
_SURROGATE = "\\ud"


def clean(text: str) -> str:
    """*text* with lone surrogates replaced by U+FFFD and pairs of them joined; costs nothing for ASCII."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _repaired(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {_repaired(key): _repaired(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_repaired(item) for item in value]
    return value


#: A :func:`clean` text as a JSON string; the hot path, 0.2 us for a word.
quote = encode_basestring_ascii


def dumps(value: Any) -> str:
    """*value* as compact ASCII JSON.

    :raises TypeError: for what is no JSON value.
    :raises ValueError: for NaN, an infinity, or a structure that contains itself.
    """
    text = _encode(value)
    if _SURROGATE in text:
        return _encode(_repaired(value))
    return text


def frame(payload: dict[str, Any], name: str | None = None) -> str:
    """One event: ``data:`` alone, or with an ``event:`` line before it."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {dumps(payload)}\n\n"
