"""``/v1/chat/completions`` and below: chat completions that were made with ``store: true``."""

from __future__ import annotations

import re

from flask import Response, request

from flaskcompat.blueprints.access import current_owner
from flaskcompat.blueprints.failures import json_reply
from flaskcompat.blueprints.lists import asked, page_reply, part_reply
from flaskcompat.blueprints.requests import current_state, read_json
from flaskcompat.blueprints.routes import Routes
from flaskcompat.schemas import MetadataRequest, load
from flaskcompat.stores.records import Query
from flaskcompat.stores.responses import shown_completion

_METADATA = re.compile(r"metadata\[(.*)\]", re.S)
_schema = MetadataRequest()


routes = Routes()


@routes.get("/v1/chat/completions")
def list_chat_completions() -> Response:
    state = current_state()
    model = request.args.get("model") or None
    query = asked(Query("chat.completion", current_owner(), label=model, descending=False))
    named = ((_METADATA.fullmatch(name), value) for name, value in request.args.items())
    metadata = {found[1]: value for found, value in named if found}
    return page_reply(
        lambda query: state.stores.responses.completions(query, metadata),
        query,
        shown_completion,
    )


@routes.get("/v1/chat/completions/<id>")
def retrieve_chat_completion(id: str) -> Response:
    state = current_state()
    return json_reply(state.stores.responses.completion(current_owner(), id))


@routes.post("/v1/chat/completions/<id>")
def update_chat_completion(id: str) -> Response:
    state = current_state()
    metadata = load(_schema, read_json())["metadata"]
    return json_reply(state.stores.responses.change_completion(current_owner(), id, metadata or {}))


@routes.delete("/v1/chat/completions/<id>")
def delete_chat_completion(id: str) -> Response:
    state = current_state()
    state.stores.responses.delete_completion(current_owner(), id)
    return json_reply({"id": id, "object": "chat.completion.deleted", "deleted": True})


@routes.get("/v1/chat/completions/<id>/messages")
def list_chat_completion_messages(id: str) -> Response:
    state = current_state()
    query = asked(Query("item", current_owner(), descending=False))
    return part_reply(state.stores.responses.messages(query.owner, id), query)
