"""``/v1/conversations``: items that responses are added to."""

from __future__ import annotations

from flask import Blueprint, Response

from flaskcompat.blueprints.access import current_owner
from flaskcompat.blueprints.failures import json_reply
from flaskcompat.blueprints.lists import asked, list_reply, page_reply
from flaskcompat.blueprints.requests import read_json
from flaskcompat.runtime.state import State
from flaskcompat.schemas import ConversationRequest, ItemsRequest, MetadataRequest, load
from flaskcompat.stores.records import Query

_conversation, _metadata, _items = ConversationRequest(), MetadataRequest(), ItemsRequest()


def make_blueprint(state: State) -> Blueprint:
    blueprint = Blueprint("conversations", __name__)

    @blueprint.post("/v1/conversations", provide_automatic_options=False)
    def create_conversation() -> Response:
        body = load(_conversation, read_json())
        made = state.stores.responses.create_conversation(
            current_owner(), body.get("items", []), body.get("metadata", {})
        )
        return json_reply(made)

    @blueprint.get("/v1/conversations/<id>", provide_automatic_options=False)
    def retrieve_conversation(id: str) -> Response:
        return json_reply(state.stores.responses.conversation(current_owner(), id))

    @blueprint.post("/v1/conversations/<id>", provide_automatic_options=False)
    def update_conversation(id: str) -> Response:
        metadata = load(_metadata, read_json())["metadata"]
        return json_reply(state.stores.responses.change_conversation(current_owner(), id, metadata or {}))

    @blueprint.delete("/v1/conversations/<id>", provide_automatic_options=False)
    def delete_conversation(id: str) -> Response:
        state.stores.responses.delete_conversation(current_owner(), id)
        return json_reply({"id": id, "object": "conversation.deleted", "deleted": True})

    @blueprint.post("/v1/conversations/<id>/items", provide_automatic_options=False)
    def create_conversation_items(id: str) -> Response:
        items = load(_items, read_json())["items"]
        return list_reply(state.stores.responses.add_items(current_owner(), id, items), has_more=False)

    @blueprint.get("/v1/conversations/<id>/items", provide_automatic_options=False)
    def list_conversation_items(id: str) -> Response:
        query = asked(Query("item", current_owner(), parent=id))
        return page_reply(state.stores.responses.items, query, lambda record: record.body)

    @blueprint.get("/v1/conversations/<id>/items/<item>", provide_automatic_options=False)
    def retrieve_conversation_item(id: str, item: str) -> Response:
        return json_reply(state.stores.responses.item(current_owner(), id, item))

    @blueprint.delete("/v1/conversations/<id>/items/<item>", provide_automatic_options=False)
    def delete_conversation_item(id: str, item: str) -> Response:
        return json_reply(state.stores.responses.delete_item(current_owner(), id, item))

    return blueprint
