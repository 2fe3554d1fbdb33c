"""``GET /v1/models``: what is being served."""

from __future__ import annotations

from typing import Any

from flask import Response

from flaskcompat.blueprints.access import allowed_models, find_model
from flaskcompat.blueprints.failures import json_reply
from flaskcompat.blueprints.requests import current_state
from flaskcompat.blueprints.routes import Routes
from flaskcompat.runtime.registry import Model

routes = Routes()


@routes.get("/v1/models")
def list_models() -> Response:
    state = current_state()
    return json_reply({"object": "list", "data": [_as_listed(model) for model in allowed_models(state)]})


@routes.get("/v1/models/<path:model>")
def retrieve_model(model: str) -> Response:
    state = current_state()
    return json_reply(_as_listed(find_model(state, model.rstrip("/"))))


def _as_listed(model: Model) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "flaskcompat",
        "name": model.name,
    }
