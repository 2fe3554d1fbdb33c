"""``GET /v1/models``: what is being served."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from flaskcompat.blueprints.access import allowed_models, find_model
from flaskcompat.blueprints.failures import json_reply
from flaskcompat.runtime.registry import Model
from flaskcompat.runtime.state import State


def make_blueprint(state: State) -> Blueprint:
    blueprint = Blueprint("models", __name__)

    @blueprint.get("/v1/models", provide_automatic_options=False)
    def list_models() -> Response:
        return json_reply({"object": "list", "data": [_as_listed(model) for model in allowed_models(state)]})

    @blueprint.get("/v1/models/<path:model>", provide_automatic_options=False)
    def retrieve_model(model: str) -> Response:
        return json_reply(_as_listed(find_model(state, model.rstrip("/"))))

    return blueprint


def _as_listed(model: Model) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "flaskcompat",
        "name": model.name,
    }
