"""``POST /v1/chat/completions``."""

from __future__ import annotations

from flask import Blueprint, Response, request

from flaskcompat.blueprints.replies import failure, reply
from flaskcompat.blueprints.requests import read_json
from flaskcompat.protocol.chat import ChatCompletionMachine
from flaskcompat.protocol.tool_calls import tool_names
from flaskcompat.runtime.invoke import invoke
from flaskcompat.runtime.registry import Registry
from flaskcompat.runtime.wrapper import Headers
from flaskcompat.schemas import ChatCompletionRequest, load

_schema = ChatCompletionRequest()


def make_blueprint(registry: Registry) -> Blueprint:
    blueprint = Blueprint("chat_completions", __name__)

    @blueprint.post("/v1/chat/completions")
    def create_chat_completion() -> Response:
        body = load(_schema, read_json(request))
        model, stream = registry[body["model"]], body.get("stream", False)
        try:
            run = invoke(model, "chat_completion", body["messages"], body, Headers(request.headers), stream=stream)
        except Exception as error:
            raise failure(error, f"{model.name}.run_chat_completion") from None
        machine = ChatCompletionMachine(
            model=model.name,
            tools=tool_names(body.get("tools")),
            include_usage=(body.get("stream_options") or {}).get("include_usage") or False,
            keep=not stream,
        )
        return reply(machine, run, stream=stream)

    return blueprint
