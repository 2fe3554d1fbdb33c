"""``POST /v1/responses``."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, current_app

from flaskcompat.blueprints.access import find_model
from flaskcompat.blueprints.replies import reply
from flaskcompat.blueprints.requests import read_json
from flaskcompat.errors import InvalidValue, PreviousResponseNotFound
from flaskcompat.protocol.responses import ResponseMachine
from flaskcompat.protocol.tool_calls import tool_names
from flaskcompat.runtime.registry import Model
from flaskcompat.runtime.state import State
from flaskcompat.schemas import ResponseRequest, load

_schema = ResponseRequest()


def make_blueprint(state: State) -> Blueprint:
    blueprint = Blueprint("responses", __name__)

    @blueprint.post("/v1/responses", provide_automatic_options=False)
    def create_response() -> Response:
        body = load(_schema, read_json())
        model = find_model(state, body["model"])
        _refuse_state(body)
        machine = ResponseMachine(
            model=model.name,
            tools=tool_names(body.get("tools")),
            request=body,
            show_tool_calls=_shows_tool_calls(model),
        )
        return reply(state, machine, model, "response", input_items(body["input"]), body)

    return blueprint


def input_items(given: str | list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """``input`` as a list of items: a text is one user message."""
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    return given or []


def _refuse_state(body: dict[str, Any]) -> None:
    """Refuse what needs stored responses; answered without them, it would be answered without its context."""
    if "previous_response_id" in body:
        raise PreviousResponseNotFound
    if body.get("background"):
        raise InvalidValue("Responses in the background are not available on this server.", param="background")
    if body.get("conversation") is not None:
        raise InvalidValue("Conversations are not available on this server.", param="conversation")


def _shows_tool_calls(model: Model) -> bool:
    own = model.wrapper.show_tool_calls
    return bool(current_app.config["FLASKCOMPAT_SHOW_TOOL_CALLS"]) if own is None else own
