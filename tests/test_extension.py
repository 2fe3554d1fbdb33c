from __future__ import annotations

import gzip
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask import Blueprint, Flask, Response, abort, g, request
from werkzeug.middleware.proxy_fix import ProxyFix

from flaskcompat import FlaskCompat, Registry
from flaskcompat.errors import PipelineLoadError

from .support import chat_body, post, response_body, returning, serving

WRAPPER = """
from flaskcompat import BasePipelineWrapper
class PipelineWrapper(BasePipelineWrapper):
    def run_chat_completion(self, model, messages, body):
        return "from the folder"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "pipeline_wrapper.py").write_text(WRAPPER)
    return tmp_path


def test_folder_and_added_wrappers_are_served_together(folder: Path) -> None:
    app = Flask("host")
    compat = FlaskCompat(app, pipelines=folder)
    compat.registry.add("b", returning("added"))
    assert isinstance(compat.registry, Registry)
    assert [model.name for model in app.extensions["flaskcompat"].registry] == ["a", "b"]
    for name, text in (("a", "from the folder"), ("b", "added")):
        answer = post(app, "/v1/chat/completions", chat_body(name)).json
        assert answer["choices"][0]["message"]["content"] == text


def test_init_app_for_several_applications(folder: Path) -> None:
    compat = FlaskCompat(pipelines=folder)
    one, two = Flask("one"), Flask("two")
    compat.init_app(one)
    compat.init_app(two)
    with one.app_context():
        compat.registry.add("only", returning("x"))
        assert "only" in compat.registry
    with two.app_context():
        assert "only" not in compat.registry and "a" in compat.registry
    with pytest.raises(RuntimeError):
        _ = compat.registry


def test_settings_of_the_host_win(folder: Path) -> None:
    app = Flask("host")
    app.config["FLASKCOMPAT_PIPELINES_DIR"] = str(folder)
    app.config["FLASKCOMPAT_KEEP_ALIVE"] = 3
    FlaskCompat(app)
    assert app.config["FLASKCOMPAT_KEEP_ALIVE"] == 3
    assert app.config["FLASKCOMPAT_MAX_BODY_BYTES"] == 10_000_000
    assert "a" in app.extensions["flaskcompat"].registry


def test_embedded_without_a_folder_serves_nothing_of_its_own(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "pipelines").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLASKCOMPAT_PIPELINES_DIR", "nowhere")
    app = Flask("host")
    FlaskCompat(app)
    assert len(app.extensions["flaskcompat"].registry) == 0


def test_missing_folder_is_loud(tmp_path: Path) -> None:
    with pytest.raises(PipelineLoadError):
        FlaskCompat(Flask("host"), pipelines=tmp_path / "nowhere")


def test_host_s_limits_stay_its_own() -> None:
    app = Flask("host")
    app.config["MAX_CONTENT_LENGTH"] = 50
    FlaskCompat(app).registry.add("m", returning("ok"))

    @app.post("/own")
    def own() -> str:
        return request.form["text"]

    client = app.test_client()
    assert client.post("/own", data={"text": "x" * 100}).status_code == 413
    body = chat_body(text="x" * 100)
    assert post(app, "/v1/chat/completions", body).status_code == 200
    pressed = gzip.compress(json.dumps(body).encode())
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    assert client.post("/v1/chat/completions", data=pressed, headers=headers).status_code == 200
    file = {"purpose": "user_data", "file": (io.BytesIO(b"x" * 100), "a.txt")}
    assert client.post("/v1/files", data=file).status_code == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_limits_are_ours_whatever_the_host_s_are(chunked: bool) -> None:
    app = Flask("host")
    app.config.update(MAX_CONTENT_LENGTH=10_000, FLASKCOMPAT_MAX_BODY_BYTES=1000, FLASKCOMPAT_MAX_UPLOAD_BYTES=2000)
    FlaskCompat(app).registry.add("m", returning("ok"))
    environ = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True} if chunked else {}

    def status(path: str, **body: Any) -> int:
        return app.test_client().post(path, environ_overrides=environ, **body).status_code

    for size, expected in ((100, 200), (1100, 413)):
        assert status("/v1/chat/completions", json=chat_body(text="x" * size)) == expected
    for size, expected in ((1100, 200), (2100, 413)):
        file = {"purpose": "user_data", "file": (io.BytesIO(b"x" * size), "a.txt")}
        assert status("/v1/files", data=file) == expected


@pytest.mark.parametrize("look", ["get_data", "get_json", "form", "files", "stream"])
@pytest.mark.parametrize("compressed", [False, True])
def test_host_s_hook_may_look_at_the_body_first(look: str, compressed: bool) -> None:
    app = Flask("host")
    looked: list[object] = []

    @app.before_request
    def hook() -> None:
        if look == "get_json":
            looked.append(request.get_json(silent=True))
        else:
            found = getattr(request, look)
            looked.append(found() if callable(found) else found)

    FlaskCompat(app).registry.add("m", returning("ok"))
    data = json.dumps(chat_body(text="hi")).encode()
    headers = {"Content-Encoding": "gzip"} if compressed else {}
    answer = app.test_client().post(
        "/v1/chat/completions",
        data=gzip.compress(data) if compressed else data,
        headers=headers,
        content_type="application/json",
    )
    assert answer.status_code == 200, answer.text
    assert len(looked) == 1


def test_host_s_hook_may_look_at_the_body_afterwards() -> None:
    app = Flask("host")
    looked: list[object] = []

    @app.after_request
    def hook(response: Response) -> Response:
        looked.append(request.get_json())
        return response

    FlaskCompat(app).registry.add("m", returning("ok"))
    body = chat_body(text="hi")
    assert post(app, "/v1/chat/completions", body).status_code == 200
    assert looked == [body]


def test_failures_are_heard_in_a_host_that_sets_up_no_logging(tmp_path: Path) -> None:
    code = """
