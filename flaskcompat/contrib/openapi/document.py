"""The API as an OpenAPI 3.1 document."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask

from flaskcompat import schemas
from flaskcompat._version import __version__
from flaskcompat.contrib.openapi.answers import ANSWERS
from flaskcompat.contrib.openapi.operations import OPERATIONS, QUERIES, Operation
from flaskcompat.contrib.openapi.requests import property_of
from flaskcompat.contrib.openapi.shapes import TEXT, Schema, reference
from flaskcompat.runtime.state import State

_ABOUT = (
    "Haystack pipelines and agents as models of the OpenAI API. Fields that OpenAI's API has and this document does not"
    " name may be sent: they reach the pipeline. Each path may be written without /v1, too."
)


def document(app: Flask, state: State) -> dict[str, Any]:
    """The routes of *state* in *app* as an OpenAPI document, without the prefix that they are mounted at."""
    plugin = MarshmallowPlugin()
    spec = APISpec("flaskcompat", __version__, "3.1.0", info={"description": _ABOUT}, plugins=[plugin])
    assert plugin.converter is not None
    plugin.converter.add_attribute_function(property_of)  # type: ignore[no-untyped-call]
    for name in ("ChatCompletionRequest", "ResponseRequest", "ConversationRequest", "ItemsRequest", "MetadataRequest"):
        spec.components.schema(name, schema=getattr(schemas, name))
    spec.components.schema("File", schema=schemas.FileObject)
    for name, schema in ANSWERS.items():
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
    [first] = app.url_map.iter_rules(f"{prefix}list_models")
    mount = first.rule.removesuffix("/v1/models")
    for rule in app.url_map.iter_rules():
        name = rule.endpoint.removeprefix(prefix)
        if rule.endpoint.startswith(prefix) and name in OPERATIONS:
            path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule.removeprefix(mount))
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                yield path, method.lower(), name


# Operations are grouped by what their path is about.
_FAMILIES = {"models": "models", "chat": "chat_completions"}


def _operation(path: str, name: str) -> dict[str, Any]:
    operation = OPERATIONS[name]
    family = path.split("/")[2]
    parameters: list[Schema] = [
        {"name": found, "in": "path", "required": True, "schema": TEXT} for found in re.findall(r"{(\w+)}", path)
    ]
    for query in operation.queries:
        schema, about = QUERIES[query]
        parameters.append({"name": query.partition(" ")[0], "in": "query", "schema": schema, "description": about})
    made: dict[str, Any] = {
        "operationId": name,
        "summary": operation.summary,
        "tags": [_FAMILIES.get(family, family)],
        "parameters": parameters,
        "responses": {"200": {"description": "The answer.", "content": _answer(operation)}, "default": _FAILED},
    }
    if operation.takes is not None:
        kind = "multipart/form-data" if operation.takes == "FileUpload" else "application/json"
        made["requestBody"] = {"required": True, "content": {kind: {"schema": reference(operation.takes)}}}
    return made


def _answer(operation: Operation) -> Schema:
    if operation.gives is None:
        return {"application/octet-stream": {"schema": {}}}
    content: Schema = {"application/json": {"schema": reference(operation.gives)}}
    if operation.streams:
        content["text/event-stream"] = {"schema": TEXT}
    return content


_FAILED = {
    "description": "Why it could not be done.",
    "content": {"application/json": {"schema": reference("Error")}},
}
