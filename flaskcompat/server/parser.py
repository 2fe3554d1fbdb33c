"""Requests as they come in."""

from __future__ import annotations

import re
from time import monotonic
from typing import Any

from waitress.parser import HTTPRequestParser, ParsingError

from flaskcompat.errors import APIError, InvalidHTTP, InvalidRequest, NotFound, RequestTooLarge
from flaskcompat.server.gate import Gate

#: What may stand around a body's chunks: a size with its extensions, or the fields at the end, in bytes.
MOST_AROUND_CHUNKS = 16384
# A head that is longer than it has sense takes waitress's own patterns minutes, on the thread that serves all.
_REQUEST_LINE = re.compile(rb"[^ ]+ [^ ]+(?: HTTP/[0-9]\.[0-9])?")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_CODINGS = re.compile(rb"\r\ntransfer-encoding:[ \t]*([^\r\n]*)", re.IGNORECASE)


class Parser(HTTPRequestParser):  # type: ignore[misc]
    """A request as it comes in; refused as soon as its head says enough.

    :param in_memory: how much of its body is kept in memory, in bytes; a longer one is kept in a file.
    """

    error: Any
    body_rcv: Any
    headers_finished: bool
    command = path = ""  # as long as they are not known
    #: What the application knows as its path: without the prefix that it is served below; None outside of that.
    path_info: str | None = ""

    def __init__(self, adj: Any, gate: Gate, in_memory: int) -> None:
        super().__init__(adj)
        self._gate = gate
        self._in_memory = in_memory
        self._judged = False
        self.begun = monotonic()

    def received(self, data: bytes) -> int:
        consumed = int(super().received(data))
        if not self.headers_finished and _BARE_LF.search(self.header_plus, max(0, len(self.header_plus) - len(data))):
            # It would be waited for lines that end as they should.
            self.error = InvalidHTTP()
            self.headers_finished = self.completed = True
        if self.error is None and self.headers_finished and not self.empty:
            refusal = self._refusal()
            if refusal is not None:
                self.error = refusal
                self.completed = True
        if self.completed:
            # Else waitress would ask for a body all the same, and wait for it.
            self.expect_continue = False
        return consumed

    def parse_header(self, header_plus: bytes) -> None:
        line = header_plus.partition(b"\r\n")[0].rstrip()
        self.command = line.partition(b" ")[0].decode("latin-1")  # an answer to HEAD has no body, a refusal neither
        if not _REQUEST_LINE.fullmatch(line) or _CONTROL.search(header_plus):
            raise ParsingError("HTTP message header invalid")
        codings = [coding.strip(b" \t").lower() for coding in _CODINGS.findall(header_plus)]
        if codings not in ([], [b"chunked"]):  # an empty one, or one repeated, ends the body elsewhere for others
            raise ParsingError("Transfer-Encoding is not chunked")
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # a length of thousands of digits, a URL that has no parts
            raise ParsingError("HTTP message header invalid") from error
        self.path_info = _below(self.adj.url_prefix, self.path)
        if self.body_rcv is not None:
            self.body_rcv.buf.overflow = self._in_memory

    def _refusal(self) -> APIError | None:
        if self.chunked and len(self.body_rcv.control_line) + len(self.body_rcv.trailer) > MOST_AROUND_CHUNKS:
            return InvalidHTTP()
        if self._judged and not (self.chunked and not self.completed):
            return None
        # Two lengths: what one server takes for the body's end is in the middle of it for another.
        both = self.chunked and "CONTENT_LENGTH" in self.headers
        if not self._judged and (both or "TRANSFER_ENCODING" in self.headers):
            return InvalidRequest("A request has one of Content-Length and Transfer-Encoding.", code="invalid_request")
        self._judged = True
        if self.path_info is None:
            return NotFound(f"There is nothing at this URL: this server answers below {self.adj.url_prefix}.")
        length = self.content_length
        if self.chunked:
            length = self.body_rcv.__len__() + self.body_rcv.chunk_remainder
            if length >= self.adj.max_request_body_size:
                return RequestTooLarge()
        return self._gate.refusal(self.command.upper(), self.path_info, self.headers, length)


def _below(prefix: str, path: str) -> str | None:
    """What is left of *path* below *prefix*, as waitress tells it to the application; None if it is not below it."""
    if not prefix:
        return path
    if path.startswith("/"):
        path = "/" + path.lstrip("/")
    return path[len(prefix) :] if path == prefix or path.startswith(f"{prefix}/") else None


def as_api_error(error: Any) -> APIError:
    """waitress's error as one of ours; its text may repeat the request and is left out."""
    if isinstance(error, APIError):
        return error
    match error.code:
        case 413:
            return RequestTooLarge()
        case 431:
            return InvalidRequest("The request's headers are too large.", status=431, code="headers_too_large")
        case 500:
            return APIError()
    # 501, for a transfer coding that is not known, among them: no request shall give a 5xx.
    return InvalidHTTP()
