"""Who may come in, and what they find."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask, abort

from flaskcompat import APIError, BasePipelineWrapper, FlaskCompat, create_app
from flaskcompat.runtime.keys import Principal, name_of

from ..support import chat_body, response_body, returning

ROUTES = [
    ("GET", "/v1/models"), ("GET", "/models"), ("GET", "/v1/models/m"), ("POST", "/v1/chat/completions"),
    ("POST", "/chat/completions"), ("POST", "/v1/responses"), ("POST", "/responses"), ("POST", "/v1/files"),
    ("POST", "/files"), ("GET", "/v1/nothing"), ("DELETE", "/v1/models"),
]  # fmt: skip


class Asking(BasePipelineWrapper):
    """Says whom it answers."""

    def run_chat_completion(self, model: str, messages: Any, body: Any, principal: Any) -> str:
        return f"hello {name_of(principal)}"

    async def run_response_async(self, model: str, input_items: Any, body: Any, principal: Any = None) -> str:
        return f"hello {name_of(principal)}"

    def run_file_upload(
        self, filename: Any, content_type: Any, content: bytes, purpose: str, principal: Any
    ) -> dict[str, Any]:
        return {"id": "file-1", "owner": name_of(principal)}


def make(authenticate: Any = None, keys: Any = None, **wrappers: BasePipelineWrapper) -> Flask:
    app = Flask("host")
    app.config["FLASKCOMPAT_API_KEYS"] = keys
    registry = FlaskCompat(app, authenticate=authenticate).registry
    for name, wrapper in (wrappers or {"m": Asking(), "demo-x": returning("demo")}).items():
        registry.add(name, wrapper)
    return app


def key(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def said(response: Any) -> str:
    return str(response.get_json()["choices"][0]["message"]["content"])


class Untouched(io.BytesIO):
    def read(self, *_: Any) -> bytes:
        raise AssertionError("the body was read")

    readline = readinto = read  # type: ignore[assignment]


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer \xff\xfe", "Basic s3cret"])
def test_no_route_is_open(method: str, path: str, header: str | None, caplog: pytest.LogCaptureFixture) -> None:
    client = make(keys="ann=s3cret").test_client()
    headers = {"Authorization": header} if header else {}
    response = client.open(
        path, method=method, headers=headers, input_stream=Untouched(), content_length=10, content_type="text/odd"
    )
    assert response.status_code == 401 and response.headers["WWW-Authenticate"] == "Bearer"
    error = response.get_json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
    assert "s3cret" not in response.text + caplog.text and "wrong" not in response.text + caplog.text


def test_key_lets_in_and_says_who() -> None:
    client = make(keys="ann=one, bob=two").test_client()
    for text, name in (("one", "ann"), ("two", "bob")):
        assert said(client.post("/v1/chat/completions", json=chat_body(), headers=key(text))) == f"hello {name}"
    whole = client.post("/v1/responses", json=response_body(), headers=key("one")).get_json()
    assert whole["output"][0]["content"][0]["text"] == "hello ann"
    upload = {"file": (io.BytesIO(b"x"), "a.txt"), "purpose": "assistants"}
    assert client.post("/v1/files", data=upload, headers=key("two")).get_json()["owner"] == "bob"


def test_preflight_needs_no_key() -> None:
    response = make(keys="ann=one").test_client().options("/v1/chat/completions")
    assert response.status_code == 200 and not response.data


def test_models_of_a_key_are_all_that_it_sees() -> None:
    client = make(keys="ann=one, bob=two demo-*").test_client()
    assert [m["id"] for m in client.get("/v1/models", headers=key("two")).get_json()["data"]] == ["demo-x"]
    assert len(client.get("/v1/models", headers=key("one")).get_json()["data"]) == 2
    missing = client.get("/v1/models/never", headers=key("two")).get_json()
    for response in (
        client.get("/v1/models/m", headers=key("two")),
        client.post("/v1/chat/completions", json=chat_body("m"), headers=key("two")),
        client.post("/v1/responses", json=response_body("m"), headers=key("two")),
    ):
        assert response.status_code == 404 and response.get_json()["error"]["code"] == "model_not_found"
        assert response.get_json()["error"]["message"] == missing["error"]["message"].replace("never", "m")
    assert said(client.post("/v1/chat/completions", json=chat_body("demo-x"), headers=key("two"))) == "demo"
    upload = {"file": (io.BytesIO(b"x"), "a.txt"), "purpose": "assistants"}
    kept = client.post("/v1/files", data=upload, headers=key("two")).get_json()
    assert "owner" not in kept, "the keeper is none of its models"


@pytest.mark.parametrize(
    ("principal", "name"),
    [("ann", "ann"), (SimpleNamespace(name="bob"), "bob"), (SimpleNamespace(id=7), "7"), (Principal("eve"), "eve")],
)
def test_login_of_the_host(principal: Any, name: str) -> None:
    client = make(lambda request: principal if "let-me-in" in request.headers else None).test_client()
    assert client.post("/v1/chat/completions", json=chat_body()).status_code == 401
    assert said(client.post("/v1/chat/completions", json=chat_body(), headers={"let-me-in": "1"})) == f"hello {name}"


def test_keys_beside_a_login() -> None:
    client = make(lambda request: request.headers.get("user"), keys="ann=one").test_client()
    assert said(client.post("/v1/chat/completions", json=chat_body(), headers={"user": "bob"})) == "hello bob"
    assert said(client.post("/v1/chat/completions", json=chat_body(), headers=key("one"))) == "hello ann"
    assert client.get("/v1/models", headers=key("two")).status_code == 401


def test_login_may_limit_models_and_refuse_in_its_own_way() -> None:
    def authenticate(request: Any) -> Any:
        match request.headers.get("as"):
            case "limited":
                return SimpleNamespace(name="x", models=["demo-x"])
            case "expired":
                raise APIError("Your contract is over.", status=403, type="permission_error")
            case "abort":
                abort(403)
            case "bug":
                raise ValueError("s3cret")
        return None

    client = make(authenticate).test_client()
    assert [m["id"] for m in client.get("/v1/models", headers={"as": "limited"}).get_json()["data"]] == ["demo-x"]
    expired = client.get("/v1/models", headers={"as": "expired"})
    assert expired.status_code == 403 and expired.get_json()["error"]["message"] == "Your contract is over."
    assert client.get("/v1/models", headers={"as": "abort"}).get_json()["error"]["type"] == "permission_error"
    bug = client.get("/v1/models", headers={"as": "bug"})
    assert bug.status_code == 500 and "s3cret" not in bug.text


def test_nobody_is_asked_by_default() -> None:
    assert said(make().test_client().post("/v1/chat/completions", json=chat_body())) == "hello None"


def test_health_is_open_and_names_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("FLASKCOMPAT_API_KEYS", "ann=one")
    app = create_app({"FLASKCOMPAT_PIPELINES_DIR": str(tmp_path)})
    client = app.test_client()
    assert client.get("/v1/models").status_code == 401
    assert client.get("/healthz").get_json() == {"status": "ok"}
    assert client.get("/readyz").get_json() == {"status": "ready"}
    app.extensions["flaskcompat"].admission.stop(0)
    stopping = client.get("/readyz")
    assert stopping.status_code == 503 and stopping.get_json() == {"status": "stopping"}


@pytest.mark.parametrize("keys", ["", "ann=sha256:s3cret"])
def test_keys_that_cannot_be_read_end_the_start(keys: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError) as error:
        make(keys=keys)
    assert "s3cret" not in str(error.value)
    monkeypatch.setenv("FLASKCOMPAT_API_KEYS", keys)
    with pytest.raises(ValueError):
        create_app()