from flask import Flask
from flaskcompat import BasePipelineWrapper, FlaskCompat
class Broken(BasePipelineWrapper):
    def run_chat_completion(self, model, messages, body):
        raise ValueError("heard")
app = Flask("host")
FlaskCompat(app).registry.add("m", Broken)
body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
assert app.test_client().post("/v1/chat/completions", json=body).status_code == 500
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "ValueError: heard" in done.stderr


# -- several mounts ------------------------------------------------------------------------------------------


def test_api_twice_in_one_application() -> None:
    app = Flask("host")
    one = FlaskCompat(app, url_prefix="/one")
    two = FlaskCompat(app, url_prefix="/two", name="two", authenticate=lambda request: request.headers.get("X-User"))
    one.registry.add("a", returning("of one"))
    two.registry.add("b", returning("of two"))
    client, user = app.test_client(), {"X-User": "ann"}
    assert [model["id"] for model in client.get("/one/v1/models").json["data"]] == ["a"]
    assert client.get("/two/v1/models").status_code == 401
    assert [model["id"] for model in client.get("/two/models", headers=user).json["data"]] == ["b"]
    assert client.post("/two/v1/responses", json=response_body("a"), headers=user).status_code == 404
    # What they keep is in one place, and each owner's own.
    made = client.post("/two/v1/responses", json=response_body("b"), headers=user).json
    assert client.get(f"/two/v1/responses/{made['id']}", headers=user).status_code == 200
    assert client.get(f"/one/v1/responses/{made['id']}").status_code == 404
    states = [app.extensions[name] for name in ("flaskcompat", "two")]
    assert states[0].admission is states[1].admission and states[0].stores is states[1].stores
    with pytest.raises(ValueError, match="name="):
        FlaskCompat(app, url_prefix="/three")


