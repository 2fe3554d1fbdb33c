from __future__ import annotations

from typing import Any

import pytest

from flaskcompat import APIError
from flaskcompat.errors import ModelNotFound, PipelineError, shorten


@pytest.mark.parametrize("status", [200, 204, 302, 600])
def test_error_has_the_status_of_one(status: int) -> None:
    with pytest.raises(ValueError, match=f"{status} is no status of an error"):
        APIError("x", status=status)


@pytest.mark.parametrize(
    "arguments",
    [
        {"message": ValueError("x")},
        {"param": {1, 2}},
        {"code": 3.5},
        {"headers": {"X Why": "a"}},
        {"type": b"x"},
        {"status": 400.5},
        {"headers": {"X-A": "a\r\nX-Evil: 1"}},
        {"headers": {"X-A": "€"}},
        {"headers": {"": "a"}},
    ],
)
def test_error_that_cannot_be_told_is_refused_where_it_is_made(arguments: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        APIError(**arguments)


def test_header_may_be_a_number_and_status_one_without_a_name() -> None:
    error = APIError(status=529, headers={"Retry-After": 5})  # type: ignore[dict-item]
    assert error.headers == {"Retry-After": "5"} and (error.status, error.reason) == (529, "Error")
    assert APIError(status=429).reason == "Too Many Requests"


def test_request_s_id_is_told_to_each_its_own() -> None:
    shared = PipelineError()
    assert "req_1" in shared.for_request("req_1").message and "req_2" in shared.for_request("req_2").message
    assert "req_" not in shared.message and shared.for_request("x").headers == {"x-should-retry": "false"}
    own = APIError("Mine.", code=7)  # type: ignore[arg-type]
    told = own.for_request("req_1")
    assert told is not own and told.error() == own.error() and told.code == "7"
    assert ModelNotFound("m").for_request("x").message.startswith("The model")


def test_headers_of_an_upstream_s_body_are_not_passed_on() -> None:
    upstream = {"Content-Length": "5", "content-type": "text/x", "Connection": "close", "X-Request-Id": "a", "X-A": ""}
    assert APIError(status=429, headers=upstream).headers == {"X-A": ""}


def test_error_body_has_all_four_keys() -> None:
    error = APIError(
        "Not now.", status=503, type="server_error", code="busy", param="model", headers={"Retry-After": "1"}
    )
    told = {"message": "Not now.", "type": "server_error", "param": "model", "code": "busy"}
    assert error.body() == {"error": told}
    assert (error.status, error.headers, str(error)) == (503, {"Retry-After": "1"}, "Not now.")
    assert set(APIError().error()) == set(told)


def test_text_of_a_client_is_cut_and_printable() -> None:
    assert shorten("a\x00\n\ud800b") == "a???b"
    assert shorten("x" * 500) == "x" * 64 + "…"


@pytest.mark.parametrize(
    ("status", "type"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "invalid_request_error"),
        (429, "rate_limit_error"),
        (503, "server_error"),
    ],
)
def test_type_follows_the_status(status: int, type: str) -> None:
    assert APIError("no", status=status).type == type
    assert APIError("no", status=status, type="own").type == "own"
