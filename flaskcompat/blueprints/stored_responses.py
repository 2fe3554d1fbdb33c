"""``/v1/responses/{id}``: responses that clients come back to."""

from __future__ import annotations

from flask import Blueprint, Response, request

from flaskcompat.blueprints.access import current_owner
from flaskcompat.blueprints.failures import json_reply
from flaskcompat.blueprints.lists import asked, part_reply
from flaskcompat.errors import InvalidRequest, InvalidValue
from flaskcompat.runtime.state import State
from flaskcompat.stores.records import Query


def make_blueprint(state: State) -> Blueprint:
    blueprint = Blueprint("stored_responses", __name__)

    @blueprint.get("/v1/responses/<id>", provide_automatic_options=False)
    def retrieve_response(id: str) -> Response:
        response = state.stores.responses.response(current_owner(), id)
        if request.args.get("stream") == "true":
            raise InvalidValue("Invalid 'stream': this response was not made in the background.", param="stream")
        return json_reply(response)

    @blueprint.delete("/v1/responses/<id>", provide_automatic_options=False)
    def delete_response(id: str) -> Response:
        state.stores.responses.delete_response(current_owner(), id)
        return json_reply({"id": id, "object": "response", "deleted": True})

    @blueprint.get("/v1/responses/<id>/input_items", provide_automatic_options=False)
    def list_input_items(id: str) -> Response:
        query = asked(Query("item", current_owner()))
        return part_reply(state.stores.responses.input_items(query.owner, id), query)

    @blueprint.post("/v1/responses/<id>/cancel", provide_automatic_options=False)
    def cancel_response(id: str) -> Response:
        state.stores.responses.response(current_owner(), id)
        raise InvalidRequest("Only responses in the background can be cancelled.", code="not_in_background")

    return blueprint
