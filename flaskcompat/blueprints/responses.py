"""``POST /v1/responses``."""

from __future__ import annotations

from functools import partial
from typing import Any

from flask import Response, current_app

from flaskcompat.blueprints.access import current_owner, find_model
from flaskcompat.blueprints.background import make_in_background
from flaskcompat.blueprints.replies import reply
from flaskcompat.blueprints.requests import current_state, read_json
from flaskcompat.blueprints.routes import Routes
from flaskcompat.errors import InvalidValue, NothingStored, PreviousResponseNotFound
from flaskcompat.protocol.answer_check import answer_check
from flaskcompat.protocol.responses import ResponseMachine
from flaskcompat.protocol.tool_calls import tool_names
from flaskcompat.runtime.registry import Model
from flaskcompat.runtime.state import State
from flaskcompat.schemas import ResponseRequest, load
from flaskcompat.stores.responses import Context
from flaskcompat.stores.saving import Keep

_schema = ResponseRequest()


routes = Routes()


@routes.post("/v1/responses")
def create_response() -> Response:
    state = current_state()
    body = load(_schema, read_json())
    model = find_model(state, body["model"])
    given = input_items(body["input"])
    context = context_of(state, current_owner(), body)
    machine = response_machine(model, body)
    payload, is_stored = [*context.items, *given], body.get("store", True)
    if body.get("background"):
        if not is_stored:
            raise InvalidValue("A response in the background must be stored.", param="background")
        return make_in_background(state, machine, model, payload, body, given, context)
    keep = None
    if is_stored:
        store = state.stores.responses
        save = partial(store.save_response, current_owner(), given=given, context=context)
        keep = Keep(save, waits=store.waits, failures=True)
    return reply(state, machine, model, "response", payload, body, keep)


def input_items(given: str | list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """``input`` as a list of items: a text is one user message."""
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    return given or []


def response_machine(model: Model, body: dict[str, Any]) -> ResponseMachine:
    """The machine of a response of *model* to the request *body*."""
    return ResponseMachine(
        model=model.name,
        tools=tool_names(body.get("tools")),
        check=answer_check(body) if model.wrapper.check_format else None,
        request=body,
        show_tool_calls=_shows_tool_calls(model),
    )


def context_of(state: State, owner: str, body: dict[str, Any]) -> Context:
    """What the response of *body* goes on from; never answered without it."""
    previous, conversation = body.get("previous_response_id"), body.get("conversation")
    if previous is not None and conversation is not None:
        raise InvalidValue("Give one of 'previous_response_id' and 'conversation'.", param="conversation")
    if previous is not None:
        try:
            return state.stores.responses.continued(owner, previous)
        except NothingStored:
            raise PreviousResponseNotFound from None
    if conversation is not None:
        id = conversation if isinstance(conversation, str) else conversation["id"]
        try:
            return state.stores.responses.in_conversation(owner, id)
        except NothingStored:
            raise NothingStored("conversation", param="conversation") from None
    return Context()


def _shows_tool_calls(model: Model) -> bool:
    own = model.wrapper.show_tool_calls
    return bool(current_app.config["FLASKCOMPAT_SHOW_TOOL_CALLS"]) if own is None else own
