"""The API as an OpenAPI 3.1 document, ``GET /openapi.json``, and as a page to read, ``GET /docs``.

What a request may hold is read from the schemas that check it.
"""

from __future__ import annotations

import secrets
from typing import Any
from weakref import WeakKeyDictionary

from flask import Flask, Response, current_app, request
from jinja2 import Environment, PackageLoader

from flaskcompat.blueprints.failures import json_reply
from flaskcompat.blueprints.requests import current_state
from flaskcompat.blueprints.routes import Routes
from flaskcompat.contrib.openapi.document import document

# Apart from the host's own templates and what it has set for them.
_templates = Environment(loader=PackageLoader("flaskcompat.contrib.openapi"), autoescape=True)


routes = Routes(merge_slashes=False)
# By the name of the API in an application.
_made: WeakKeyDictionary[Flask, dict[str, dict[str, Any]]] = WeakKeyDictionary()


@routes.get("/openapi.json")
def get_openapi() -> Response:
    return json_reply(_document_here())


@routes.get("/docs")
def read_docs() -> Response:
    nonce = secrets.token_urlsafe(16)
    response = Response(_templates.get_template("docs.html").render(document=_document_here(), nonce=nonce))
    policy = f"default-src 'none'; style-src 'nonce-{nonce}'; base-uri 'none'; frame-ancestors 'none'"
    response.headers.update({"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"})
    return response


def _document_here() -> dict[str, Any]:
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    made, state = _made.setdefault(app, {}), current_state()
    name = state.prefixes[0]
    if name not in made:
        made[name] = document(app, state)
    # Where it was asked for: a mount may have variables, or be one of several.
    mount = f"{request.script_root}{request.path}".rpartition("/")[0]
    return {**made[name], "servers": [{"url": mount or "/"}]}
