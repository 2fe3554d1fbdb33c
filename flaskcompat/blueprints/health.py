"""``/healthz`` and ``/readyz``: for whoever starts, stops and balances processes. They name nothing."""

from __future__ import annotations

from flask import Blueprint, Response, request

from flaskcompat.blueprints.failures import json_reply
from flaskcompat.blueprints.servers import is_stopping
from flaskcompat.runtime.state import State


def make_blueprint(state: State) -> Blueprint:
    blueprint = Blueprint("flaskcompat_health", __name__)

    @blueprint.get("/healthz", provide_automatic_options=False)
    def live() -> Response:
        return json_reply({"status": "ok"})

    @blueprint.get("/readyz", provide_automatic_options=False)
    def ready() -> Response:
        if state.admission.stopping or is_stopping(request.environ):
            return json_reply({"status": "stopping"}, 503)
        return json_reply({"status": "ready"})

    return blueprint
