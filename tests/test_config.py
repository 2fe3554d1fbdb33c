from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flaskcompat import FlaskCompat, create_app
from flaskcompat.config import SETTINGS, Setting, read_environment, set_defaults


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("FLASKCOMPAT_STRICT", "1", True),
        ("FLASKCOMPAT_STRICT", "Yes", True),
        ("FLASKCOMPAT_STRICT", "off", False),
        ("FLASKCOMPAT_STRICT", "", False),
        ("FLASKCOMPAT_KEEP_ALIVE", "0.5", 0.5),
        ("FLASKCOMPAT_MAX_BODY_BYTES", "100", 100),
        ("FLASKCOMPAT_PIPELINES_DIR", "here", "here"),
        ("FLASKCOMPAT_LOG_LEVEL", " trace", "TRACE"),
    ],
)
def test_environment(name: str, text: str, value: Any) -> None:
    app = Flask("x")
    read_environment(app, {name: text})
    assert app.config[name] == value


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s.read is not str], ids=lambda setting: setting.name)
@pytest.mark.parametrize("value", ["maybe", "-1", "nan", "1e999", [1]])
def test_value_that_cannot_be_read_names_its_setting_and_what_it_must_be(setting: Setting, value: Any) -> None:
    said = f"^{setting.name}='{re.escape(str(value))}': must be "
    if isinstance(value, str):
        with pytest.raises(ValueError, match=said):
            read_environment(Flask("x"), {setting.name: value})
    app = Flask("x")
    app.config[setting.name] = value
    with pytest.raises(ValueError, match=said):
        set_defaults(app)


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s.read is str], ids=lambda setting: setting.name)
def test_text_of_another_type_names_its_setting_and_what_it_must_be(setting: Setting) -> None:
    app = Flask("x")
    app.config[setting.name] = 12345
    with pytest.raises(ValueError, match=f"^{setting.name} must be a text( or a list of texts)?, not int$"):
        set_defaults(app)


def test_defaults() -> None:
    app = Flask("x")
    app.config["FLASKCOMPAT_STRICT"] = True
    set_defaults(app)
    assert app.config["FLASKCOMPAT_STRICT"] is True
    assert all(setting.name in app.config for setting in SETTINGS)


def test_config_given_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("FLASKCOMPAT_PIPELINES_DIR", "nowhere")
    monkeypatch.setenv("FLASKCOMPAT_TRACEBACKS", "1")
    app = create_app({"FLASKCOMPAT_PIPELINES_DIR": str(tmp_path)})
    assert app.config["FLASKCOMPAT_TRACEBACKS"] is True
    assert len(app.extensions["flaskcompat"].registry) == 0


def test_settings_of_hayhooks_are_read_with_a_warning_where_ours_are_not_set(caplog: pytest.LogCaptureFixture) -> None:
    environ = {
        "HAYHOOKS_PIPELINES_DIR": "/theirs",
        "HAYHOOKS_ADDITIONAL_PYTHON_PATH": "/more",
        "HAYHOOKS_SHOW_TRACEBACKS": "t",
        "FLASKCOMPAT_PIPELINES_DIR": "/ours",
        "HAYHOOKS_MCP_PORT": "1417",
    }
    app = Flask("host")
    read_environment(app, environ)
    read = {name: app.config.get(f"FLASKCOMPAT_{name}") for name in ("PIPELINES_DIR", "PYTHON_PATH", "TRACEBACKS")}
    assert read == {"PIPELINES_DIR": "/ours", "PYTHON_PATH": "/more", "TRACEBACKS": True}
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == 2 and all("HAYHOOKS_" in line and "FLASKCOMPAT_" in line for line in warned)
    with pytest.raises(ValueError, match="HAYHOOKS_SHOW_TRACEBACKS"):
        read_environment(app, {"HAYHOOKS_SHOW_TRACEBACKS": "perhaps"})


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("FLASKCOMPAT_AUDIT", "yes", True),
        ("FLASKCOMPAT_AUDIT", 1, True),
        ("FLASKCOMPAT_MAX_BODY_BYTES", "100", 100),
        ("FLASKCOMPAT_KEEP_ALIVE", 3, 3.0),
        ("FLASKCOMPAT_LOG_LEVEL", "debug", "DEBUG"),
        ("FLASKCOMPAT_API_KEYS", ["a", "b"], ["a", "b"]),
        ("FLASKCOMPAT_MAX_BODY_BYTES", 1e6, 1_000_000),
        ("FLASKCOMPAT_PIPELINES_DIR", Path("here"), "here"),
    ],
)
def test_what_an_application_sets_is_read(name: str, given: Any, value: Any) -> None:
    app = Flask("x")
    app.config[name] = given
    set_defaults(app)
    assert app.config[name] == value


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("FLASKCOMPAT_AUDIT", "maybe"),
        ("FLASKCOMPAT_MAX_BODY_BYTES", -1),
        ("FLASKCOMPAT_MAX_BODY_BYTES", True),
        ("FLASKCOMPAT_KEEP_ALIVE", [1]),
        ("FLASKCOMPAT_API_KEYS", 12345),
        ("FLASKCOMPAT_API_KEYS", Path("12345")),
        ("FLASKCOMPAT_API_KEYS", [12345]),
        ("FLASKCOMPAT_PIPELINES_DIR", ["here"]),
        ("FLASKCOMPAT_FETCH_URLS", Path("here")),
    ],
)
def test_what_an_application_sets_wrongly_is_named(name: str, given: Any) -> None:
    app = Flask("x")
    app.config[name] = given
    with pytest.raises(ValueError, match=name) as caught:
        FlaskCompat(app)
    assert "12345" not in str(caught.value)


def test_from_prefixed_env(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("FLASK_FLASKCOMPAT_MAX_BODY_BYTES", "100")
    monkeypatch.setenv("FLASK_FLASKCOMPAT_AUDIT", "true")
    monkeypatch.setenv("FLASK_FLASKCOMPAT_API_KEYS", "sesame")
    monkeypatch.setenv("FLASK_FLASKCOMPAT_PIPELINES_DIR", str(tmp_path))
    app = Flask("host")
    app.config.from_prefixed_env()
    FlaskCompat(app)
    assert (app.config["FLASKCOMPAT_MAX_BODY_BYTES"], app.config["FLASKCOMPAT_AUDIT"]) == (100, True)
    client = app.test_client()
    assert client.get("/v1/models").status_code == 401
    headers = {"Authorization": "Bearer sesame"}
    assert client.get("/v1/models", headers=headers).status_code == 200
    assert client.post("/v1/responses", json={"model": "m", "input": "x" * 100}, headers=headers).status_code == 413
