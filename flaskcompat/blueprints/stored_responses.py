"""``/v1/responses/{id}``: responses that clients come back to."""

from __future__ import annotations

from flask import Response, request

from flaskcompat.blueprints.access import current_owner
from flaskcompat.blueprints.failures import json_reply
from flaskcompat.blueprints.lists import asked, part_reply
from flaskcompat.blueprints.replies import admit, client_gone, replay
from flaskcompat.blueprints.requests import current_state
from flaskcompat.blueprints.routes import Routes
from flaskcompat.errors import InvalidRequest, InvalidType, InvalidValue, NotFound
from flaskcompat.protocol.responses import RUNNING
from flaskcompat.runtime.admission import Left
from flaskcompat.runtime.state import State
from flaskcompat.stores.records import Query

# Of a number that is still taken for one.
_DIGITS = 10


routes = Routes()


@routes.get("/v1/responses/<id>")
def retrieve_response(id: str) -> Response:
    state = current_state()
    owner, store = current_owner(), state.stores.responses
    response = store.response(owner, id)
    if response["status"] in RUNNING:
        store.end_lost()  # it may be of a process that has ended
        response = store.response(owner, id)
    if _flag("stream"):
        return _follow(state, owner, id)
    return json_reply(response)


@routes.delete("/v1/responses/<id>")
def delete_response(id: str) -> Response:
    state = current_state()
    state.stores.responses.delete_response(current_owner(), id)
    return json_reply({"id": id, "object": "response", "deleted": True})


@routes.get("/v1/responses/<id>/input_items")
def list_input_items(id: str) -> Response:
    state = current_state()
    query = asked(Query("item", current_owner()))
    return part_reply(state.stores.responses.input_items(query.owner, id), query)


@routes.post("/v1/responses/<any(compact, input_tokens):name>")
def not_offered(name: str) -> Response:
    # No ids, though they look so. Both would need a model's own tokens, which no wrapper tells.
    raise NotFound


@routes.post("/v1/responses/<id>/cancel")
def cancel_response(id: str) -> Response:
    state = current_state()
    # Again, or too late, it is given as it has ended.
    response = state.stores.responses.cancel(current_owner(), id)
    if response is None:
        raise InvalidRequest("Only a response that is made in the background can be cancelled.")
    state.background.stop(id)
    state.followers.tell(id)
    return json_reply(response)


def _follow(state: State, owner: str, id: str) -> Response:
    after = request.args.get("starting_after") or "-1"
    if after != "-1" and not (after.isascii() and after.isdigit() and len(after) < _DIGITS):
        raise InvalidType("Invalid 'starting_after': it must be a number.", param="starting_after")
    if state.stores.responses.log(owner, id, 0, 1) is None:
        raise InvalidValue("Invalid 'stream': this response was not made in the background.", param="stream")
    if request.method == "HEAD":
        return Response(content_type="text/event-stream; charset=utf-8")
    try:
        ticket = admit(state, None)
    except Left:
        return client_gone()
    return replay(state, owner, id, int(after) + 1, ticket)


def _flag(name: str) -> bool:
    """Whether a parameter of the current request says yes."""
    text = request.args.get(name, "").lower()
    if text not in ("", "true", "false", "1", "0"):
        raise InvalidType(f"Invalid '{name}': it must be a boolean.", param=name)
    return text in ("true", "1")
