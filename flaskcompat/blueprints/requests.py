"""Reading what a client sent."""

from __future__ import annotations

import json
import math
import re
import secrets
from typing import TYPE_CHECKING, Any, NoReturn

from flask import Request, current_app, has_request_context, request
from flask.ctx import AppContext

from flaskcompat.blueprints.decoding import read_body
from flaskcompat.blueprints.servers import Environ
from flaskcompat.errors import InvalidJSON, UnsupportedMediaType
from flaskcompat.runtime.state import State

if TYPE_CHECKING:
    from flask.ctx import RequestContext

#: Whether Flask has one context for an application and its request, as it does from version 3.2 on.
HAS_ONE_CONTEXT = hasattr(AppContext, "has_request")
_context: Any
if HAS_ONE_CONTEXT:
    from flask.globals import app_ctx as _context
else:
    from flask.globals import request_ctx as _context

#: How deep a body may be nested.
MAX_DEPTH = 100

_STATE = "flaskcompat.state"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def current_request() -> Request:
    """The current request itself: its proxy would look it up for each attribute."""
    return request._get_current_object()  # type: ignore[attr-defined, no-any-return]


def current_state() -> State:
    """The state of the API that the current request is for."""
    state: State = current_request().environ[_STATE]
    return state


def set_current_state(state: State) -> None:
    current_request().environ[_STATE] = state


def own_context() -> RequestContext:
    """The current request context, to be remembered for :func:`is_own_context`."""
    context: RequestContext = _context._get_current_object()
    return context


def is_own_context(context: object) -> bool:
    """Whether *context* is the current request context, rather than one that a run has of the same request."""
    return has_request_context() and own_context() is context


def request_id_of(environ: Environ) -> str:
    """The client's ``x-request-id`` where it has a safe form, else a new one."""
    given: str = environ.get("HTTP_X_REQUEST_ID", "")
    return given if _REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(16)}"


def read_json() -> dict[str, Any]:
    """The current request's body, a JSON object in UTF-8.

    :raises UnsupportedMediaType: for another content type, or an encoding that is not known.
    :raises InvalidEncoding: for a body that is not compressed as it says.
    :raises RequestTooLarge: if it is too large once it is decoded.
    :raises InvalidJSON: for anything else that is no such object.
    """
    request = current_request()
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("Send the body as 'Content-Type: application/json'.")
    try:
        body = _decoder.decode(read_body(request, current_app.config["FLASKCOMPAT_MAX_BODY_BYTES"]).decode())
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


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


# What is no JSON, though Python reads it, would be met by whoever is handed it next.
_decoder = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)
