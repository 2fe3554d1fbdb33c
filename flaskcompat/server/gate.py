"""What can be told of a request from its head alone, before its body is read."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Flask
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RoutingException

from flaskcompat.errors import APIError, RequestTooLarge, Unauthorized
from flaskcompat.runtime.state import EXTENSION, State


class Gate:
    """Refuses what would be refused anyway, without taking its body; for routes of ours in *app*."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._state: State | None = app.extensions.get(EXTENSION)
        self._largest: int = app.config.get("FLASKCOMPAT_MAX_BODY_BYTES", 0)
        #: Whether a line of JSON is logged for each call.
        self.audits = bool(app.config.get("FLASKCOMPAT_AUDIT"))

    @property
    def state(self) -> State | None:
        return self._state

    @property
    def has_other_routes(self) -> bool:
        """Whether the application serves more than what is ours."""
        return any(not rule.endpoint.startswith("flaskcompat") for rule in self._app.url_map.iter_rules())

    def refusal(self, method: str, path: str, headers: Mapping[str, str], length: int) -> APIError | None:
        """Why the request is refused, if it is.

        :param headers: by names in capitals, with underscores.
        :param length: of the body, in bytes, as far as it is known.
        """
        state = self._state
        if state is None:
            return None
        # A host's own login looks at the whole request.
        asks_key = bool(state.keys) and state.authenticate is None and method != "OPTIONS"
        if (asks_key or length > self._largest) and self._is_ours(method, path):
            if asks_key and state.keys.find(headers.get("AUTHORIZATION")) is None:
                return Unauthorized()
            if length > self._largest and not path.rstrip("/").endswith("/files"):
                return RequestTooLarge()
        return None

    def _is_ours(self, method: str, path: str) -> bool:
        text = path.encode("latin-1").decode("utf-8", "replace")
        try:
            endpoint, _ = self._app.url_map.bind("").match(text, method)
        except (HTTPException, RoutingException):
            return False
        return str(endpoint).startswith("flaskcompat.")
