"""One API under several paths, beside a host's own routes."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Blueprint, Flask, g, jsonify, request

from flaskcompat import FlaskCompat
from flaskcompat.log import request_id

from ..support import chat_body, make_app, post, response_body, returning, scripted


@pytest.fixture(scope="module")
def app() -> Flask:
    return make_app(m=returning("ok"), **{"org/m": returning("nested")})


@pytest.mark.parametrize("slashes", ["{}", "{}/", "/{}", "//{}//", "{}//"])
@pytest.mark.parametrize("prefix", ["/v1", "", "//v1", "/v1/v1"])
def test_every_path_in_every_spelling_without_a_redirect(app: Flask, prefix: str, slashes: str) -> None:
    client = app.test_client()

    def ask(method: str, path: str, body: Any = None) -> Any:
        # Not through the client's own path, which takes what follows two slashes for a host.
        at = {"PATH_INFO": slashes.format(f"{prefix}{path}")}
        response = client.open("/", method=method, json=body, environ_overrides=at)
        assert response.status_code == 200
        return response.json

    assert ask("POST", "/chat/completions", chat_body())["object"] == "chat.completion"
    assert ask("POST", "/chat//completions", chat_body())["object"] == "chat.completion"
    assert ask("POST", "/responses", response_body())["object"] == "response"
    listed = ask("GET", "/models")
    assert [m["id"] for m in listed["data"]] == ["m", "org/m"]
    for number, name in enumerate(("m", "org/m")):
        assert ask("GET", f"/models/{name}") == listed["data"][number]


def test_models(app: Flask) -> None:
    listed = app.test_client().get("/v1/models").json
    assert listed["object"] == "list"
    first = listed["data"][0]
    assert first == {"id": "m", "object": "model", "created": first["created"], "owned_by": "flaskcompat", "name": "m"}
    assert app.test_client().get("/v1/models").json == listed


def test_head_and_options(app: Flask) -> None:
    client = app.test_client()
    for path in ("/v1/models", "/models", "//v1/models"):
        head = client.head(path)
        assert head.status_code == 200 and not head.get_data()
        options = client.options(path)
        assert options.status_code == 200 and "x-request-id" in options.headers
        assert options.headers["Allow"] == "GET, HEAD, OPTIONS"
    assert client.options("/v1/responses").headers["Allow"] == "OPTIONS, POST"
    assert client.options("/v1/nothing").status_code == 404


# -- in a host ---------------------------------------------------------------------------------------------


def host(ours_first: bool, url_prefix: str | None = None) -> Flask:
    """An application with pages of its own under some of our names."""
    app = Flask("host")

    def add_ours() -> None:
        FlaskCompat(app, url_prefix=url_prefix).registry.add("m", returning("ok"))

    if ours_first:
        add_ours()

    @app.get("/models")
    def models() -> str:
        return "the host's models"

    @app.get("/files/<int:number>")
    def file(number: int) -> str:
        return f"the host's file {number}"

    @app.get("/v1/orders")
    def orders() -> str:
        return "the host's orders"

    @app.get("/<slug>")
    def page(slug: str) -> str:
        return f"the host's page {slug}"

    @app.errorhandler(404)
    def not_found(error: Any) -> tuple[str, int]:
        return "the host's 404", 404

    @app.errorhandler(405)
    def not_allowed(error: Any) -> tuple[str, int]:
        return "the host's 405", 405

    @app.errorhandler(Exception)
    def any_error(error: Exception) -> tuple[str, int]:
        return "the host's 500", 500

    @app.get("/boom")
    def boom() -> str:
        raise ValueError("boom")

    if not ours_first:
        add_ours()
    return app


first_or_last = pytest.mark.parametrize("ours_first", [False, True], ids=["host first", "ours first"])


@first_or_last
@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/models", 200, "the host's models"),
        ("POST", "/models", 405, "the host's 405"),
        ("GET", "/files/3", 200, "the host's file 3"),
        ("GET", "/responses", 200, "the host's page responses"),
        ("GET", "/about", 200, "the host's page about"),
        ("GET", "/v1/orders", 200, "the host's orders"),
        ("POST", "/v1/orders", 405, "the host's 405"),
        ("POST", "/about", 405, "the host's 405"),
        ("GET", "/a/b", 404, "the host's 404"),
        ("GET", "/chat/other", 404, "the host's 404"),
        ("GET", "/boom", 500, "the host's 500"),
    ],
)
def test_host_keeps_its_routes_and_error_pages(
    ours_first: bool, method: str, path: str, status: int, text: str
) -> None:
    response = host(ours_first).test_client().open(path, method=method)
    assert (response.status_code, response.text) == (status, text)
    assert "x-request-id" not in response.headers


@first_or_last
def test_host_s_allow_headers_stay_as_they_were(ours_first: bool) -> None:
    client = host(ours_first).test_client()
    for path in ("/v1/orders", "/models", "/about"):
        assert set(client.options(path).headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


@first_or_last
def test_our_paths_answer_in_our_shape_beside_them(ours_first: bool) -> None:
    app = host(ours_first)
    client = app.test_client()
    assert client.get("/v1/models").json["object"] == "list"
    assert post(app, "/chat/completions", chat_body()).json["object"] == "chat.completion"
    assert post(app, "/responses", response_body()).json["object"] == "response"
    for method, path, status in (
        ("GET", "/v1/nothing", 404),
        ("PUT", "/v1/responses", 405),
        ("GET", "/v1/models/x", 404),
    ):
        response = client.open(path, method=method)
        assert response.status_code == status and set(response.json) == {"error"}
    assert set(post(app, "/v1/chat/completions", {}).json) == {"error"}


@pytest.mark.parametrize("url_prefix", ["/ai", "/ai/deep/"])
def test_url_prefix(url_prefix: str) -> None:
    app = host(True, url_prefix)
    client, mount = app.test_client(), url_prefix.rstrip("/")
    assert client.get("/models").text == "the host's models"
    assert client.get("/v1/models").status_code == 404
    for path in (f"{mount}/v1/models", f"{mount}/models", f"{mount}//v1//models/"):
        assert client.get(path).json["object"] == "list"
    assert post(app, f"{mount}/chat/completions", chat_body()).status_code == 200
    assert set(client.get(f"{mount}/v1/nothing").json) == {"error"}
    assert client.put(f"{mount}/v1/models").headers["Allow"] == "GET, HEAD, OPTIONS"


def test_host_s_wildcard_below_our_prefix_wins() -> None:
    app = Flask("host")
    FlaskCompat(app)

    @app.get("/v1/shop/<path:rest>")
    def shop(rest: str) -> str:
        return rest

    assert app.test_client().get("/v1/shop/a/b").text == "a/b"
    assert app.test_client().post("/v1/shop/a/b").status_code == 405
    assert "error" not in app.test_client().post("/v1/shop/a/b").text
    assert set(app.test_client().get("/v1/shop").json) == {"error"}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_host_s_hooks_run_for_our_routes_and_reach_the_wrapper(asynchronous: bool) -> None:
    app = make_app(m=returning(lambda: f"{g.user} at {request.path}", asynchronous=asynchronous))

    @app.before_request
    def login() -> None:
        g.user = request.headers["x-user"]

    for stream in (False, True):
        response = post(app, "/v1/chat/completions", chat_body(stream=stream), headers={"x-user": "ann"})
        assert "ann at /v1/chat/completions" in response.text


@pytest.mark.parametrize("asynchronous", [False, True])
def test_request_inside_a_request(asynchronous: bool) -> None:
    app = make_app(inner=returning("inner"))

    def ask() -> str:
        with app.test_request_context("/"):
            pass
        answer = app.test_client().get("/v1/models", headers={"x-request-id": "second"})
        return f"{answer.headers['x-request-id']} in {request_id.get()}"

    app.extensions["flaskcompat"].registry.add("outer", returning(ask))
    response = post(app, "/v1/chat/completions", chat_body("outer"), headers={"x-request-id": "first"})
    assert response.json["choices"][0]["message"]["content"] == "second in first"
    assert response.headers["x-request-id"] == "first" and request_id.get() == "-"


def test_answer_of_a_host_s_hook_has_a_fresh_id() -> None:
    app = make_app(m=returning("ok"))
    app.before_request(lambda: ("no", 401))
    ids = {app.test_client().get("/v1/models").headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3 and all(i.startswith("req_") for i in ids) and request_id.get() == "-"


@pytest.mark.parametrize("mode", ["generator", "async generator"])
def test_run_ends_though_a_host_s_hook_drops_its_response(mode: str) -> None:
    app = make_app(m=scripted(["x"] * 10_000, mode))

    @app.after_request
    def replace(response: Any) -> Any:
        return app.response_class("the host's own")

    assert post(app, "/v1/chat/completions", chat_body(stream=True)).text == "the host's own"


def test_two_applications_share_nothing() -> None:
    one, two = make_app(a=returning("1")), make_app(b=returning("2"))
    assert [m["id"] for m in one.test_client().get("/v1/models").json["data"]] == ["a"]
    assert [m["id"] for m in two.test_client().get("/v1/models").json["data"]] == ["b"]
    assert post(one, "/v1/chat/completions", chat_body("b")).status_code == 404


def test_inside_a_blueprint_of_the_host_s() -> None:
    app, parent = Flask("host"), Blueprint("parent", __name__, url_prefix="/p")
    FlaskCompat(app, parent=parent, url_prefix="/ai").registry.add("m", returning("ok"))
    app.register_blueprint(parent)
    app.add_url_rule("/other", view_func=lambda: jsonify({}), endpoint="other")
    client = app.test_client()
    assert client.get("/p/ai/v1/models").json["object"] == "list"
    assert post(app, "/p/ai/chat/completions", chat_body()).json["object"] == "chat.completion"
    endpoints = {rule.endpoint for rule in app.url_map.iter_rules()}
    assert "parent.flaskcompat.create_chat_completion" in endpoints


@pytest.mark.parametrize("method", ["GET", "OPTIONS", "POST"])
def test_pages_of_other_origins_are_told_nothing(method: str) -> None:
    app = make_app(m=returning("x"))
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for path in ("/v1/models", "/v1/chat/completions", "/files"):
        answer = app.test_client().open(path, method=method, headers=headers)
        assert not [name for name in answer.headers.keys() if name.lower().startswith("access-control")]


@pytest.mark.parametrize("path", ["/v1/responses/compact", "/responses/input_tokens"])
def test_what_needs_a_model_s_own_tokens_is_unknown_rather_than_a_wrong_method(path: str) -> None:
    answer = make_app(m=scripted(["hi"])).test_client().post(path, json={"model": "m", "input": "hi"})
    assert (answer.status_code, answer.json["error"]["code"]) == (404, "not_found")
