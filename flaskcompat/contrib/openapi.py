"""The API as an OpenAPI 3.1 document, ``GET /openapi.json``, and as a page to read, ``GET /docs``.

What a request may hold is read from the schemas that check it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Blueprint, Flask, Response, current_app, request
from jinja2 import Environment, PackageLoader
from marshmallow import fields as marshmallow_fields

from flaskcompat import schemas
from flaskcompat._version import __version__
from flaskcompat.blueprints.failures import json_reply
from flaskcompat.blueprints.files import MOST_LISTED
from flaskcompat.blueprints.lists import MOST
from flaskcompat.runtime.state import State

_ABOUT = (
    "Haystack pipelines and agents as models of the OpenAI API. Fields that OpenAI's API has and this document does not"
    " name may be sent: they reach the pipeline. Each path may be written without /v1, too."
)
_Schema = dict[str, Any]
_TEXT: _Schema = {"type": "string"}
_COUNT: _Schema = {"type": "integer", "minimum": 0}
_ANY_OBJECT: _Schema = {"type": "object", "additionalProperties": True}


@dataclass(frozen=True)
class _Operation:
    """What the document says of a view.

    :param takes: the name of the schema of its body.
    :param gives: the name of the schema of its answer; None for bytes.
    :param streams: whether the answer may be an event stream.
    :param queries: further parameters, by their names.
    """

    summary: str
    gives: str | None
    takes: str | None = None
    streams: bool = False
    queries: tuple[str, ...] = ()


_PAGE = ("after", "limit", "order")
_QUERIES: dict[str, tuple[_Schema, str]] = {
    "after": (_TEXT, "The id after which the page begins."),
    "limit": ({"type": "integer", "minimum": 1, "maximum": MOST}, "How many entries the page has at most."),
    "limit of files": (
        {"type": "integer", "minimum": 1, "maximum": MOST_LISTED},
        "How many entries the page has at most.",
    ),
    "order": ({"type": "string", "enum": ["asc", "desc"]}, "By the time of making."),
    "model": (_TEXT, "Of this model alone."),
    "purpose": (_TEXT, "Of this purpose alone."),
    "stream": ({"type": "boolean"}, "Follow a response that is made in the background."),
    "starting_after": (_COUNT, "The sequence number after which the stream begins."),
}

#: By the endpoint of each view.
OPERATIONS: dict[str, _Operation] = {
    "models.list_models": _Operation("List the models that can be asked.", "ModelList"),
    "models.retrieve_model": _Operation("Tell of one model.", "Model"),
    "chat_completions.create_chat_completion": _Operation(
        "Ask a model to answer a conversation, given as messages.", "ChatCompletion", "ChatCompletionRequest", True
    ),
    "stored_completions.list_chat_completions": _Operation(
        "List the chat completions that were made with store.", "List", queries=(*_PAGE, "model")
    ),
    "stored_completions.retrieve_chat_completion": _Operation("Give a stored chat completion.", "ChatCompletion"),
    "stored_completions.update_chat_completion": _Operation(
        "Change the metadata of a stored chat completion.", "ChatCompletion", "MetadataRequest"
    ),
    "stored_completions.delete_chat_completion": _Operation("Delete a stored chat completion.", "Deleted"),
    "stored_completions.list_chat_completion_messages": _Operation(
        "List the messages that a stored chat completion answers.", "List", queries=_PAGE
    ),
    "responses.create_response": _Operation(
        "Ask a model to answer a text, or a list of items.", "Response", "ResponseRequest", True
    ),
    "stored_responses.retrieve_response": _Operation(
        "Give a stored response.", "Response", streams=True, queries=("stream", "starting_after")
    ),
    "stored_responses.delete_response": _Operation("Delete a stored response.", "Deleted"),
    "stored_responses.cancel_response": _Operation("End a response that is made in the background.", "Response"),
    "stored_responses.list_input_items": _Operation("List what a response answers.", "List", queries=_PAGE),
    "conversations.create_conversation": _Operation("Begin a conversation.", "Conversation", "ConversationRequest"),
    "conversations.retrieve_conversation": _Operation("Tell of a conversation.", "Conversation"),
    "conversations.update_conversation": _Operation(
        "Change the metadata of a conversation.", "Conversation", "MetadataRequest"
    ),
    "conversations.delete_conversation": _Operation("Delete a conversation.", "Deleted"),
    "conversations.create_conversation_items": _Operation("Add items to a conversation.", "List", "ItemsRequest"),
    "conversations.list_conversation_items": _Operation("List the items of a conversation.", "List", queries=_PAGE),
    "conversations.retrieve_conversation_item": _Operation("Give an item of a conversation.", "Item"),
    "conversations.delete_conversation_item": _Operation("Delete an item of a conversation.", "Conversation"),
    "files.upload_file": _Operation("Upload a file.", "File", "FileUpload"),
    "files.list_files": _Operation(
        "List the files that were uploaded.", "List", queries=("after", "limit of files", "order", "purpose")
    ),
    "files.retrieve_file": _Operation("Tell of a file.", "File"),
    "files.retrieve_file_content": _Operation("Give the bytes of a file.", None),
    "files.delete_file": _Operation("Delete a file.", "Deleted"),
}

_DESCRIPTIONS = {
    "model": "The id of a model that the list of models gives.",
    "messages": "The conversation so far; the last message is the one to be answered.",
    "input": "A text to be answered, or the conversation so far as items.",
    "instructions": "What the model is told before the conversation.",
    "stream": "Send the answer as it is made, as server-sent events.",
    "store": "Keep the answer, to be given again and to go on from.",
    "previous_response_id": "The stored response that this one goes on from.",
    "conversation": "The conversation that this response is added to, by its id.",
    "background": "Make the response while nobody waits.",
    "tools": "Functions that the model may call, and the client runs.",
    "metadata": "Up to 16 pairs of texts to keep with it.",
}

_KEPT_AS_ITEM: _Schema = {"type": "object", "properties": {"id": _TEXT, "type": _TEXT}, "additionalProperties": True}


def _object(required: str, **properties: _Schema) -> _Schema:
    return {"type": "object", "required": required.split(), "properties": properties}


_TOKENS = {"type": "object", "additionalProperties": True}
_ANSWERS: dict[str, _Schema] = {
    "Model": _object("id object created owned_by", id=_TEXT, object={"const": "model"}, created=_COUNT, owned_by=_TEXT),
    "ModelList": _object(
        "object data",
        object={"const": "list"},
        data={"type": "array", "items": {"$ref": "#/components/schemas/Model"}},
    ),
    "ChatCompletion": _object(
        "id object created model choices usage",
        id=_TEXT,
        object={"const": "chat.completion"},
        created=_COUNT,
        model=_TEXT,
        choices={
            "type": "array",
            "items": _object(
                "index message finish_reason",
                index=_COUNT,
                message=_object(
                    "role content",
                    role={"const": "assistant"},
                    content={"type": ["string", "null"]},
                    reasoning_content=_TEXT,
                    tool_calls={"type": "array", "items": _ANY_OBJECT},
                    annotations={"type": "array", "items": _ANY_OBJECT},
                ),
                finish_reason={"type": "string", "enum": ["stop", "length", "content_filter", "tool_calls"]},
            ),
        },
        usage=_TOKENS,
    ),
    "Response": _object(
        "id object created_at model status output",
        id=_TEXT,
        object={"const": "response"},
        created_at={"type": "number"},
        model=_TEXT,
        status={
            "type": "string",
            "enum": ["completed", "failed", "in_progress", "cancelled", "queued", "incomplete"],
        },
        output={"type": "array", "items": {"$ref": "#/components/schemas/Item"}},
        usage={"type": ["object", "null"], "additionalProperties": True},
        error={"type": ["object", "null"], "additionalProperties": True},
    ),
    "Item": _KEPT_AS_ITEM,
    "Conversation": _object(
        "id object created_at metadata",
        id=_TEXT,
        object={"const": "conversation"},
        created_at=_COUNT,
        metadata=_ANY_OBJECT,
    ),
    "List": _object(
        "object data first_id last_id has_more",
        object={"const": "list"},
        data={"type": "array", "items": _ANY_OBJECT},
        first_id={"type": ["string", "null"]},
        last_id={"type": ["string", "null"]},
        has_more={"type": "boolean"},
    ),
    "Deleted": _object("id object deleted", id=_TEXT, object=_TEXT, deleted={"const": True}),
    "FileUpload": _object(
        "file purpose",
        file={"type": "string", "contentMediaType": "application/octet-stream"},
        purpose=_TEXT,
    ),
    "Error": _object(
        "error",
        error=_object(
            "message type param code",
            message=_TEXT,
            type=_TEXT,
            param={"type": ["string", "null"]},
            code={"type": ["string", "null"]},
        ),
    ),
}


# -- from the schemas of requests ----------------------------------------------------------------------------


def _property(_: Any, field: marshmallow_fields.Field[Any], **__: Any) -> _Schema:
    """What a field of ours takes, as JSON Schema; called by apispec."""
    made = _type_of(field)
    if made and not field.required:
        made = _or_null(made)
    if made and (about := _DESCRIPTIONS.get(field.name or "")) is not None:
        made["description"] = about
    return made


def _or_null(schema: _Schema) -> _Schema:
    """*schema*, or null, which is as good as absent."""
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    nullable = {**schema, "type": [schema["type"], "null"]}
    return {**nullable, "enum": [*schema["enum"], None]} if "enum" in schema else nullable


def _type_of(field: marshmallow_fields.Field[Any]) -> _Schema:
    match field:
        case schemas.Number():
            bounds = {"minimum": field.low, "maximum": 1 if isinstance(field, schemas.One) else field.high}
            kind = "integer" if field.whole else "number"
            return {"type": kind, **{name: value for name, value in bounds.items() if value is not None}}
        case schemas.Name():
            return {"type": "string", "minLength": 1}
        case schemas.ChoiceOrObject():
            return {"anyOf": [{"type": "string", "enum": list(field.choices)}, _ANY_OBJECT]}
        case schemas.Choice():
            return {"type": "string", "enum": list(field.choices)}
        case schemas.Messages():
            roles = {"type": "string", "enum": sorted(schemas.CHAT_ROLES)}
            message = _object("role", role=roles, content=_content())
            return {"type": "array", "minItems": 1, "items": message}
        case schemas.Items():
            return {"type": "array", "maxItems": schemas.MOST_ITEMS_ADDED, "items": _input_item()}
        case schemas.Input():
            return {"anyOf": [_TEXT, {"type": "array", "items": _input_item()}]}
        case schemas.Conversation():
            return {"anyOf": [_TEXT, _object("id", id=_TEXT)]}
        case schemas.Stop():
            return {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}
        case schemas.Metadata():
            text = {"type": "string", "maxLength": schemas.METADATA_VALUE}
            return {"type": "object", "maxProperties": schemas.METADATA_PAIRS, "additionalProperties": text}
        case schemas.Strings():
            return {"type": "array", "items": _TEXT}
        case schemas.Array():
            return {"type": "array", "items": _ANY_OBJECT}
        case schemas.Object():
            return dict(_ANY_OBJECT)
        case schemas.Flag():
            return {"type": "boolean"}
        case schemas.String():
            return dict(_TEXT)
    return {}


def _content() -> _Schema:
    """A text, or parts; null beside calls of tools."""
    return _or_null({"anyOf": [_TEXT, {"type": "array", "items": _object("type", type=_TEXT, text=_TEXT)}]})


def _input_item() -> _Schema:
    return {
        "type": "object",
        "properties": {
            "type": _TEXT,
            "role": {"type": "string", "enum": sorted(schemas.INPUT_ROLES)},
            "content": _content(),
        },
        "additionalProperties": True,
    }


# -- the document --------------------------------------------------------------------------------------------


def document(app: Flask, state: State) -> dict[str, Any]:
    """The routes of *state* in *app* as an OpenAPI document, without the prefix that they are mounted at."""
    plugin = MarshmallowPlugin()
    spec = APISpec("flaskcompat", __version__, "3.1.0", info={"description": _ABOUT}, plugins=[plugin])
    assert plugin.converter is not None
    plugin.converter.add_attribute_function(_property)  # type: ignore[no-untyped-call]
    for name in ("ChatCompletionRequest", "ResponseRequest", "ConversationRequest", "ItemsRequest", "MetadataRequest"):
        spec.components.schema(name, schema=getattr(schemas, name))
    spec.components.schema("File", schema=schemas.FileObject)
    for name, schema in _ANSWERS.items():
        spec.components.schema(name, schema)
    spec.components.security_scheme("key", {"type": "http", "scheme": "bearer"})
    for path, method, name in _routes(app, state):
        spec.path(path, operations={method: _operation(path, name)})
    made: dict[str, Any] = spec.to_dict()
    if state.guarded:
        made["security"] = [{"key": []}]
    return made


def _routes(app: Flask, state: State) -> Iterator[tuple[str, str, str]]:
    """Each as its path, its method, and the name of its view."""
    prefix = state.prefixes[0]
    [first] = app.url_map.iter_rules(f"{prefix}models.list_models")
    mount = first.rule.removesuffix("/v1/models")
    for rule in app.url_map.iter_rules():
        name = rule.endpoint.removeprefix(prefix)
        if rule.endpoint.startswith(prefix) and name in OPERATIONS:
            path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule.removeprefix(mount))
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                yield path, method.lower(), name


# Views of the same family stand together.
_FAMILIES = {"stored_completions": "chat_completions", "stored_responses": "responses"}


def _operation(path: str, name: str) -> dict[str, Any]:
    operation = OPERATIONS[name]
    family, _, view = name.partition(".")
    parameters: list[_Schema] = [
        {"name": found, "in": "path", "required": True, "schema": _TEXT} for found in re.findall(r"{(\w+)}", path)
    ]
    for query in operation.queries:
        schema, about = _QUERIES[query]
        parameters.append({"name": query.partition(" ")[0], "in": "query", "schema": schema, "description": about})
    made: dict[str, Any] = {
        "operationId": view,
        "summary": operation.summary,
        "tags": [_FAMILIES.get(family, family)],
        "parameters": parameters,
        "responses": {"200": {"description": "The answer.", "content": _answer(operation)}, "default": _FAILED},
    }
    if operation.takes is not None:
        kind = "multipart/form-data" if operation.takes == "FileUpload" else "application/json"
        made["requestBody"] = {"required": True, "content": {kind: {"schema": _reference(operation.takes)}}}
    return made


def _answer(operation: _Operation) -> _Schema:
    if operation.gives is None:
        return {"application/octet-stream": {"schema": {}}}
    content: _Schema = {"application/json": {"schema": _reference(operation.gives)}}
    if operation.streams:
        content["text/event-stream"] = {"schema": _TEXT}
    return content


def _reference(name: str) -> _Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_FAILED = {
    "description": "Why it could not be done.",
    "content": {"application/json": {"schema": _reference("Error")}},
}


# -- the views -----------------------------------------------------------------------------------------------


# Apart from the host's own templates and what it has set for them.
_templates = Environment(loader=PackageLoader("flaskcompat.contrib"), autoescape=True)


def make_openapi_blueprint(state: State) -> Blueprint:
    """``/openapi.json`` and ``/docs``."""
    blueprint = Blueprint("openapi", __name__)
    options: dict[str, Any] = {"provide_automatic_options": False, "merge_slashes": False}

    @lru_cache(maxsize=1)
    def made(app: Flask) -> dict[str, Any]:
        return document(app, state)

    def here() -> dict[str, Any]:
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        # Where it was asked for: a mount may have variables, or be one of several.
        mount = f"{request.script_root}{request.path}".rpartition("/")[0]
        return {**made(app), "servers": [{"url": mount or "/"}]}

    @blueprint.get("/openapi.json", **options)
    def get_openapi() -> Response:
        return json_reply(here())

    @blueprint.get("/docs", **options)
    def read_docs() -> Response:
        nonce = secrets.token_urlsafe(16)
        response = Response(_templates.get_template("docs.html").render(document=here(), nonce=nonce))
        policy = f"default-src 'none'; style-src 'nonce-{nonce}'; base-uri 'none'; frame-ancestors 'none'"
        response.headers.update({"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"})
        return response

    return blueprint
