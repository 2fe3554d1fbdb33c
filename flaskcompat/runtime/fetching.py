"""Files and images that a request names by a URL, where the operator has allowed it."""

from __future__ import annotations

import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from flaskcompat.errors import InvalidValue, RequestTooLarge
from flaskcompat.log import log
from flaskcompat.protocol.inputs import FoundFile

#: Seconds for which another server may be silent.
TIMEOUT = 10.0
_PORTS = {"http": 80, "https": 443}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """What is allowed may not send us on to what is not."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class Fetcher:
    """Gets what lies below certain addresses, and nothing else.

    :param allowed: addresses such as ``https://files.example.com/public/``, by commas; scheme, host and port are meant
        exactly, the path and all below it.
    :param most: bytes of one file.
    :raises ValueError: for what is no such address.
    """

    def __init__(self, allowed: str, most: int) -> None:
        parts = [part.strip() for part in allowed.split(",") if part.strip()]
        self._allowed = [_allowed_address(number, part) for number, part in enumerate(parts, 1)]
        self._most = most
        # By no handler but these: urllib would open files, too.
        handlers = (urllib.request.HTTPHandler, urllib.request.HTTPSHandler, _NoRedirect)
        self._opener = urllib.request.OpenerDirector()
        for handler in (*handlers, urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPErrorProcessor):
            self._opener.add_handler(handler())

    def allows(self, url: str) -> bool:
        try:
            asked = _address(url)
        except ValueError:
            return False
        return any(asked[:3] == own[:3] and _is_below(asked[3], own[3]) for own in self._allowed)

    def fetch(self, url: str) -> FoundFile:
        """What lies at an allowed *url*.

        :raises InvalidValue: if it cannot be had; clients get a 400.
        :raises RequestTooLarge: if it is more than it may be.
        """
        try:
            with self._opener.open(url, timeout=TIMEOUT) as answer:
                data = answer.read(self._most + 1)
                kind = answer.headers.get_content_type() if answer.headers.get("Content-Type") else None
        except (OSError, HTTPException, ValueError) as error:
            log.warning("what a request names by its URL could not be fetched: {}", type(error).__name__)
            raise InvalidValue("A file that the request names by its URL could not be fetched.") from None
        if len(data) > self._most:
            raise RequestTooLarge(f"A file of more than {self._most} bytes cannot be part of a message.")
        return FoundFile(data, kind, unquote(urlsplit(url).path.rpartition("/")[2]) or None)


def _allowed_address(number: int, url: str) -> tuple[str, str, int, Sequence[str]]:
    try:
        return _address(url)
    except ValueError:
        # The text is not repeated: it may hold a password.
        wanted = "a URL such as https://host/path/, without a user and without .. or % signs"
        raise ValueError(f"FLASKCOMPAT_FETCH_URLS: address {number} must be {wanted}") from None


def _address(url: str) -> tuple[str, str, int, Sequence[str]]:
    """Scheme, host, port and the steps of the path.

    :raises ValueError: for what is not fetched in any case.
    """
    split = urlsplit(url)
    if split.scheme not in _PORTS or not split.hostname or "@" in split.netloc:
        raise ValueError(f"{url!r} is no address of files")
    return split.scheme, split.hostname, split.port or _PORTS[split.scheme], _steps(split)


def _steps(split: SplitResult) -> Sequence[str]:
    steps = unquote(split.path).replace("\\", "/").split("/")
    if ".." in steps or "%" in unquote(split.path):  # servers differ in what they make of it
        raise ValueError("a path that goes up")
    return [step for step in steps if step and step != "."]


def _is_below(path: Sequence[str], folder: Sequence[str]) -> bool:
    return path[: len(folder)] == folder
