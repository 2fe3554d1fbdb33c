"""The API as an OpenAPI 3.1 document, ``GET /openapi.json``, and as a page to read, ``GET /docs``.

What a request may hold is read from the schemas that check it.
"""

from __future__ import annotations

import secrets
from functools import lru_cache
from typing import Any

from flask import Blueprint, Flask, Response, current_app, request
from jinja2 import Environment, PackageLoader

from flaskcompat.blueprints.failures import json_reply
from flaskcompat.contrib.openapi.document import document
from flaskcompat.runtime.state import State

# Apart from the host's own templates and what it has set for them.
_templates = Environment(loader=PackageLoader("flaskcompat.contrib.openapi"), autoescape=True)


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
