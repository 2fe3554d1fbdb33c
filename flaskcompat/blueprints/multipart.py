"""Multipart bodies, read part by part under limits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData, State

from flaskcompat.errors import InvalidMultipart, RequestTooLarge

#: Limits of a body: parts, bytes of a field that is no file, and bytes of the headers of one part.
MAX_PARTS = 1000
MAX_FIELD_BYTES = 500_000
MAX_PART_HEAD_BYTES = 16 * 1024

_PIECE = 64 * 1024
_BLANK_LINE = re.compile(rb"\r\n\r\n|\r\r|\n\n")


@dataclass(frozen=True)
class Upload:
    """A file as it was sent."""

    filename: str | None
    content_type: str | None
    content: IO[bytes]


@dataclass(frozen=True)
class Form:
    """What a body holds, by name; the first part of each name."""

    fields: dict[str, str]
    files: dict[str, Upload]


def read_form(body: IO[bytes], boundary: str | None, make_content: Callable[[str], IO[bytes]]) -> Form:
    """Read *body* to its end.

    :param make_content: gives, for the name of a part, what the bytes of a file are written to.
    :raises InvalidMultipart: if it is none, or a part's headers are too long.
    :raises RequestTooLarge: past one of the other limits.
    """
    form = Form({}, {})
    if not boundary:
        raise InvalidMultipart
    try:
        events = _events(body, _Decoder(boundary.encode("latin-1"), MAX_FIELD_BYTES, max_parts=MAX_PARTS))
        for event in events:
            if isinstance(event, File):
                content = make_content(event.name)
                for data in _content(events):
                    content.write(data)
                upload = Upload(event.filename, event.headers.get("content-type"), content)
                form.files.setdefault(event.name, upload)
            elif isinstance(event, Field):
                form.fields.setdefault(event.name, _text(_content(events)))
    except RequestEntityTooLarge:
        raise RequestTooLarge from None
    except ValueError:  # no boundary that ends it, a part without a name
        raise InvalidMultipart from None
    return form


class _Decoder(MultipartDecoder):
    def next_event(self) -> Event:
        if (
            self.state is State.PART
            and len(self.buffer) > MAX_PART_HEAD_BYTES
            and not _BLANK_LINE.search(self.buffer, 0, MAX_PART_HEAD_BYTES)
        ):
            raise ValueError("the headers of a part are too long")  # reading them takes the square of their length
        return super().next_event()


def _events(body: IO[bytes], decoder: _Decoder) -> Iterator[Event]:
    while True:
        piece = body.read(_PIECE)
        decoder.receive_data(piece or None)
        while not isinstance(event := decoder.next_event(), NeedData):
            yield event
            if isinstance(event, Epilogue):
                return


def _content(events: Iterator[Event]) -> Iterator[bytes]:
    """The bytes of the part that has just begun."""
    for event in events:
        if isinstance(event, Data):
            yield event.data
            if not event.more_data:
                return


def _text(pieces: Iterator[bytes]) -> str:
    text = bytearray()
    for piece in pieces:
        text += piece
        if len(text) > MAX_FIELD_BYTES:
            raise RequestTooLarge
    return text.decode("utf-8", "replace")
