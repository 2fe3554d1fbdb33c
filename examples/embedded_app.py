"""An application with a login, a 404 page and a /models page of its own, which serves models under /ai.

flask --app examples/embedded_app run

The password is PASSWORD of the environment, else "let-me-in".
"""

import hmac
import os
import secrets
from collections.abc import Iterator
from typing import Any

from flask import Flask, abort, redirect, request, session, url_for
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from flaskcompat import BasePipelineWrapper, FlaskCompat, get_last_user_message

LOGIN_PAGE = '<form method="post"><input type="password" name="password"> <button>Log in</button></form>'


class SupportWrapper(BasePipelineWrapper):
    """A model that is part of the application, rather than of a folder of wrappers."""

    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Iterator[str]:
        yield "Thank you for writing to us. "
        yield f"You asked: {get_last_user_message(messages)}"


def create_app() -> Flask:
    app = Flask(__name__)
    app.secret_key = os.environ.get("SECRET_KEY") or secrets.token_hex()
    app.config.setdefault("PASSWORD", os.environ.get("PASSWORD") or "let-me-in")
    add_pages(app)
    compat = FlaskCompat(app, url_prefix="/ai")
    compat.registry.add("support", SupportWrapper)
    return app


def add_pages(app: Flask) -> None:
    """What was there before."""

    def is_password(given: str) -> bool:
        return hmac.compare_digest(given.encode(), app.config["PASSWORD"].encode())

    @app.before_request
    def require_login() -> Response | None:
        """Browsers log in once; programs send the password as their API key. This guards /ai as well."""
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if session.get("logged_in") or is_password(key):
            return None
        if request.endpoint == "login":
            return None
        if request.blueprints:
            abort(401, "Log in, or send the password as the API key.")
        return redirect(url_for("login"))

    @app.route("/login", methods=["GET", "POST"])
    def login() -> str | Response:
        if request.method == "POST" and is_password(request.form.get("password", "")):
            session["logged_in"] = True
            return redirect(url_for("index"))
        return LOGIN_PAGE

    @app.get("/")
    def index() -> str:
        return '<h1>Toy cars</h1> <a href="/models">Our models</a>'

    @app.get("/models")
    def models() -> str:
        return "<h1>Our models</h1> <ul><li>Fire engine, 1:43</li></ul>"

    @app.errorhandler(404)
    def not_found(error: NotFound) -> tuple[str, int]:
        return "<h1>This page got lost</h1>", 404
