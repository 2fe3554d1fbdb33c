"""``/v1/chat/completions`` and below: chat completions that were made with ``store: true``."""

from __future__ import annotations

import re

from flask import Blueprint, Response, request

from flaskcompat.blueprints.access import current_owner
from flaskcompat.blueprints.failures import json_reply
from flaskcompat.blueprints.lists import asked, page_reply, part_reply
from flaskcompat.blueprints.requests import read_json
from flaskcompat.runtime.state import State
from flaskcompat.schemas import MetadataRequest, load
from flaskcompat.stores.records import Query
from flaskcompat.stores.responses import shown_completion

_METADATA = re.compile(r"metadata\[(.*)\]", re.S)
_schema = MetadataRequest()


def make_blueprint(state: State) -> Blueprint:
    blueprint = Blueprint("stored_completions", __name__)

    @blueprint.get("/v1/chat/completions", provide_automatic_options=False)
    def list_chat_completions() -> Response:
        model = request.args.get("model") or None
        query = asked(Query("chat.completion", current_owner(), label=model, descending=False))
        named = ((_METADATA.fullmatch(name), value) for name, value in request.args.items())
        metadata = {found[1]: value for found, value in named if found}
        return page_reply(
            lambda query: state.stores.responses.completions(query, metadata),
            query,
            shown_completion,
        )

    @blueprint.get("/v1/chat/completions/<id>", provide_automatic_options=False)
    def retrieve_chat_completion(id: str) -> Response:
        return json_reply(state.stores.responses.completion(current_owner(), id))

    @blueprint.post("/v1/chat/completions/<id>", provide_automatic_options=False)
    def update_chat_completion(id: str) -> Response:
        metadata = load(_schema, read_json())["metadata"]
        return json_reply(state.stores.responses.change_completion(current_owner(), id, metadata or {}))

    @blueprint.delete("/v1/chat/completions/<id>", provide_automatic_options=False)
    def delete_chat_completion(id: str) -> Response:
        state.stores.responses.delete_completion(current_owner(), id)
        return json_reply({"id": id, "object": "chat.completion.deleted", "deleted": True})

    @blueprint.get("/v1/chat/completions/<id>/messages", provide_automatic_options=False)
    def list_chat_completion_messages(id: str) -> Response:
        query = asked(Query("item", current_owner(), descending=False))
        return part_reply(state.stores.responses.messages(query.owner, id), query)

    return blueprint
