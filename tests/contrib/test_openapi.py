"""``/openapi.json`` and ``/docs``: true to the routes, to what they take and to what they give."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask
from jinja2 import StrictUndefined
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import Map

from flaskcompat import FlaskCompat, create_app
from flaskcompat.contrib.openapi.operations import OPERATIONS

from ..support import chat_body, response_body, scripted

CALLED = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f"}}]},
    {"role": "tool", "tool_call_id": "c", "content": "done"},
]


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    app = create_app({"FLASKCOMPAT_PIPELINES_DIR": str(tmp_path)})
    app.extensions["flaskcompat"].registry.add("m", scripted(["some ", "words"]))
    return app


def document_of(app: Flask, prefix: str = "", **kwargs: Any) -> dict[str, Any]:
    answer = app.test_client().get(f"{prefix}/openapi.json", **kwargs)
    assert answer.status_code == 200 and answer.content_type == "application/json"
    return dict(answer.json)


def test_document_is_valid(app: Flask) -> None:
    document = document_of(app)
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


def test_every_route_is_in_it(app: Flask) -> None:
    ours = [r for r in app.url_map.iter_rules() if r.rule.startswith("/v1/") and "not_offered" not in r.endpoint]
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower(), rule.endpoint.rpartition(".")[2])
        for rule in ours
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    shown = {
        (path, method, operation["operationId"])
        for path, methods in document_of(app)["paths"].items()
        for method, operation in methods.items()
    }
    assert shown == routes and len(routes) == len(OPERATIONS)


def test_answers_are_as_it_says(app: Flask) -> None:
    document, client = document_of(app), app.test_client()
    seen: set[str] = set()

    def ask(method: str, path: str, view: str, **kwargs: Any) -> Any:
        """Sends what the document allows, and holds the answer against it."""
        found = [
            operation
            for methods in document["paths"].values()
            for name, operation in methods.items()
            if name == method and operation["operationId"] == view
        ]
        [operation] = found
        if "json" in kwargs:
            body = operation["requestBody"]["content"]["application/json"]["schema"]
            Draft202012Validator({**body, "components": document["components"]}).validate(kwargs["json"])
        answer = client.open(path, method=method.upper(), **kwargs)
        assert answer.status_code == 200, answer.text
        content = operation["responses"]["200"]["content"]
        assert answer.mimetype in content
        if answer.mimetype == "application/json":
            Draft202012Validator(
                {**content["application/json"]["schema"], "components": document["components"]}
            ).validate(answer.json)
        seen.add(view)
        return answer.json if answer.is_json else answer.text

    ask("get", "/v1/models", "list_models")
    ask("get", "/v1/models/m", "retrieve_model")
    made = ask("post", "/v1/chat/completions", "create_chat_completion", json=chat_body(store=True))
    ask("post", "/v1/chat/completions", "create_chat_completion", json=chat_body(stream=True))
    ask("get", "/v1/chat/completions?limit=2&order=desc&model=m", "list_chat_completions")
    below = f"/v1/chat/completions/{made['id']}"
    ask("get", below, "retrieve_chat_completion")
    ask("post", below, "update_chat_completion", json={"metadata": {"a": "b"}})
    ask("get", f"{below}/messages", "list_chat_completion_messages")
    ask("delete", below, "delete_chat_completion")
    talk = ask("post", "/v1/conversations", "create_conversation", json={"metadata": {"a": "b"}})["id"]
    item = {"type": "message", "role": "user", "content": "hi"}
    added = ask("post", f"/v1/conversations/{talk}/items", "create_conversation_items", json={"items": [item]})
    ask("get", f"/v1/conversations/{talk}/items", "list_conversation_items")
    one = f"/v1/conversations/{talk}/items/{added['first_id']}"
    ask("get", one, "retrieve_conversation_item")
    response = ask("post", "/v1/responses", "create_response", json=response_body(conversation=talk))
    ask("get", f"/v1/responses/{response['id']}", "retrieve_response")
    ask("get", f"/v1/responses/{response['id']}/input_items", "list_input_items")
    ask("delete", f"/v1/responses/{response['id']}", "delete_response")
    later = ask("post", "/v1/responses", "create_response", json=response_body(background=True))
    ask("post", f"/v1/responses/{later['id']}/cancel", "cancel_response")
    ask("delete", one, "delete_conversation_item")
    ask("get", f"/v1/conversations/{talk}", "retrieve_conversation")
    ask("post", f"/v1/conversations/{talk}", "update_conversation", json={"metadata": {}})
    ask("delete", f"/v1/conversations/{talk}", "delete_conversation")
    form = {"purpose": "user_data", "file": (Path(__file__).open("rb"), "a.txt")}
    file = ask("post", "/v1/files", "upload_file", data=form, content_type="multipart/form-data")["id"]
    ask("get", "/v1/files?purpose=user_data", "list_files")
    ask("get", f"/v1/files/{file}", "retrieve_file")
    ask("delete", f"/v1/files/{file}", "delete_file")
    assert set(OPERATIONS) - seen == {"retrieve_file_content"}
    failed = client.get("/v1/models/none").json
    error = {"$ref": "#/components/schemas/Error", "components": document["components"]}
    Draft202012Validator(error).validate(failed)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 3},
        {"messages": []},
        {"stream": "yes"},
        {"n": 2},
        {"tool_choice": "some"},
        {"metadata": {"a": 1}},
    ],
)
def test_what_is_refused_is_no_request_of_its_either(app: Flask, wrong: dict[str, Any]) -> None:
    document, body = document_of(app), chat_body() | wrong
    schema = {"$ref": "#/components/schemas/ChatCompletionRequest", "components": document["components"]}
    assert app.test_client().post("/v1/chat/completions", json=body).status_code == 400
    assert not Draft202012Validator(schema).is_valid(body)


@pytest.mark.parametrize(
    ("schema", "path", "more"),
    [
        ("ChatCompletionRequest", "/v1/chat/completions", {"temperature": None, "stop": None, "tools": None}),
        ("ChatCompletionRequest", "/v1/chat/completions", {"messages": CALLED}),
        ("ResponseRequest", "/v1/responses", {"metadata": None, "instructions": None, "truncation": None}),
    ],
)
def test_what_is_taken_is_a_request_of_its(app: Flask, schema: str, path: str, more: dict[str, Any]) -> None:
    document, body = document_of(app), (chat_body() if "chat" in path else response_body()) | more
    assert app.test_client().post(path, json=body).status_code == 200
    of = {"$ref": f"#/components/schemas/{schema}", "components": document["components"]}
    Draft202012Validator(of).validate(body)


def test_off_when_embedded_and_switched_on_and_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Flask("host")
    FlaskCompat(host)
    off = create_app({"FLASKCOMPAT_PIPELINES_DIR": str(tmp_path), "FLASKCOMPAT_OPENAPI": False})
    for app in (host, off):
        assert [app.test_client().get(path).status_code for path in ("/openapi.json", "/docs")] == [404, 404]
    monkeypatch.setitem(sys.modules, "flaskcompat.contrib.openapi", None)
    with pytest.raises(ValueError, match=re.escape("flaskcompat[openapi]")):
        create_app({"FLASKCOMPAT_PIPELINES_DIR": str(tmp_path), "FLASKCOMPAT_OPENAPI": True})
    monkeypatch.setattr("flaskcompat.app.find_spec", lambda name: None)
    without = create_app({"FLASKCOMPAT_PIPELINES_DIR": str(tmp_path)})
    assert without.test_client().get("/openapi.json").status_code == 404


def test_mounted_and_behind_a_proxy_it_says_where() -> None:
    app = Flask("host")
    app.config.update(FLASKCOMPAT_OPENAPI=True, FLASKCOMPAT_API_KEYS="sesame")
    app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)  # type: ignore[method-assign]
    FlaskCompat(app, url_prefix="/ai")
    assert app.test_client().get("/ai/openapi.json").status_code == 401
    headers = {"Authorization": "Bearer sesame", "X-Forwarded-Prefix": "/below"}
    document = document_of(app, "/ai", headers=headers)
    assert document["servers"] == [{"url": "/below/ai"}] and "/v1/models" in document["paths"]
    assert document["security"] == [{"key": []}]
    OpenAPIV31SpecValidator(document).validate()
    page = app.test_client().get("/ai/docs", headers=headers).text
    assert "/below/ai/v1/responses" in page


def test_page_shows_it_all_and_loads_nothing_from_outside(app: Flask) -> None:
    answer = app.test_client().get("/docs")
    document, page = document_of(app), answer.text
    for path, methods in document["paths"].items():
        assert path in page
        assert all(f'id="{operation["operationId"]}"' in page for operation in methods.values())
    assert all(f'<section id="{name}">' in page for name in document["components"]["schemas"])
    assert set(re.findall(r'href="#(\w+)"', page)) <= set(re.findall(r'id="(\w+)"', page))
    assert not re.search(r"(?:src|href|url|@import)[=(\s\"']*(?:https?:)?//", page)
    policy = answer.headers["Content-Security-Policy"]
    [nonce] = re.findall("'nonce-([^']+)'", policy)
    assert policy.startswith("default-src 'none'") and f'<style nonce="{nonce}">' in page and "<script" not in page


def test_below_a_parent_with_variables_and_with_a_host_s_own_templates() -> None:
    app = Flask("host")
    app.config["FLASKCOMPAT_OPENAPI"] = True
    app.jinja_options = {"undefined": StrictUndefined, "variable_start_string": "[["}
    tenants = Blueprint("tenants", __name__, url_prefix="/<tenant>")
    tenants.url_value_preprocessor(lambda endpoint, values: values.pop("tenant"))
    FlaskCompat(app, parent=tenants, url_prefix="/ai")
    app.register_blueprint(tenants)
    assert document_of(app, "/acme/ai")["servers"] == [{"url": "/acme/ai"}]
    assert "/acme/ai/v1/responses" in app.test_client().get("/acme/ai/docs").text


@pytest.mark.skipif(
    not isinstance(getattr(Map, "merge_slashes", None), property),
    reason="older versions of Werkzeug redirect doubled slashes, whatever a rule says",
)
@pytest.mark.parametrize("path", ["//docs", "/ai//openapi.json", "/ai//metrics", "/ai//page/page.js"])
def test_no_redirect_repeats_the_host(path: str) -> None:
    app = Flask("host")
    app.config.update(dict.fromkeys(("FLASKCOMPAT_OPENAPI", "FLASKCOMPAT_METRICS", "FLASKCOMPAT_PAGE"), True))
    FlaskCompat(app, url_prefix="/ai")
    answer = app.test_client().get(f"http://evil.example{path}")
    assert answer.status_code == 404 and "evil.example" not in str(answer.headers)


@pytest.mark.parametrize("path", ["/page//page.js", "/v1//models//m"])
def test_no_redirect_of_the_standalone_app_repeats_the_host(path: str, tmp_path: Path) -> None:
    app = create_app({"FLASKCOMPAT_PIPELINES_DIR": str(tmp_path)})
    answer = app.test_client().get(f"http://evil.example{path}")
    assert answer.status_code == 404 and "evil.example" not in str(answer.headers)
