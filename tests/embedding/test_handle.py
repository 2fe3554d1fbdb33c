"""``compat.blueprint``, by which a host's extensions and hooks know all routes of the API."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from flask import Blueprint, Flask, abort, redirect
from flask_cors import CORS
from flask_limiter import Limiter
from flask_wtf import CSRFProtect
from werkzeug.wrappers import Response

from flaskcompat import FlaskCompat

from ..support import chat_body, post, returning

#: One of each kind: a plain route, one without ``/v1``, one that is unknown, those of the extras.
POSTS = ("/v1/chat/completions", "/chat/completions", "//v1//chat/completions", "/v1/unknown", "/v1/files")
GETS = ("/v1/models", "/models", "/v1/unknown", "/metrics", "/openapi.json", "/docs")


def make_host(**kwargs: Any) -> tuple[Flask, FlaskCompat]:
    app = Flask("host")
    app.config.update(SECRET_KEY="secret", FLASKCOMPAT_METRICS=True, FLASKCOMPAT_OPENAPI=True)
    app.add_url_rule("/page", "page", lambda: "a page", methods=["GET", "POST"])
    compat = FlaskCompat(app, url_prefix="/ai", **kwargs)
    compat.registry.add("m", returning("ok"))
    return app, compat


# -- Flask-WTF -----------------------------------------------------------------------------------------------


def test_csrf_protection_exempts_every_route() -> None:
    app, compat = make_host()
    CSRFProtect(app).exempt(compat.blueprint)
    for path in POSTS:
        assert "CSRF" not in post(app, f"/ai{path}", chat_body()).text
    assert post(app, "/ai/chat/completions", chat_body()).status_code == 200
    assert app.test_client().post("/page").status_code == 400


def test_csrf_protection_exempts_below_a_parent() -> None:
    app, parent = Flask("host"), Blueprint("parent", __name__, url_prefix="/p")
    app.secret_key = "secret"
    compat = FlaskCompat(app, parent=parent)
    compat.registry.add("m", returning("ok"))
    app.register_blueprint(parent)
    CSRFProtect(app).exempt(compat.blueprint)
    assert post(app, "/p/chat/completions", chat_body()).status_code == 200


def test_refusal_keeps_its_reason() -> None:
    app, _ = make_host()
    CSRFProtect(app)
    refused = post(app, "/ai/v1/chat/completions", chat_body())
    assert refused.status_code == 400
    assert refused.json["error"] == {
        "message": "The CSRF token is missing.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


@pytest.mark.parametrize(
    ("status", "description", "message"),
    [
        (403, "Your plan has no models.", "Your plan has no models."),
        (403, None, "The request was refused: Forbidden."),
        (404, "no such tenant", "The request was refused: no such tenant."),
        (503, "Down for maintenance!", "Down for maintenance!"),
        (500, "password=secret", "The server had an error while processing your request."),
    ],
)
def test_reason_of_a_hook(status: int, description: str | None, message: str) -> None:
    app, _ = make_host()
    app.before_request(lambda: abort(status, description))
    refused = post(app, "/ai/v1/chat/completions", chat_body())
    assert refused.status_code == status
    assert refused.json["error"]["message"].startswith(message)


# -- Flask-Limiter -------------------------------------------------------------------------------------------


def test_limit_of_the_blueprint_counts_every_route() -> None:
    app, compat = make_host()
    limiter = Limiter(lambda: "somebody", app=app, storage_uri="memory://")
    limiter.limit("2/hour")(compat.blueprint)
    client = app.test_client()
    assert [client.get("/ai/v1/models").status_code for _ in range(3)] == [200, 200, 429]
    for path in GETS:
        statuses = [client.get(f"/ai{path}").status_code for _ in range(3)]
        assert statuses[-1] == 429
    assert app.test_client().get("/page").status_code == 200


def test_blueprint_is_exempt_from_limits() -> None:
    app, compat = make_host()
    limiter = Limiter(lambda: "somebody", app=app, storage_uri="memory://", default_limits=["2/hour"])
    limiter.exempt(compat.blueprint)
    for path in (*GETS, *GETS):
        assert app.test_client().get(f"/ai{path}").status_code != 429
    assert [app.test_client().get("/page").status_code for _ in range(3)] == [200, 200, 429]


# -- Flask-CORS ----------------------------------------------------------------------------------------------


def test_cors_of_the_blueprint_is_that_of_every_route() -> None:
    app, compat = make_host()
    CORS(compat.blueprint, origins="https://shop.example")
    for path in GETS:
        answer = app.test_client().get(f"/ai{path}", headers={"Origin": "https://shop.example"})
        assert answer.headers["Access-Control-Allow-Origin"] == "https://shop.example"
    assert "Access-Control-Allow-Origin" not in app.test_client().get("/page").headers


def test_hooks_are_taken_before_and_after_several_applications_have_the_blueprint() -> None:
    compat = FlaskCompat()
    CORS(compat.blueprint, origins="https://shop.example")
    apps = [Flask("one"), Flask("two")]
    for app in apps:
        compat.init_app(app)
    compat.blueprint.before_request(lambda: abort(403, "Not today."))
    for app in apps:
        answer = app.test_client().get("/models", headers={"Origin": "https://shop.example"})
        assert answer.json is not None and answer.json["error"]["message"] == "Not today."
        assert answer.headers["Access-Control-Allow-Origin"] == "https://shop.example"


# -- hooks that send API clients to a page ---------------------------------------------------------------------


@pytest.mark.parametrize("answer", [lambda: redirect("/login"), lambda: "<form>Log in</form>"])
def test_a_page_in_place_of_an_answer_is_a_warning_once(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    app, _ = make_host()
    app.before_request(answer)
    for path in ("/ai/v1/chat/completions", "/ai/chat/completions"):
        post(app, path, chat_body())
    [warning] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "POST /ai/v1/chat/completions" in warning.getMessage()
    assert "authenticate=" in warning.getMessage()


def test_documents_and_files_are_no_such_pages(caplog: pytest.LogCaptureFixture) -> None:
    app, _ = make_host()
    for path in GETS:
        app.test_client().get(f"/ai{path}")
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]


# -- subdomains and hosts --------------------------------------------------------------------------------------


def test_parent_keeps_its_subdomain_for_all_routes() -> None:
    app = Flask("host", subdomain_matching=True)
    app.config["SERVER_NAME"] = "shop.example"
    app.add_url_rule("/v1/unknown", "page", lambda: "a page of the shop")
    parent = Blueprint("parent", __name__, subdomain="api")
    FlaskCompat(app, parent=parent).registry.add("m", returning("ok"))
    app.register_blueprint(parent)
    client = app.test_client()
    for path in ("/v1/models", "/models", "//v1//models"):
        assert client.get(path, base_url="http://api.shop.example").status_code == 200
        assert client.get(path, base_url="http://shop.example").status_code == 404
        assert client.get(path, base_url="http://shop.example").mimetype == "text/html"
    assert client.get("/v1/unknown", base_url="http://api.shop.example").mimetype == "application/json"
    assert client.get("/v1/unknown", base_url="http://shop.example").text == "a page of the shop"


class HostRule(Flask.url_rule_class):  # type: ignore[name-defined, misc]
    """Puts rules of one blueprint under one host, as an application that matches hosts may do."""

    def __init__(self, string: str, **options: Any) -> None:
        if str(options.get("endpoint")).startswith("flaskcompat."):
            options["host"] = "api.example"
        super().__init__(string, **options)


def test_routes_and_fallbacks_are_under_the_same_host() -> None:
    app = Flask("host", host_matching=True, static_folder=None)
    app.url_rule_class = HostRule
    FlaskCompat(app).registry.add("m", returning("ok"))
    client = app.test_client()

    def get(path: str, host: str) -> Response:
        return client.get(path, base_url=f"http://{host}")

    for path in ("/v1/models", "/models"):
        assert get(path, "api.example").status_code == 200
        assert get(path, "www.example").status_code == 404
