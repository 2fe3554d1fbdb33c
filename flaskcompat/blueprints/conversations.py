"""``/v1/conversations``: items that responses are added to."""

from __future__ import annotations

from flask import Response

from flaskcompat.blueprints.access import current_owner
from flaskcompat.blueprints.failures import json_reply
from flaskcompat.blueprints.lists import asked, list_reply, page_reply
from flaskcompat.blueprints.requests import current_state, read_json
from flaskcompat.blueprints.routes import Routes
from flaskcompat.schemas import ConversationRequest, ItemsRequest, MetadataRequest, load
from flaskcompat.stores.records import Query

_conversation, _metadata, _items = ConversationRequest(), MetadataRequest(), ItemsRequest()


routes = Routes()


@routes.post("/v1/conversations")
def create_conversation() -> Response:
    state = current_state()
    body = load(_conversation, read_json())
    made = state.stores.responses.create_conversation(current_owner(), body.get("items", []), body.get("metadata", {}))
    return json_reply(made)


@routes.get("/v1/conversations/<id>")
def retrieve_conversation(id: str) -> Response:
    state = current_state()
    return json_reply(state.stores.responses.conversation(current_owner(), id))


@routes.post("/v1/conversations/<id>")
def update_conversation(id: str) -> Response:
    state = current_state()
    metadata = load(_metadata, read_json())["metadata"]
    return json_reply(state.stores.responses.change_conversation(current_owner(), id, metadata or {}))


@routes.delete("/v1/conversations/<id>")
def delete_conversation(id: str) -> Response:
    state = current_state()
    state.stores.responses.delete_conversation(current_owner(), id)
    return json_reply({"id": id, "object": "conversation.deleted", "deleted": True})


@routes.post("/v1/conversations/<id>/items")
def create_conversation_items(id: str) -> Response:
    state = current_state()
    items = load(_items, read_json())["items"]
    return list_reply(state.stores.responses.add_items(current_owner(), id, items), has_more=False)


@routes.get("/v1/conversations/<id>/items")
def list_conversation_items(id: str) -> Response:
    state = current_state()
    query = asked(Query("item", current_owner(), parent=id))
    return page_reply(state.stores.responses.items, query, lambda record: record.body)


@routes.get("/v1/conversations/<id>/items/<item>")
def retrieve_conversation_item(id: str, item: str) -> Response:
    state = current_state()
    return json_reply(state.stores.responses.item(current_owner(), id, item))


@routes.delete("/v1/conversations/<id>/items/<item>")
def delete_conversation_item(id: str, item: str) -> Response:
    state = current_state()
    return json_reply(state.stores.responses.delete_item(current_owner(), id, item))
