"""``GET /v1/models``: what is being served."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from flaskcompat.blueprints.replies import json_reply
from flaskcompat.runtime.registry import Model, Registry


def make_blueprint(registry: Registry) -> Blueprint:
    blueprint = Blueprint("models", __name__)

    @blueprint.get("/v1/models", provide_automatic_options=False)
    def list_models() -> Response:
        return json_reply({"object": "list", "data": [_as_listed(model) for model in registry]})

    @blueprint.get("/v1/models/<path:model>", provide_automatic_options=False)
    def retrieve_model(model: str) -> Response:
        return json_reply(_as_listed(registry[model.rstrip("/")]))

    return blueprint


def _as_listed(model: Model) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "flaskcompat",
        "name": model.name,
    }