def test_api_below_a_blueprint_of_the_host() -> None:
    app = Flask("host")
    tenants = Blueprint("tenants", __name__, url_prefix="/t/<tenant>")
    seen: list[str] = []

    @tenants.url_value_preprocessor
    def take_tenant(endpoint: str | None, values: dict[str, Any] | None) -> None:
        assert values is not None
        g.tenant = values.pop("tenant")

    @tenants.before_request
    def only_known() -> None:
        if g.tenant != "acme":
            abort(403)

    def answer() -> str:
        seen.append(g.tenant)
        return f"for {g.tenant}"

    FlaskCompat(app, parent=tenants, url_prefix="/ai").registry.add("m", returning(answer))
    app.register_blueprint(tenants)
    for path in ("/t/acme/ai/v1/chat/completions", "/t/acme/ai/chat/completions"):
        for stream in (False, True):
            assert "for acme" in post(app, path, chat_body(stream=stream)).text
    assert seen == ["acme"] * 4
    refused = post(app, "/t/other/ai/v1/chat/completions", chat_body())
    assert refused.status_code == 403 and refused.json["error"]["code"] == "permission_denied"
    unknown = app.test_client().get("/t/acme/ai/v1/none")
    assert unknown.status_code == 404 and unknown.json["error"]["code"] == "not_found"
    assert "application/json" not in app.test_client().get("/t/acme/none").content_type


def test_every_view_has_its_name() -> None:
    app = Flask("host", static_folder=None)
    FlaskCompat(app, url_prefix="/ai")
    named = {rule.endpoint.removeprefix("flaskcompat.") for rule in app.url_map.iter_rules()}
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    table = readme.split("| about | views |\n|---|---|\n")[1].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", table)) == named - {"fallback", "websocket", "not_offered"}


def test_host_behind_a_proxy_stays_behind_it() -> None:
    app = Flask("host")
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1, x_prefix=1)  # type: ignore[method-assign]
    seen: list[tuple[str | None, str]] = []

    def answer() -> str:
        seen.append((request.remote_addr, request.url))
        return "ok"

    FlaskCompat(app).registry.add("m", returning(answer))
    forwarded = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "ai.example"}
    forwarded["X-Forwarded-Prefix"] = "/below"
    with serving(app) as url:
        for stream in (False, True):
            answer = httpx.post(f"{url}/v1/chat/completions", json=chat_body(stream=stream), headers=forwarded)
            assert answer.status_code == 200
    assert seen == [("198.51.100.7", "https://ai.example/below/v1/chat/completions")] * 2


def test_nobody_is_believed_without_proxy_fix() -> None:
    app = Flask("host")
    seen: list[str | None] = []
    app.before_request(lambda: seen.append(f"{request.remote_addr} {request.scheme}"))
    FlaskCompat(app)
    with serving(app) as url:
        httpx.get(f"{url}/v1/models", headers={"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https"})
    assert seen == ["127.0.0.1 http"]


def test_runner_asks_each_mount_for_its_keys() -> None:
    app = Flask("host")
    app.config["FLASKCOMPAT_API_KEYS"] = "sesame"
    FlaskCompat(app, url_prefix="/keys").registry.add("m", returning("by key"))
    login = FlaskCompat(app, url_prefix="/login", name="login", authenticate=lambda request: "ann")
    login.registry.add("m", returning("by login"))
    with serving(app) as url:
        refused = httpx.post(f"{url}/keys/v1/chat/completions", json=chat_body())
        assert refused.status_code == 401 and refused.json()["error"]["code"] == "invalid_api_key"
        for path, text in (("keys", "by key"), ("login", "by login")):
            headers = {"Authorization": "Bearer sesame"} if path == "keys" else {}
            assert text in httpx.post(f"{url}/{path}/v1/chat/completions", json=chat_body(), headers=headers).text
        large = chat_body(text="x" * app.config["FLASKCOMPAT_MAX_BODY_BYTES"])
        assert httpx.post(f"{url}/login/chat/completions", json=large).status_code == 413
