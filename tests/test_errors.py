from __future__ import annotations

import pytest

from flaskcompat import APIError
from flaskcompat.errors import shorten


@pytest.mark.parametrize("status", [200, 204, 302, 600])
def test_error_has_the_status_of_one(status: int) -> None:
    with pytest.raises(ValueError, match=f"{status} is no status of an error"):
        APIError("x", status=status)


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
