"""What can go wrong, in OpenAI's error shape.

::

    FlaskCompatError
     +-- WrapperContractError            a wrapper returned what is no answer
     +-- UpstreamFailed                  the model behind a pipeline failed
     +-- PipelineLoadError               a wrapper could not be loaded
     +-- CannotListen                    the server cannot listen on its address
     +-- CannotConnect                   the database cannot be opened
     +-- APIError                        500  server_error
          +-- PipelineError              500  pipeline_error
          +-- PipelineTimeout            504  pipeline_timeout
          +-- InvalidAnswer              500  invalid_answer
          +-- TryAgain                        with Retry-After; those of stores and queues, too
          |    +-- ShuttingDown          503  shutting_down
          |    +-- ConcurrencyLimit      429  concurrency_limit (rate_limit_error)
          +-- Unauthorized               401  invalid_api_key (authentication_error)
          +-- InvalidRequest             400  invalid_request_error
               +-- InvalidHTTP                invalid_http
               +-- InvalidJSON                invalid_json
               +-- InvalidEncoding            invalid_encoding
               +-- InvalidMultipart           invalid_multipart
               +-- MissingParameter           missing_required_parameter
               +-- InvalidType                invalid_type
               +-- InvalidValue               invalid_value
               +-- UnsupportedEndpoint        unsupported_endpoint
               +-- PreviousResponseNotFound   previous_response_not_found
               +-- NotFound              404  not_found
               |    +-- ModelNotFound    404  model_not_found
               |    +-- NothingStored    404  not_found
               +-- MethodNotAllowed      405  method_not_allowed
               +-- RequestTooLarge       413  request_too_large
               +-- UnsupportedMediaType  415  unsupported_media_type
               +-- UpgradeRequired       426  upgrade_required
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http.client import responses
from typing import Any

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t -~\xa0-\xff]*")
# Header names that are not an error's to set.
_OF_A_BODY = frozenset(
    ("connection", "content-encoding", "content-length", "content-type", "transfer-encoding", "x-request-id")
)

#: The type of an error by its status, where that says more than its class.
TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}

#: Longest piece of a client's own text that an error message repeats, in characters.
ECHO_LIMIT = 64
#: The same for a line of the log.
LOG_LIMIT = 200


def shorten(text: object, limit: int = ECHO_LIMIT) -> str:
    """*text* as printable characters, cut at *limit*, safe to repeat in an answer or a log."""
    printable = "".join(c if c.isprintable() else "?" for c in str(text)[: limit + 1])
    return printable if len(printable) <= limit else printable[:limit] + "…"


class FlaskCompatError(Exception):
    """Base of every error of this package."""


class WrapperContractError(FlaskCompatError):
    """A wrapper returned or yielded something that is no answer; the text is for the log alone."""


class UpstreamFailed(FlaskCompatError):
    """The model behind a pipeline reported a failure that its generator does not raise; for the log alone."""


class PipelineLoadError(FlaskCompatError):
    """A wrapper could not be imported or set up."""


class CannotListen(FlaskCompatError):
    """The server cannot listen on its address."""


class CannotConnect(FlaskCompatError):
    """The database cannot be opened; the text says why, without the password of its URL."""


class APIError(FlaskCompatError):
    """An error that a client is told about as ``{"error": {message, type, param, code}}``.

    A wrapper may raise one on purpose: its status and message then reach the client as they are.

    :param message: one sentence for the client.
    :param param: path of the request field at fault, such as ``messages[0].role``.
    :param status: HTTP status from 400 to 599, if another than the class's own.
    :param type: OpenAI's type of error, by default that of the status.
    :param headers: further response headers.
    :raises ValueError: for a status that is none of an error, or a header that HTTP has no form for.
    :raises TypeError: for a message, param, code or type that is no text.
    """

    status = 500
    type = "server_error"
    code: str | None = None
    message = "The server had an error while processing your request."

    def __init__(
        self,
        message: str | None = None,
        *,
        param: str | None = None,
        code: str | None = None,
        status: int | None = None,
        type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        code = str(code) if isinstance(code, int) else code
        if not all(value is None or isinstance(value, str) for value in (message, param, code, type)):
            raise TypeError("an error is told in texts")
        self.message = message or self.message
        self.param = param
        self.code = code or self.code
        self.status = status or self.status
        if not isinstance(self.status, int) or not 400 <= self.status <= 599:
            raise ValueError(f"{self.status!r} is no status of an error")
        if type is None and self.status < 500 and self.type == APIError.type:
            type = TYPES.get(self.status, "invalid_request_error")
        self.type = type or self.type
        given = {name: str(value) for name, value in (headers or {}).items()}
        # Those of an upstream's answer may be passed on; what is about that answer's body is not about this one's.
        self.headers = {name: value for name, value in given.items() if name.lower() not in _OF_A_BODY}
        if not all(_HEADER_NAME.fullmatch(n) and _HEADER_VALUE.fullmatch(v) for n, v in self.headers.items()):
            raise ValueError("a header has characters that HTTP has no form for")
        if self.status == 500:
            # No retry mends it; the official SDK would repeat it twice, and run the pipeline three times.
            self.headers.setdefault("x-should-retry", "false")
        super().__init__(self.message)

    def for_request(self, request_id: str) -> APIError:
        """What the client of this request is told: the fixed text of a 5xx names the id that the log knows it by.

        A new one, checked again: a wrapper may raise the same object for many requests, and change it as it likes.
        """
        is_fixed = self.status >= 500 and self.message == type(self).message
        return APIError(
            f"{self.message} Request id: {request_id}." if is_fixed else self.message,
            param=self.param,
            code=self.code,
            status=self.status,
            type=self.type,
            headers=self.headers,
        )

    @property
    def reason(self) -> str:
        """The words that stand behind the status in HTTP."""
        return responses.get(self.status, "Error")

    def error(self) -> dict[str, Any]:
        """The error object: ``message``, ``type``, ``param`` and ``code``, always all four."""
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.code}

    def body(self) -> dict[str, Any]:
        """The JSON body of an error answer."""
        return {"error": self.error()}


class PipelineError(APIError):
    """A wrapper raised, or broke its contract."""

    code = "pipeline_error"
    message = "The pipeline failed to answer this request."


class PipelineTimeout(APIError):
    status = 504
    code = "pipeline_timeout"
    message = "The pipeline did not answer in time."


class TryAgain(APIError):
    """The same request may be answered a moment later."""

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "1"})


class ShuttingDown(TryAgain):
    status = 503
    code = "shutting_down"
    message = "The server is shutting down."


class ConcurrencyLimit(TryAgain):
    status = 429
    type = "rate_limit_error"
    code = "concurrency_limit"
    message = "Too many answers are being made at the moment; try again."


class Unauthorized(APIError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"
    message = "A valid API key is needed: send it as 'Authorization: Bearer KEY'."

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "Bearer"})


class InvalidRequest(APIError):
    status = 400
    type = "invalid_request_error"
    message = "The request is invalid."


class InvalidHTTP(InvalidRequest):
    code = "invalid_http"
    message = "The request is no valid HTTP."


class InvalidJSON(InvalidRequest):
    code = "invalid_json"
    message = "The request body is not a JSON object in UTF-8."


class InvalidEncoding(InvalidRequest):
    code = "invalid_encoding"
    message = "The request body is not compressed as its Content-Encoding says."


class InvalidMultipart(InvalidRequest):
    code = "invalid_multipart"
    message = "The multipart body is malformed, or the headers of one of its parts are too long."


class MissingParameter(InvalidRequest):
    code = "missing_required_parameter"

    def __init__(self, param: str) -> None:
        super().__init__(f"Missing required parameter: '{shorten(param)}'.", param=param)


class InvalidType(InvalidRequest):
    code = "invalid_type"


class InvalidValue(InvalidRequest):
    code = "invalid_value"


class UnsupportedEndpoint(InvalidRequest):
    code = "unsupported_endpoint"

    def __init__(self, model: str, method: str) -> None:
        super().__init__(
            f"The model '{shorten(model)}' does not support this API: its wrapper has no {method} method.",
            param="model",
        )


class PreviousResponseNotFound(InvalidRequest):
    code = "previous_response_not_found"
    message = "The previous response was not found."

    def __init__(self) -> None:
        super().__init__(param="previous_response_id")


class NotFound(InvalidRequest):
    status = 404
    code = "not_found"
    message = "There is nothing at this URL."


class NothingStored(NotFound):
    """There is no such thing, or it is somebody else's: nobody is told which.

    :param kind: what was looked for, such as ``response``.
    """

    def __init__(self, kind: str, param: str | None = None) -> None:
        super().__init__(f"No {kind} with this id was found.", param=param)


class ModelNotFound(NotFound):
    code = "model_not_found"

    def __init__(self, model: str) -> None:
        super().__init__(f"The model '{shorten(model)}' does not exist.", param="model")


class MethodNotAllowed(InvalidRequest):
    status = 405
    code = "method_not_allowed"

    def __init__(self, allowed: Iterable[str]) -> None:
        methods = ", ".join(sorted(allowed))
        super().__init__(f"This URL takes {methods or 'another method'} only.", headers={"Allow": methods})


class RequestTooLarge(InvalidRequest):
    status = 413
    code = "request_too_large"
    message = "The request body is too large."


class UnsupportedMediaType(InvalidRequest):
    status = 415
    code = "unsupported_media_type"


class UpgradeRequired(InvalidRequest):
    # Ends a WebSocket attempt at once: a client that gets 426 turns to plain HTTP without trying again.
    status = 426
    code = "upgrade_required"
    message = "WebSockets are not supported here; use POST with server-sent events."
