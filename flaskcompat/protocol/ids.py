"""Ids of answers and of their parts."""

from __future__ import annotations

import secrets
from collections.abc import Callable

#: Makes a new id that starts with the prefix given, such as ``"chatcmpl-"`` or ``"resp_"``.
IdFactory = Callable[[str], str]


def new_id(prefix: str) -> str:
    """*prefix* and 128 random bits; two answers never share an id, and none can be guessed."""
    return prefix + secrets.token_hex(16)
