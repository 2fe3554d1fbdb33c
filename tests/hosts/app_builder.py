"""A host on Flask-AppBuilder: users in a database, its login form, and CSRF protection by Flask-WTF."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
from flask import Flask, Request
from flask_appbuilder import AppBuilder
from flask_appbuilder.security.manager import AUTH_DB
from flask_login import current_user
from flask_wtf.csrf import CSRFProtect

from flaskcompat import FlaskCompat

from .models import Greeter

try:
    from flask_appbuilder import SQLA
except ImportError:  # from version 5 on
    from flask_appbuilder.models.sqla.base import SQLA

#: Pages by the status that they answer with before and after the login.
PAGES = {
    "/": (200, 200),
    "/login/": (200, 302),
    "/users/list/": (302, 200),
    "/nowhere": (404, 404),
    "/v1/models": (404, 404),
}


def make_host(folder: Path, *, embedding: bool) -> Flask:
    """The host, with its only user; *embedding* the API or not."""
    app = Flask("host")
    app.config.update(
        SECRET_KEY="secret",
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{folder / 'host.db'}",
        SQLALCHEMY_TRACK_MODIFICATIONS=False,
        AUTH_TYPE=AUTH_DB,
        FAB_PASSWORD_HASH_METHOD="pbkdf2:sha256",  # its default needs Werkzeug 2.3
        RATELIMIT_ENABLED=False,
    )
    database = SQLA(app)
    csrf = CSRFProtect(app)
    with app.app_context():
        security = AppBuilder(app, database.session).sm
        if security.find_user("ada") is None:
            security.add_user("ada", "Ada", "L", "ada@example.org", security.find_role("Admin"), password="let-me-in")
    if embedding:
        compat = FlaskCompat(app, url_prefix="/ai", authenticate=_logged_in)
        compat.registry.add("greeter", Greeter)
        csrf.exempt(compat.blueprint)
    return app


def _logged_in(_: Request) -> str | None:
    return current_user.username if current_user.is_authenticated else None


def log_in(client: httpx.Client) -> None:
    """Log in as a browser does: with the token of the form."""
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', client.get("/login/").text)
    assert token is not None
    form = {"username": "ada", "password": "let-me-in"}
    assert client.post("/login/", data=form).status_code == 400
    assert client.post("/login/", data={**form, "csrf_token": token[1]}).status_code == 302
