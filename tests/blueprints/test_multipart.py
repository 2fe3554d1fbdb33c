"""Multipart bodies."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest

from flaskcompat.blueprints.multipart import MAX_FIELD_BYTES, MAX_PART_HEAD_BYTES, MAX_PARTS, Form, read_form
from flaskcompat.errors import APIError, InvalidMultipart, RequestTooLarge


class Dripping(io.BytesIO):
    """Gives less than it is asked for."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 7, 7))


def part(name: str | None, content: bytes, filename: str | None = None, extra: bytes = b"") -> bytes:
    head = "Content-Disposition: form-data"
    head += f'; name="{name}"' if name is not None else ""
    head += f'; filename="{filename}"' if filename is not None else ""
    return b"--b\r\n" + head.encode() + extra + b"\r\n\r\n" + content + b"\r\n"


END = b"--b--\r\n"


def read(body: bytes, kind: type[io.BytesIO] = io.BytesIO, boundary: str | None = "b") -> Form:
    return read_form(kind(body), boundary, lambda name: io.BytesIO())


@pytest.mark.parametrize("kind", [io.BytesIO, Dripping])
def test_fields_and_files_in_any_order(kind: type[io.BytesIO]) -> None:
    content = bytes(range(256)) * 10 + b"\r\n--bx\r\n"
    body = part("file", content, "a.txt", b"\r\nContent-Type: text/x") + part("purpose", "é".encode())
    for whole in (body, part("purpose", "é".encode()) + part("file", content, "a.txt", b"\r\nContent-Type: text/x")):
        form = read(b"before\r\n" + whole + END + b"after", kind)
        assert form.fields == {"purpose": "é"}
        upload = form.files["file"]
        assert (upload.filename, upload.content_type) == ("a.txt", "text/x")
        upload.content.seek(0)
        assert upload.content.read() == content


def test_first_of_each_name_counts() -> None:
    form = read(part("a", b"1") + part("a", b"2") + part("f", b"x", "1") + part("f", b"y", "2") + END)
    assert form.fields == {"a": "1"} and form.files["f"].filename == "1"
    assert read(END) == Form({}, {})


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", InvalidMultipart),
        (b"no boundary", InvalidMultipart),
        (part("a", b"1"), InvalidMultipart),
        (b"--b\r\n\r\n\r\n" + END, InvalidMultipart),
        (b"--b\r\nContent-Disposition: \xff\r\n\r\nx\r\n" + END, InvalidMultipart),
        (part("a", b"1") * (MAX_PARTS + 1) + END, RequestTooLarge),
        (part("a", b"1" * (MAX_FIELD_BYTES + 1)) + END, RequestTooLarge),
        (part("a", b"1", extra=b"\r\nX: " + b"x" * MAX_PART_HEAD_BYTES) + END, InvalidMultipart),
        (b"--b\r\n" + b"x" * 100_000, InvalidMultipart),
    ],
)
def test_what_is_none_or_too_large(body: bytes, error: type[APIError]) -> None:
    for kind in (io.BytesIO, Dripping):
        with pytest.raises(error):
            read(body, kind)


def test_body_without_a_boundary() -> None:
    for boundary in (None, ""):
        with pytest.raises(InvalidMultipart):
            read(END, boundary=boundary)


def test_as_much_as_may_be() -> None:
    form = read(part("a", b"1" * MAX_FIELD_BYTES) + part("f", b"x" * 2000, "f") * (MAX_PARTS - 1) + END)
    assert len(form.fields["a"]) == MAX_FIELD_BYTES


def test_headers_that_take_long_to_read_are_refused_before() -> None:
    long: Any = b'; a="\\"' * 60_000
    begun = time.monotonic()
    with pytest.raises(InvalidMultipart):
        read((b"--b\r\nContent-Disposition: form-data; name=x" + long + b"\r\n\r\n\r\n") * 20 + END)
    assert time.monotonic() - begun < 5
