"""Every wrong request gets its row of the error table, on every path, and nothing of the inside leaks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask, abort, make_response

from flaskcompat import APIError, FlaskCompat, create_app

from ..support import Raise, chat_body, make_app, post, response_body, returning, scripted

PATHS = ["/v1/chat/completions", "/chat/completions", "/v1/responses", "/responses"]


def error_of(response: Any) -> dict[str, Any]:
    assert response.content_type == "application/json"
    assert response.headers["x-request-id"]
    body = json.loads(response.get_data())
    assert set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"}
    assert len(response.get_data()) < 4096
    error: dict[str, Any] = body["error"]
    return error


def body_for(path: str, **more: Any) -> dict[str, Any]:
    return chat_body(**more) if "chat" in path else response_body(**more)


@pytest.fixture(scope="module")
def app() -> Flask:
    return make_app(m=returning("ok"))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"nonsense",
        b"[]",
        b'"x"',
        b"\xff\xfe",
        b'{"model": NaN}',
        b'{"model": 1e999}',
        b"[" * 100_000,
        b'{"a":' * 5000,
        b'{"a":' * 101 + b"1" + b"}" * 101,
        b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
def test_body_that_is_no_json_object(app: Flask, path: str, data: bytes) -> None:
    response = app.test_client().post(path, data=data, content_type="application/json")
    error = error_of(response)
    assert (response.status_code, error["type"], error["code"]) == (400, "invalid_request_error", "invalid_json")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers", [{"Content-Type": "text/plain"}, {}, {"Content-Type": "application/x-www-form-urlencoded"}]
)
def test_other_content_type(app: Flask, path: str, headers: dict[str, str]) -> None:
    response = app.test_client().post(path, data=json.dumps(body_for(path)), headers=headers)
    assert (response.status_code, error_of(response)["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("path", PATHS)
def test_compressed_body(app: Flask, path: str) -> None:
    response = post(app, path, body_for(path), headers={"Content-Encoding": "br"})
    assert (response.status_code, error_of(response)["code"]) == (415, "unsupported_media_type")
    assert post(app, path, body_for(path), headers={"Content-Encoding": "identity"}).status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_charset_parameter_is_fine(app: Flask, path: str) -> None:
    data = json.dumps(body_for(path, text="é"), ensure_ascii=False).encode()
    response = app.test_client().post(path, data=data, content_type="application/json; charset=utf-8")
    assert response.status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_body_too_large(path: str) -> None:
    app = make_app(m=returning("ok"))
    app.config["FLASKCOMPAT_MAX_BODY_BYTES"] = 1000
    response = post(app, path, body_for(path, text="x" * 1000))
    assert (response.status_code, error_of(response)["code"]) == (413, "request_too_large")
    assert post(app, path, body_for(path)).status_code == 200


USER = {"role": "user", "content": "hi"}
FUNCTION = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"model": None}, "missing_required_parameter", "model"),
        ({"model": ""}, "invalid_value", "model"),
        ({"model": 3}, "invalid_type", "model"),
        ({"messages": None}, "missing_required_parameter", "messages"),
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": "hi"}, "invalid_type", "messages"),
        ({"messages": ["hi"]}, "invalid_type", "messages[0]"),
        ({"messages": [{"content": "hi"}]}, "missing_required_parameter", "messages[0].role"),
        ({"messages": [USER, {"role": "king", "content": "hi"}]}, "invalid_value", "messages[1].role"),
        ({"messages": [{"role": 3, "content": "hi"}]}, "invalid_type", "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "missing_required_parameter", "messages[0].content"),
        ({"messages": [{"role": "user", "content": 3}]}, "invalid_type", "messages[0].content"),
        ({"messages": [{"role": "user", "content": [3]}]}, "invalid_type", "messages[0].content[0]"),
        (
            {"messages": [{"role": "user", "content": [{"text": "x"}]}]},
            "missing_required_parameter",
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 3}]}]},
            "invalid_type",
            "messages[0].content[0].text",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, "missing_required_parameter", "messages[0].tool_call_id"),
        ({"messages": [{"role": "assistant", "tool_calls": 3}]}, "invalid_type", "messages[0].tool_calls"),
        ({"messages": [{"role": "assistant", "tool_calls": [3]}]}, "invalid_type", "messages[0].tool_calls[0]"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": 3}]}]},
            "invalid_type",
            "messages[0].tool_calls[0].function",
        ),
        ({"stream": "yes"}, "invalid_type", "stream"),
        ({"stream_options": []}, "invalid_type", "stream_options"),
        ({"stream_options": {"include_usage": "x"}}, "invalid_type", "stream_options.include_usage"),
        ({"temperature": "hot"}, "invalid_type", "temperature"),
        ({"temperature": True}, "invalid_type", "temperature"),
        ({"temperature": 2.1}, "invalid_value", "temperature"),
        ({"top_p": -0.1}, "invalid_value", "top_p"),
        ({"n": 0}, "invalid_value", "n"),
        ({"n": 2}, "invalid_value", "n"),
        ({"n": 129}, "invalid_value", "n"),
        ({"n": 1.0}, "invalid_type", "n"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"max_completion_tokens": "x"}, "invalid_type", "max_completion_tokens"),
        ({"stop": 3}, "invalid_type", "stop"),
        ({"stop": ["a", 3]}, "invalid_type", "stop"),
        ({"tools": {}}, "invalid_type", "tools"),
        ({"tools": [3]}, "invalid_type", "tools[0]"),
        ({"tools": [{}]}, "missing_required_parameter", "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "missing_required_parameter", "tools[0].function"),
        ({"tools": [FUNCTION, {"type": "function", "function": -1}]}, "invalid_type", "tools[1].function"),
        ({"tools": [{"type": "function", "function": {"name": 3}}]}, "invalid_type", "tools[0].function.name"),
        ({"tool_choice": "maybe"}, "invalid_value", "tool_choice"),
        ({"tool_choice": 3}, "invalid_type", "tool_choice"),
        ({"tool_choice": {"x": 1}}, "missing_required_parameter", "tool_choice.type"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": 3}}]},
            "invalid_type",
            "tools[0].function.parameters",
        ),
        ({"response_format": "json"}, "invalid_type", "response_format"),
        ({"metadata": {"a": 1}}, "invalid_type", "metadata.a"),
        ({"metadata": {"a": "x" * 513}}, "invalid_value", "metadata.a"),
        ({"metadata": {"x" * 65: "a"}}, "invalid_value", "metadata"),
        ({"metadata": {str(i): "" for i in range(17)}}, "invalid_value", "metadata"),
        ({"user": 3}, "invalid_type", "user"),
        ({"seed": 1.5}, "invalid_type", "seed"),
    ],
)
def test_chat_parameters(app: Flask, change: dict[str, Any], code: str, param: str) -> None:
    response = post(app, "/v1/chat/completions", {**chat_body(), **change})
    error = error_of(response)
    assert (response.status_code, error["type"]) == (400, "invalid_request_error")
    assert (error["code"], error["param"]) == (code, param)


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"input": 3}, "invalid_type", "input"),
        ({"input": [3]}, "invalid_type", "input[0]"),
        ({"input": [{"type": 3}]}, "invalid_type", "input[0].type"),
        ({"input": [{"content": "x"}]}, "missing_required_parameter", "input[0].role"),
        ({"input": [{"role": "tool", "content": "x"}]}, "invalid_value", "input[0].role"),
        ({"input": [{"role": "user"}]}, "missing_required_parameter", "input[0].content"),
        ({"input": [{"role": "user", "content": {}}]}, "invalid_type", "input[0].content"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
            "missing_required_parameter",
            "input[0].content[0].text",
        ),
        ({"input": [{"type": "function_call"}]}, "missing_required_parameter", "input[0].call_id"),
        ({"input": [{"type": "function_call", "call_id": "a", "name": 3}]}, "invalid_type", "input[0].name"),
        (
            {"input": [{"type": "function_call", "call_id": "a", "name": "f"}]},
            "missing_required_parameter",
            "input[0].arguments",
        ),
        (
            {"input": [{"type": "function_call_output", "call_id": "a"}]},
            "missing_required_parameter",
            "input[0].output",
        ),
        (
            {"input": [{"type": "function_call_output", "call_id": "a", "output": 3}]},
            "invalid_type",
            "input[0].output",
        ),
        ({"tools": [{"type": "function"}]}, "missing_required_parameter", "tools[0].name"),
        ({"max_output_tokens": 0}, "invalid_value", "max_output_tokens"),
        ({"truncation": "some"}, "invalid_value", "truncation"),
        ({"truncation": 3}, "invalid_type", "truncation"),
        ({"text": "x"}, "invalid_type", "text"),
        ({"text": {"format": "x"}}, "invalid_type", "text.format"),
        ({"text": {"format": {}}}, "missing_required_parameter", "text.format.type"),
        ({"tools": [{"type": "function", "name": "f", "parameters": 3}]}, "invalid_type", "tools[0].parameters"),
        ({"reasoning": "high"}, "invalid_type", "reasoning"),
        ({"include": ["a", 3]}, "invalid_type", "include[1]"),
        ({"background": True, "store": False}, "invalid_value", "background"),
        ({"conversation": 3}, "invalid_type", "conversation"),
        ({"conversation": {}}, "missing_required_parameter", "conversation.id"),
        ({"conversation": "conv_1", "previous_response_id": "resp_1"}, "invalid_value", "conversation"),
        ({"previous_response_id": "resp_1"}, "previous_response_not_found", "previous_response_id"),
        ({"previous_response_id": 3}, "invalid_type", "previous_response_id"),
    ],
)
def test_response_parameters(app: Flask, change: dict[str, Any], code: str, param: str) -> None:
    response = post(app, "/v1/responses", {**response_body(), **change})
    error = error_of(response)
    assert (response.status_code, error["type"]) == (400, "invalid_request_error")
    assert (error["code"], error["param"]) == (code, param)


def test_input_is_required_unless_a_response_is_continued(app: Flask) -> None:
    assert error_of(post(app, "/v1/responses", {"model": "m"}))["param"] == "input"
    continued = error_of(post(app, "/v1/responses", {"model": "m", "previous_response_id": "resp_1"}))
    assert continued["param"] == "previous_response_id"
    assert post(app, "/v1/responses", {"model": "m", "input": None}).status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_null_is_as_good_as_absent(app: Flask, path: str) -> None:
    nulls = dict.fromkeys(["stream", "tools", "temperature", "top_p", "metadata", "store", "user", "tool_choice"])
    nulls |= dict.fromkeys(["n", "stop", "stream_options", "max_tokens"] if "chat" in path else ["include", "text"])
    assert post(app, path, {**body_for(path), **nulls}).status_code == 200


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
def test_unknown_model(app: Flask, path: str, stream: bool) -> None:
    response = post(app, path, body_for(path, model="no\x00body" + "x" * 500, stream=stream))
    error = error_of(response)
    assert (response.status_code, error["type"], error["code"]) == (404, "invalid_request_error", "model_not_found")
    assert "no?body" in error["message"] and len(error["message"]) < 150


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
def test_surface_that_is_missing(path: str, stream: bool) -> None:
    wrapper = returning("x")
    delattr(type(wrapper), "run_chat_completion" if "chat" in path else "run_response")
    response = post(make_app(m=wrapper), path, body_for(path, stream=stream))
    error = error_of(response)
    assert (response.status_code, error["code"], error["param"]) == (400, "unsupported_endpoint", "model")
    assert ("run_chat_completion" if "chat" in path else "run_response") in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "allow"),
    [
        ("GET", "/v1/nothing", 404, "not_found", None),
        ("POST", "/v1", 404, "not_found", None),
        ("GET", "/models/nobody", 404, "model_not_found", None),
        ("GET", "/v1/models/a/b", 404, "model_not_found", None),
        ("GET", "/v1/files/x%0d%0ay", 404, "not_found", None),
        ("PUT", "/v1/chat/completions", 405, "method_not_allowed", "GET, HEAD, OPTIONS, POST"),
        ("PUT", "/chat/completions", 405, "method_not_allowed", "GET, HEAD, OPTIONS, POST"),
        ("DELETE", "/v1/models", 405, "method_not_allowed", "GET, HEAD, OPTIONS"),
        ("POST", "/models", 405, "method_not_allowed", "GET, HEAD, OPTIONS"),
        ("DELETE", "/files", 405, "method_not_allowed", "GET, HEAD, OPTIONS, POST"),
        ("POST", "/v1/responses/resp_1", 405, "method_not_allowed", "DELETE, GET, HEAD, OPTIONS"),
        ("PUT", "/conversations/conv_1/items", 405, "method_not_allowed", "GET, HEAD, OPTIONS, POST"),
        ("GET", "/v1/responses", 405, "method_not_allowed", "OPTIONS, POST"),
        ("GET", "/responses", 405, "method_not_allowed", "OPTIONS, POST"),
    ],
)
def test_paths_and_methods(app: Flask, method: str, path: str, status: int, code: str, allow: str | None) -> None:
    response = app.test_client().open(path, method=method)
    error = error_of(response)
    assert (response.status_code, error["code"], error["type"]) == (status, code, "invalid_request_error")
    assert response.headers.get("Allow") == allow


def test_body_may_be_a_hundred_levels_deep(app: Flask) -> None:
    deep: Any = 1
    for _ in range(99):
        deep = [deep]
    assert post(app, "/v1/responses", {"model": "m", "input": "x", "foo": deep}).status_code == 200


@pytest.mark.parametrize("method", ["TRACE", "PROPFIND", "FOO"])
@pytest.mark.parametrize("path", ["/v1/models", "/models"])
def test_unheard_of_methods(app: Flask, method: str, path: str) -> None:
    response = app.test_client().open(path, method=method)
    assert response.status_code == 405 and error_of(response)["code"] == "method_not_allowed"
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("path", ["/v1/responses", "/responses"])
def test_websocket_is_told_to_use_plain_http(app: Flask, path: str) -> None:
    headers = {"Upgrade": "WebSocket", "Connection": "Upgrade"}
    response = app.test_client().get(path, headers=headers)
    assert response.status_code == 426 and error_of(response)["code"] == "upgrade_required"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mode", ["list", "generator", "async generator function", "coroutine list"])
@pytest.mark.parametrize("items", [[None], [3], [b"x"], [{"object": "list"}, 3]])
def test_wrong_items_are_a_500_and_named_in_the_log(path: str, mode: str, items: list[Any], caplog: Any) -> None:
    app = make_app(m=scripted(items, mode))
    for stream in (False, True):
        if isinstance(items[0], dict) and stream:
            continue  # the first item is an event: it has been sent
        response = post(app, path, body_for(path, stream=stream))
        error = error_of(response)
        assert (response.status_code, error["type"], error["code"]) == (500, "server_error", "pipeline_error")
        assert response.headers["x-should-retry"] == "false"
    method = "run_chat_completion" if "chat" in path else "run_response"
    assert f"m.{method}" in caplog.text and type(items[-1]).__name__ in caplog.text


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("result", [None, 3, {}, {"llm": {"replies": []}}, {"type": "status", "data": {}}])
def test_wrong_result_is_a_500(path: str, asynchronous: bool, result: Any) -> None:
    app = make_app(m=returning(result, asynchronous=asynchronous))
    for stream in (False, True):
        response = post(app, path, body_for(path, stream=stream))
        assert (response.status_code, error_of(response)["code"]) == (500, "pipeline_error")


SECRET = "s3cret in /etc/path"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("mode", ["generator", "generator function", "async generator", "async generator function"])
@pytest.mark.parametrize("error", [ValueError(SECRET), SystemExit(SECRET), KeyboardInterrupt(SECRET)])
def test_failure_before_the_first_item_is_a_500(
    path: str, stream: bool, mode: str, error: BaseException, caplog: Any
) -> None:
    app = make_app(m=scripted([Raise(error)], mode))
    response = post(app, path, body_for(path, stream=stream), headers={"x-request-id": "my-id"})
    assert response.status_code == 500 and error_of(response)["code"] == "pipeline_error"
    assert SECRET not in response.text and type(error).__name__ not in response.text
    [record] = [r for r in caplog.records if r.levelname == "ERROR"]
    assert record.request_id == "my-id" and SECRET in caplog.text


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    "error", [ValueError(SECRET), SystemExit(SECRET), StopIteration(SECRET), GeneratorExit(SECRET)]
)
def test_failure_of_the_method_itself_is_a_500(
    path: str, stream: bool, asynchronous: bool, error: BaseException, caplog: Any
) -> None:
    def boom() -> None:
        raise error

    response = post(make_app(m=returning(boom, asynchronous=asynchronous)), path, body_for(path, stream=stream))
    assert response.status_code == 500 and error_of(response)["code"] == "pipeline_error"
    assert SECRET not in response.text and SECRET in caplog.text


@pytest.mark.parametrize("path", PATHS)
def test_failure_midway_without_stream_is_a_500_not_half_an_answer(path: str) -> None:
    for mode in ("generator", "async generator"):
        response = post(make_app(m=scripted(["half", Raise(ValueError(SECRET))], mode)), path, body_for(path))
        assert response.status_code == 500 and "half" not in response.text and SECRET not in response.text


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
def test_traceback_setting_tells_the_client(path: str, stream: bool) -> None:
    app = make_app(m=scripted([Raise(ValueError(SECRET))]))
    app.config["FLASKCOMPAT_TRACEBACKS"] = True
    assert error_of(post(app, path, body_for(path, stream=stream)))["message"] == f"ValueError: {SECRET}"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_error_that_a_wrapper_raises_for_the_client_passes(path: str, stream: bool, asynchronous: bool) -> None:
    def refuse() -> None:
        raise APIError("Not on Sundays.", status=403, type="permission_error", code="closed", param="model")

    app = make_app(m=returning(refuse, asynchronous=asynchronous))
    response = post(app, path, body_for(path, stream=stream))
    assert response.status_code == 403
    assert error_of(response) == {
        "message": "Not on Sundays.",
        "type": "permission_error",
        "param": "model",
        "code": "closed",
    }


def test_abort_in_a_host_s_hook_is_told_in_our_shape() -> None:
    app = make_app(m=returning("ok"))
    status = 401

    @app.before_request
    def guard() -> None:
        abort(status)

    types = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error", 503: "server_error"}
    for status, kind in types.items():
        response = post(app, "/v1/chat/completions", chat_body())
        error = error_of(response)
        assert (response.status_code, error["type"]) == (status, kind)


def test_response_in_a_host_s_abort_stays_the_host_s() -> None:
    app = make_app(m=returning("ok"))

    @app.before_request
    def guard() -> None:
        abort(make_response("please log in", 401))

    response = post(app, "/v1/chat/completions", chat_body())
    assert (response.status_code, response.text) == (401, "please log in")


def test_standalone_app_answers_every_path_in_our_shape(tmp_path: Any) -> None:
    app = create_app({"FLASKCOMPAT_PIPELINES_DIR": str(tmp_path)})

    @app.get("/boom")
    def boom() -> str:
        raise ValueError(SECRET)

    client = app.test_client()
    for path, status in (("/x/y", 404), ("/boom", 500), ("/v1/nothing", 404)):
        response = client.get(path)
        assert response.status_code == status
        assert SECRET not in json.dumps(error_of(response))
    assert client.post("/boom").status_code == 405


@pytest.mark.parametrize("given", ["abc-123._X", "x" * 128])
def test_request_id_of_the_client_is_kept_where_it_is_safe(app: Flask, given: str) -> None:
    response = app.test_client().get("/v1/models", headers={"x-request-id": given})
    assert response.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "é", "<script>"])
def test_other_request_ids_are_replaced(app: Flask, given: str) -> None:
    ids = {
        app.test_client()
        .get("/v1/models", headers={"x-request-id": given.encode().decode("latin-1")})
        .headers["x-request-id"]
        for _ in range(3)
    }
    assert len(ids) == 3 and all(i.startswith("req_") for i in ids)


def test_host_without_models_still_answers() -> None:
    app = Flask("host")
    FlaskCompat(app)
    assert app.test_client().get("/v1/models").json == {"object": "list", "data": []}
