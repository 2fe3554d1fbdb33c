"""Compressed request bodies, decoded as they are read and under the body's limit."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from functools import partial
from typing import IO, Any, Protocol, cast

from flask import Request
from werkzeug.exceptions import ClientDisconnected, HTTPException
from werkzeug.wsgi import get_input_stream

from flaskcompat.errors import InvalidEncoding, InvalidHTTP, RequestTooLarge, UnsupportedMediaType
from flaskcompat.log import log

_PIECE = 64 * 1024
_ENCODING = "HTTP_CONTENT_ENCODING"


class _Decoder(Protocol):
    """What ``zlib.decompressobj`` gives."""

    @property
    def eof(self) -> bool: ...

    @property
    def unconsumed_tail(self) -> bytes: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


def read_body(request: Request, limit: int) -> bytes:
    """The request's whole body, decoded.

    :param limit: of its bytes; Flask before 3.1 has no limit that is the request's own.
    :raises RequestTooLarge: past that.
    :raises UnsupportedMediaType: as :func:`body_stream`.
    """
    length = request.content_length
    is_plain = _ENCODING not in request.environ and "stream" not in vars(request)
    if is_plain and length is not None and length <= limit:
        # Werkzeug's stream would copy all of it twice.
        source = _Source(request.environ["wsgi.input"], length)
        data = source.read(length)
        while len(data) < length:
            more = source.read(length - len(data))
            if not more:
                raise ClientDisconnected
            data += more
        request.stream = io.BytesIO(data)  # for a host's hook that looks at it later
        return data
    return body_stream(request, limit).read()


def body_stream(request: Request, limit: int) -> IO[bytes]:
    """The request's body, decoded; reading it past *limit* bytes raises.

    :raises RequestTooLarge: if the request says that it is longer than that.
    :raises UnsupportedMediaType: for an encoding that is not known here.
    """
    if (request.content_length or 0) > limit:
        raise RequestTooLarge
    encoding = request.environ.get(_ENCODING, "").strip().lower()
    source = cast("IO[bytes]", _Source(_received(request), limit))
    if encoding in ("", "identity"):
        return source
    make = _DECODERS.get(encoding)
    if make is None:
        raise UnsupportedMediaType("Request bodies may be compressed by gzip, deflate or zstd alone.")
    return cast("IO[bytes]", io.BufferedReader(_Decoded(source, make(), limit), _PIECE))


def _received(request: Request) -> IO[bytes]:
    """The body as the client sent it, under no limit of the host's."""
    # What a host's hook has read is kept with the request.
    if getattr(request, "_cached_data", None) is not None:
        return io.BytesIO(request.get_data())
    if "stream" not in vars(request):
        request.stream = get_input_stream(request.environ)
    return request.stream


class _Source:
    """The body as the server reads it, each in its own way and with errors of its own.

    :param limit: of its bytes.
    """

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self._stream = stream
        self._left = limit

    def read(self, size: int = -1, /) -> bytes:
        """As a file's.

        :raises InvalidHTTP: if the server cannot read the body.
        :raises RequestTooLarge: past the limit.
        """
        if size < 0:
            return b"".join(iter(partial(self.read, _PIECE), b""))
        try:
            data = self._stream.read(size)
        except HTTPException:
            raise
        except Exception as error:
            log.info("a body could not be read: {}", type(error).__name__)
            raise InvalidHTTP from None
        self._left -= len(data)
        if self._left < 0:
            raise RequestTooLarge
        return data


class _Decoded(io.RawIOBase):
    """A stream decoded piece by piece.

    :param limit: of decoded bytes.
    """

    def __init__(self, source: IO[bytes], decoder: _Decoder, limit: int) -> None:
        self._source = source
        self._decoder = decoder
        self._left = limit
        self._pending = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._next(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise RequestTooLarge
        buffer[: len(data)] = data
        return len(data)

    def _next(self, most: int) -> bytes:
        decoder = self._decoder
        while not decoder.eof:
            try:
                # Also without input: some output may still be inside.
                data = decoder.decompress(self._pending, most)
            except Exception:  # each library has errors of its own
                raise InvalidEncoding from None
            self._pending = decoder.unconsumed_tail
            if data:
                return data
            if not self._pending and not decoder.eof:
                self._pending = self._source.read(_PIECE)
                if not self._pending:
                    raise InvalidEncoding  # cut off
        if decoder.unused_data or self._pending or self._source.read(1):
            raise InvalidEncoding  # something stands behind it, which one reader would see and another not
        return b""


def _gzip() -> _Decoder:
    return zlib.decompressobj(16 + zlib.MAX_WBITS)


class _Deflate:
    """``deflate`` is zlib's format; some clients send the bare one that the name suggests."""

    def __init__(self) -> None:
        self._inner: Any = None

    def decompress(self, data: bytes, max_length: int = 0, /) -> bytes:
        if self._inner is None:
            if not data:
                return b""
            is_zlib = data[0] & 0x0F == 8 and (len(data) < 2 or (data[0] * 256 + data[1]) % 31 == 0)
            self._inner = zlib.decompressobj(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
        return bytes(self._inner.decompress(data, max_length))

    @property
    def eof(self) -> bool:
        return self._inner is not None and bool(self._inner.eof)

    @property
    def unconsumed_tail(self) -> bytes:
        return b"" if self._inner is None else bytes(self._inner.unconsumed_tail)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data)


class _Zstd:
    """zstd by the package ``zstandard``, whose decoders take no limit: it is fed in small pieces."""

    # A frame's header may ask for a window of this many bytes at most.
    _WINDOW = 8 * 1024 * 1024
    # Input for one step. What it becomes is bounded by the format: a block of 4 bytes or more gives 128 kB at most.
    _STEP = 64

    unconsumed_tail: Any  # bytes, or a view of what was given: slicing the bytes would copy them at each step

    def __init__(self) -> None:
        try:
            import zstandard
        except ImportError:
            log.warning("a client sent a zstd body; pip install 'flaskcompat[zstd]' lets it be read")
            raise UnsupportedMediaType("Request bodies in zstd are not supported on this server.") from None
        self._inner = zstandard.ZstdDecompressor(max_window_size=self._WINDOW).decompressobj()
        self._ready = b""
        self.unconsumed_tail = b""

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof) and not self._ready

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data)

    def decompress(self, data: bytes, max_length: int = 0, /) -> bytes:
        rest = memoryview(data)
        while rest and not self._ready and not self._inner.eof:
            self._ready = self._inner.decompress(rest[: self._STEP])
            rest = rest[self._STEP :]
        self.unconsumed_tail = rest
        given, self._ready = self._ready[:max_length], self._ready[max_length:]
        return given


_DECODERS: dict[str, Callable[[], _Decoder]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _Deflate,
    "zstd": _Zstd,
}
