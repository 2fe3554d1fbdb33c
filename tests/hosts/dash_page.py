"""A host on Dash, whose pages and API need a login by Flask's session."""

from __future__ import annotations

from pathlib import Path

import dash
import httpx
from flask import Flask, Request, request, session

from flaskcompat import FlaskCompat

from .models import Greeter

#: Pages by the status that they answer with before and after the login; Dash has one for every path.
PAGES = dict.fromkeys(("/", "/_dash-layout", "/_dash-dependencies", "/nowhere", "/v1/models"), (200, 200))


def make_host(_: Path, *, embedding: bool) -> Flask:
    """The host; *embedding* the API or not."""
    app = Flask("host")
    app.secret_key = "secret"

    @app.post("/login")
    def login() -> str:
        session["user"] = request.form["username"]
        return "welcome"

    if embedding:
        FlaskCompat(app, url_prefix="/ai", authenticate=_logged_in).registry.add("greeter", Greeter)
    page = dash.Dash("host", server=app)
    page.layout = dash.html.Div("a chart")
    return app


def _logged_in(_: Request) -> str | None:
    return session.get("user")


def log_in(client: httpx.Client) -> None:
    assert client.post("/login", data={"username": "ada"}).text == "welcome"
