"""Reading what a client sent, and telling whether it is still there."""

from __future__ import annotations

import json
import math
import re
import secrets
import select
import socket
from collections.abc import Callable
from typing import Any, NoReturn

from flask import Request

from flaskcompat.errors import InvalidJSON, UnsupportedMediaType

#: How deep a body may be nested.
MAX_DEPTH = 100

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def request_id_of(request: Request) -> str:
    """The client's ``x-request-id`` where it has a safe form, else a new one."""
    given = request.headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(16)}"


def read_json(request: Request) -> dict[str, Any]:
    """The request's body, a JSON object in UTF-8.

    :raises UnsupportedMediaType: for another content type, or a body that is compressed.
    :raises InvalidJSON: for anything else that is no such object.
    """
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("Send the body as 'Content-Type: application/json'.")
    refuse_encoding(request)
    try:
        body = _decoder.decode(request.get_data(cache=False).decode())
    except (ValueError, RecursionError):
        raise InvalidJSON from None
    if not isinstance(body, dict):
        raise InvalidJSON("The request body must be a JSON object.")
    if _is_deeper(body, MAX_DEPTH):
        raise InvalidJSON(f"The request body is nested deeper than {MAX_DEPTH} levels.")
    return body


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether containers in *value* are nested deeper than *levels*; looks at one level at a time."""
    containers = [value]
    while containers and levels > 0:
        levels -= 1
        containers = [
            item
            for container in containers
            for item in (container.values() if type(container) is dict else container)
            if type(item) is dict or type(item) is list
        ]
    return bool(containers)


def refuse_encoding(request: Request) -> None:
    """:raises UnsupportedMediaType: for a compressed body."""
    if request.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType("Compressed request bodies are not supported; send the body as it is.")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


# What is no JSON, though Python reads it, would be met by whoever is handed it next.
_decoder = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)


def client_probe(environ: dict[str, Any]) -> Callable[[], bool]:
    """A function that tells, without waiting, whether the client has left; False where the server cannot tell."""
    disconnected = environ.get("waitress.client_disconnected")
    if callable(disconnected):
        return lambda: bool(disconnected())
    connection = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    if isinstance(connection, socket.socket):
        return lambda: _hung_up(connection)
    return lambda: False


def _hung_up(connection: socket.socket) -> bool:
    try:
        readable, _, _ = select.select([connection], [], [], 0)
        return bool(readable) and connection.recv(1, socket.MSG_PEEK) == b""
    except ConnectionError:
        return True
    except (OSError, ValueError):  # TLS cannot be peeked at, select() has a limit: no answer is no leaver
        return False
