"""What can be told of a request from its head alone, before its body is read."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Flask
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RoutingException

from flaskcompat.blueprints.calls import observers_of
from flaskcompat.errors import APIError, RequestTooLarge, Unauthorized
from flaskcompat.runtime.admission import Admission
from flaskcompat.runtime.state import State, states_of


class Gate:
    """Refuses what would be refused anyway, without taking its body; for routes of ours in *app*."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._states = states_of(app.extensions)
        self._largest: int = app.config.get("FLASKCOMPAT_MAX_BODY_BYTES", 0)
        #: Who wants to know of calls, refused ones among them.
        self.observers = observers_of(app)

    @property
    def admission(self) -> Admission | None:
        """Who gives answers their places; None in an application that makes none."""
        return self._states[0].admission if self._states else None

    @property
    def has_other_routes(self) -> bool:
        """Whether the application serves more than what is ours."""
        own = ("flaskcompat_", *(prefix for state in self._states for prefix in state.prefixes))
        return any(not rule.endpoint.startswith(own) for rule in self._app.url_map.iter_rules())

    def refusal(self, method: str, path: str, headers: Mapping[str, str], length: int) -> APIError | None:
        """Why the request is refused, if it is.

        :param headers: by names in capitals, with underscores.
        :param length: of the body, in bytes, as far as it is known.
        """
        if length <= self._largest and not any(map(_asks_key, self._states)):
            return None
        state = self._state_of(method, path)
        if state is None:
            return None
        if method != "OPTIONS" and _asks_key(state) and state.keys.find(headers.get("AUTHORIZATION")) is None:
            return Unauthorized()
        if length > self._largest and not path.rstrip("/").endswith("/files"):
            return RequestTooLarge()
        return None

    def _state_of(self, method: str, path: str) -> State | None:
        """Whose route is asked for; None where it is not one of ours."""
        text = path.encode("latin-1").decode("utf-8", "replace")
        try:
            endpoint, _ = self._app.url_map.bind("").match(text, method)
        except (HTTPException, RoutingException):
            return None
        return next((state for state in self._states if str(endpoint).startswith(tuple(state.prefixes))), None)


def _asks_key(state: State) -> bool:
    # A host's own login looks at the whole request.
    return bool(state.keys) and state.authenticate is None
