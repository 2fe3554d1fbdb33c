"""Bounds of the JSON schemas that clients bring: to look at one takes as long as it has parts, or longer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

#: Objects and arrays of a schema, and characters of it.
MOST_PARTS, MOST_TEXT = 2000, 64 * 1024

# Below these stand values, not schemas.
_VALUES = ("const", "default", "enum", "examples")


class TooLarge(ValueError):
    """A schema with more in it than is looked at."""


def objects_of(schema: Any) -> Iterator[dict[str, Any]]:
    """Each object of *schema* that is or holds schemas.

    :raises TooLarge: where there is too much.
    """
    rest: list[Any] = [schema]
    parts = text = 0
    while rest:
        part = rest.pop()
        if isinstance(part, str):
            text += len(part)
        elif isinstance(part, list):
            parts += 1
            rest += part
        elif isinstance(part, dict):
            parts += 1
            text += sum(map(len, part))
            yield part
            for key, value in part.items():
                if key in _VALUES:
                    text += len(json.dumps(value))
                else:
                    rest.append(value)
        if parts > MOST_PARTS or text > MOST_TEXT:
            raise TooLarge


def check_size(schema: Any) -> None:
    """:raises TooLarge: if *schema* has too much in it."""
    for _ in objects_of(schema):
        pass
