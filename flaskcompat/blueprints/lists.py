"""Lists of what is stored, a page at a time, as OpenAI's clients turn them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from flask import Response, request

from flaskcompat.blueprints.failures import json_reply
from flaskcompat.errors import InvalidType, InvalidValue
from flaskcompat.stores.records import Page, Query, Record, UnknownCursor, is_id

#: How many entries a page has at most, unless its list says otherwise.
MOST = 100


def asked(query: Query, most: int = MOST) -> Query:
    """*query* with the ``limit``, ``after`` and ``order`` that the current request asks for.

    :raises InvalidRequest: for one that is none.
    """
    if query.label is not None and "\0" in query.label:
        raise InvalidValue("A filter holds a NUL.")
    limit, after, order = (request.args.get(name) or None for name in ("limit", "after", "order"))
    if limit is not None:
        if not limit.isascii() or not limit.isdigit() or len(limit) > 9:
            raise InvalidType("Invalid 'limit': it must be a number.", param="limit")
        if not 1 <= int(limit) <= most:
            raise InvalidValue(f"Invalid 'limit': it must be from 1 to {most}.", param="limit")
        query = replace(query, limit=int(limit))
    if order not in (None, "asc", "desc"):
        raise InvalidValue("Invalid 'order': it must be 'asc' or 'desc'.", param="order")
    if order is not None:
        query = replace(query, descending=order == "desc")
    if after is not None and not is_id(after):
        raise _unknown_cursor()
    return replace(query, after=after)


def page_reply(find: Callable[[Query], Page], query: Query, show: Callable[[Record], dict[str, Any]]) -> Response:
    """The page that *query* asks for.

    :raises InvalidValue: if there is nothing to go on after.
    """
    try:
        page = find(query)
    except UnknownCursor:
        raise _unknown_cursor() from None
    return list_reply([show(record) for record in page.records], page.has_more)


def part_reply(entries: Sequence[dict[str, Any]], query: Query) -> Response:
    """The part of *entries*, all there are in their order, that *query* asks for.

    :raises InvalidValue: if there is nothing to go on after.
    """
    ordered = list(entries)[::-1] if query.descending else list(entries)
    if query.after is not None:
        start = next((index for index, entry in enumerate(ordered, 1) if entry["id"] == query.after), None)
        if start is None:
            raise _unknown_cursor()
        ordered = ordered[start:]
    return list_reply(ordered[: query.limit], len(ordered) > query.limit)


def list_reply(data: list[dict[str, Any]], has_more: bool) -> Response:
    ids = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return json_reply({"object": "list", "data": data, **ids, "has_more": has_more})


def _unknown_cursor() -> InvalidValue:
    return InvalidValue("Invalid 'after': nothing of this list has that id.", param="after")
