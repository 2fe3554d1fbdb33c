"""Citations of retrieved documents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flaskcompat.protocol.deltas import Citation

_URL_KEYS = ("url", "source", "file_path", "file_name", "path")
_TITLE_KEYS = ("title", "name", "file_name", "file_path", "source", "url")


def citations(documents: Iterable[Any]) -> list[Citation]:
    """One citation for each source among Haystack *documents*; yield them after the text that rests on them.

    URL and title come from the documents' ``meta`` (``url``, ``source``, ``file_path``…; ``title``, ``name``…),
    else from the document's id. Several passages of one source give one citation.
    """
    found: dict[str, Citation] = {}
    for document in documents:
        meta = document.meta or {}
        url = _first(meta, _URL_KEYS) or f"document:{document.id}"
        found.setdefault(url, Citation(url, _first(meta, _TITLE_KEYS) or url))
    return list(found.values())


def _first(meta: dict[str, Any], keys: tuple[str, ...]) -> str | None:
    return next((str(meta[key]) for key in keys if meta.get(key)), None)
