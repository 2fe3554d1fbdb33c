"""Whatever goes wrong, as an answer in OpenAI's shape, and in the log under the request's id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast
from weakref import WeakSet

from flask import Flask, Response, current_app, got_request_exception, has_app_context, request
from werkzeug.exceptions import HTTPException

from flaskcompat.blueprints import calls
from flaskcompat.blueprints.host_database import roll_back
from flaskcompat.errors import (
    LOG_LIMIT,
    TYPES,
    APIError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PipelineError,
    RequestTooLarge,
    shorten,
)
from flaskcompat.log import log, request_id, text_of
from flaskcompat.protocol import sse
from flaskcompat.runtime.hayhooks import told_by_fastapi


def json_reply(value: Any, status: int = 200) -> Response:
    """*value* as a JSON response."""
    return Response(sse.dumps(value), status, content_type="application/json")


def failure(error: BaseException, label: str, *, tracebacks: bool | None = None) -> APIError:
    """What the client is told of *error*; the error itself goes to the log alone.

    :param label: whose error it is, for the log.
    :param tracebacks: tell the client the error's type and text; by default as the setting says.
    """
    error = told_by_fastapi(error) or error
    # By type: a wrapper's exception may say of itself that it is of another class, or fail when it is asked.
    if issubclass(type(error), APIError):
        told = cast("APIError", error)
        log.info("{} answered {} ({})", label, told.status, told.code)
        told.__traceback__ = None  # one that is raised again and again would keep the frames of all requests
    else:
        log.opt(exception=error).error("{} failed", label)
        send_exception(error)
        if has_app_context():
            roll_back()
        if tracebacks is None:
            tracebacks = current_app.config["FLASKCOMPAT_TRACEBACKS"]
        told = PipelineError(f"{type(error).__name__}: {text_of(error)}" if tracebacks else None)
    return told.for_request(request_id.get())


def send_exception(error: BaseException) -> None:
    """Send Flask's signal for *error*, which its own handler would have sent: monitoring listens to it."""
    if not has_app_context() or not issubclass(type(error), Exception):
        return
    try:
        got_request_exception.send(current_app._get_current_object(), exception=error)  # type: ignore[attr-defined]
    except Exception as failed:
        log.opt(exception=failed).error("a receiver of got_request_exception failed")


def error_response(error: Exception) -> Response | HTTPException:
    """Any error as a response in OpenAI's shape; error handler of the blueprint."""
    if isinstance(error, HTTPException):
        if error.response is not None or (error.code or 500) < 400:
            return error  # a host's own response, or a redirect
        error = from_http_exception(error)
    if not isinstance(error, APIError) and (answer := _answer_of_host(error)) is not None:
        error = answer
    if not isinstance(error, APIError):
        log.opt(exception=error).error(
            "unforeseen error in {} {}", shorten(request.method), shorten(request.path, LOG_LIMIT)
        )
        send_exception(error)
        error = APIError()
    error = error.for_request(request_id.get())
    calls.note(error=error.code or error.type)
    response = json_reply(error.body(), error.status)
    response.headers.update(error.headers)
    return response


#: Longest reason of a host's hook that an error repeats, in characters.
REASON_LIMIT = 500
_CODES = {401: "invalid_api_key", 403: "permission_denied", 429: "rate_limit_exceeded"}


def from_http_exception(error: HTTPException) -> APIError:
    """Convert Werkzeug's exception to an :class:`APIError`, and keep the reason that a hook gave."""
    status = error.code or 500
    reason = _reason(error)
    match status:
        case 404:
            return NotFound(reason)
        case 405:
            return MethodNotAllowed(getattr(error, "valid_methods", None) or ())
        case 413:
            return RequestTooLarge(reason)
    if status >= 500:
        return APIError(reason, status=status)
    headers = {"Retry-After": str(error.retry_after)} if getattr(error, "retry_after", None) else {}  # type: ignore[attr-defined]
    return _refusal(status, reason or f"The request was refused: {error.name}.", headers)


def _refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> InvalidRequest:
    return InvalidRequest(
        message,
        status=status,
        type=TYPES.get(status),
        code=_CODES.get(status),
        headers=headers,
    )


def _answer_of_host(error: Exception) -> APIError | None:
    """The refusal that the application's own handler for the class of *error* returns; None if there is none.

    Extensions for logins raise exceptions of their own and register handlers for them.
    """
    handlers = current_app.error_handler_spec.get(None, {}).get(None, {})
    # Handlers for built-in exceptions are skipped: they would also handle our own bugs.
    kinds = [kind for kind in type(error).__mro__ if kind.__module__ != "builtins"]
    handler = next((handlers[kind] for kind in kinds if kind in handlers), None)
    if handler is None:
        return None
    try:
        response = current_app.make_response(current_app.ensure_sync(handler)(error))
    except Exception as failed:
        log.opt(exception=failed).error("the application's handler for {} failed", type(error).__name__)
        return None
    if not 400 <= response.status_code < 500:  # a 500 is a failure: it is logged, and its text is not repeated
        return None
    told = response.get_json(silent=True) if response.is_json else None
    texts = [value for value in told.values() if isinstance(value, str)] if isinstance(told, dict) else []
    return _refusal(response.status_code, shorten(texts[0], REASON_LIMIT) if texts else "The request was refused.")


def _reason(error: HTTPException) -> str | None:
    """What the code that raised *error* gave as its reason; None for Werkzeug's own text of the class."""
    # A 500 may have been made of an exception's text.
    if "description" not in vars(error) or error.code == 500:
        return None
    reason = shorten(str(error.description), REASON_LIMIT)
    return reason if reason.endswith((".", "!", "?")) else f"The request was refused: {reason}."


def warn_of_pages(response: Response) -> Response:
    """Warn, once for an application, of a hook that answers an API request with a redirect or a page."""
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    status, endpoint = response.status_code, request.endpoint or ""
    is_page = status == 200 and response.mimetype == "text/html" and not endpoint.endswith(".read_docs")
    if (is_page or 300 < status < 304) and app not in _warned:
        _warned.add(app)
        log.warning(
            "a hook of the application answered {} {} with {}, which an API client cannot follow: have the hook leave "
            "out this blueprint, or call abort(401), and pass authenticate= to FlaskCompat",
            shorten(request.method),
            shorten(request.path, LOG_LIMIT),
            f"a redirect to {shorten(response.location, LOG_LIMIT)}" if response.location else "a page",
        )
    return response


_warned: WeakSet[Flask] = WeakSet()
