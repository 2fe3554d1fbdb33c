"""``POST /v1/chat/completions``."""

from __future__ import annotations

from functools import partial

from flask import Response

from flaskcompat.blueprints.access import current_owner, find_model
from flaskcompat.blueprints.replies import reply
from flaskcompat.blueprints.requests import current_state, read_json
from flaskcompat.blueprints.routes import Routes
from flaskcompat.protocol.answer_check import answer_check
from flaskcompat.protocol.chat import ChatCompletionMachine
from flaskcompat.protocol.tool_calls import tool_names
from flaskcompat.schemas import ChatCompletionRequest, load
from flaskcompat.stores.saving import Keep

_schema = ChatCompletionRequest()


routes = Routes()


@routes.post("/v1/chat/completions")
def create_chat_completion() -> Response:
    state = current_state()
    body = load(_schema, read_json())
    model = find_model(state, body["model"])
    stored = body.get("store", False)
    machine = ChatCompletionMachine(
        model=model.name,
        tools=tool_names(body.get("tools")),
        check=answer_check(body) if model.wrapper.check_format else None,
        include_usage=body.get("stream_options", {}).get("include_usage") or False,
        keep=stored or not body.get("stream"),
    )
    keep = None
    if stored:
        store = state.stores.responses
        about = {"messages": body["messages"], "metadata": body.get("metadata", {})}
        keep = Keep(partial(store.save_completion, current_owner(), **about), waits=store.waits, failures=False)
    return reply(state, machine, model, "chat_completion", body["messages"], body, keep)
