from __future__ import annotations

import re
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.test import TestResponse

import flaskcompat.page
from flaskcompat import FlaskCompat, create_app
from flaskcompat.page import make_page_blueprint

from ..support import make_app, returning

FOLDER = Path(flaskcompat.page.__file__).parent
FILES = sorted(path.name for path in FOLDER.iterdir() if path.suffix in (".css", ".js"))


def app_with_page(**settings: object) -> Flask:
    return create_app(settings)


def get(path: str, **kwargs: object) -> TestResponse:
    return app_with_page().test_client().get(path, **kwargs)


def policy_of(response: TestResponse) -> dict[str, str]:
    directives = response.headers["Content-Security-Policy"].split("; ")
    return dict(directive.split(" ", 1) for directive in directives)


@pytest.mark.parametrize("path", ["/", *(f"/page/{name}" for name in FILES), "/page/nothing"])
def test_headers(path: str) -> None:
    response = get(path)
    assert policy_of(response) == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' data: blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["Cache-Control"] == "no-cache"
    assert response.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_served_as_what_it_is(name: str) -> None:
    response = get(f"/page/{name}")
    assert response.status_code == 200
    assert response.data == (FOLDER / name).read_bytes()
    kind = {".css": "text/css", ".js": "text/javascript"}[Path(name).suffix]
    assert response.content_type == f"{kind}; charset=utf-8"


def test_the_page() -> None:
    response = get("/")
    assert (response.status_code, response.content_type) == (200, "text/html; charset=utf-8")
    assert response.data == (FOLDER / "index.html").read_bytes()


@pytest.mark.parametrize("path", ["/", "/page/page.js"])
def test_head_and_asking_again(path: str) -> None:
    client = app_with_page().test_client()
    whole, head = client.get(path), client.head(path)
    assert (head.status_code, head.data) == (200, b"")
    assert head.headers["Content-Length"] == str(len(whole.data)) and head.headers["ETag"] == whole.headers["ETag"]
    again = client.get(path, headers={"If-None-Match": whole.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert "Content-Security-Policy" in again.headers


@pytest.mark.parametrize(
    "name",
    ["nothing.js", "index.html", "__init__.py", "..%2fconfig.py", "%2e%2e/config.py", "../page.js", "", "page.js/"],
)
def test_nothing_else_is_served(name: str) -> None:
    app = app_with_page()
    response = app.test_client().get(f"/page/{name}")
    assert response.status_code == 404
    assert response.json["error"]["code"] == "not_found"


@pytest.mark.parametrize("path", ["/", "/page/page.js"])
def test_other_methods(path: str) -> None:
    response = app_with_page().test_client().post(path)
    assert response.status_code == 405
    assert response.headers["Allow"] == "GET, HEAD"


def test_the_page_needs_no_key_and_the_api_does() -> None:
    client = app_with_page(FLASKCOMPAT_API_KEYS="sk-one").test_client()
    assert client.get("/").status_code == client.get("/page/page.js").status_code == 200
    assert client.get("/v1/models").status_code == 401


def test_in_an_application_of_somebody_else() -> None:
    app = Flask("host")
    FlaskCompat(app)
    assert app.test_client().get("/").status_code == 404
    app = Flask("host")
    app.config["FLASKCOMPAT_PAGE"] = True
    FlaskCompat(app, url_prefix="/try")
    FlaskCompat(app, url_prefix="/two", name="two")
    client = app.test_client()
    for prefix in ("/try", "/two"):
        assert client.get(f"{prefix}/").status_code == client.get(f"{prefix}/page/page.js").status_code == 200
    assert client.get("/").status_code == client.get("/page/page.js").status_code == 404


def test_switched_off() -> None:
    client = app_with_page(FLASKCOMPAT_PAGE=False).test_client()
    assert client.get("/").status_code == client.get("/page/page.js").status_code == 404


def test_below_a_prefix_that_is_asked_for_without_its_slash() -> None:
    # What the page names is relative: without the slash it would be sought beside the prefix.
    response = get("/", environ_overrides={"SCRIPT_NAME": "/ai", "PATH_INFO": ""})
    assert (response.status_code, response.headers["Location"]) == (308, "/ai/")
    assert get("/", environ_overrides={"SCRIPT_NAME": "/ai", "PATH_INFO": "/"}).status_code == 200
    app = make_app(m=returning("hello"))
    app.register_blueprint(make_page_blueprint(), url_prefix="/try")
    assert app.test_client().get("/try").headers["Location"] == "/try/"


def test_what_the_page_names_is_there_and_relative() -> None:
    named = re.findall('(?:src|href)="(?!data:)([^"]+)"', (FOLDER / "index.html").read_text())
    imported = {name for file in FILES for name in re.findall('from "[.]/([^"]+)";', (FOLDER / file).read_text())}
    assert named == ["page/page.css", "page/page.js"]
    assert {*imported, "page.css", "page.js"} == set(FILES)


def test_nothing_stands_in_the_page_that_its_policy_forbids() -> None:
    index = (FOLDER / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|javascript:", index)
    for name in FILES:
        text = (FOLDER / name).read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text), name
        assert not re.search(r"@import|\burl\(['\"\w]|https?://", text), name
