"""Ids of answers and of their parts."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

#: Makes a new id that starts with the prefix given, such as ``"chatcmpl-"`` or ``"resp_"``.
IdFactory = Callable[[str], str]

_last = 0  # microseconds


def new_id(prefix: str) -> str:
    """*prefix*, the time and 96 random bits; two answers never share an id, and none can be guessed.

    Of ids of a prefix, those made later sort behind: a client that sorts the calls of an answer by their ids has them
    in their order (Haystack's Responses generator does), and a database writes new ones beside each other.
    """
    global _last
    _last = now = max(_last + 1, time.time_ns() // 1000)  # threads that meet here get the same time at worst
    return f"{prefix}{now:013x}{secrets.token_hex(12)}"
