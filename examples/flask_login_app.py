"""An application with Flask-Login, whose users may use its models once they have logged in.

flask --app examples/flask_login_app run

Needs Flask-Login: pip install flask-login. The only user is "ada", with PASSWORD of the environment as the password,
else "let-me-in".
"""

import hmac
import os
import secrets
from typing import Any

from flask import Flask, Request, redirect, request, url_for
from flask_login import LoginManager, UserMixin, current_user, login_required, login_user
from werkzeug.wrappers import Response

from flaskcompat import BasePipelineWrapper, FlaskCompat, get_last_user_message

LOGIN_PAGE = (
    '<form method="post"><input name="name"><input type="password" name="password"> <button>Log in</button></form>'
)


USERS = ("ada",)


class User(UserMixin):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        self.id = self.name = name


class Greeter(BasePipelineWrapper):
    """A model that knows whom it talks to."""

    def run_chat_completion(
        self, model: str, messages: list[dict[str, Any]], body: dict[str, Any], principal: User
    ) -> str:
        return f"Hello {principal.name}, you said: {get_last_user_message(messages)}"


def logged_in(request: Request) -> User | None:
    """Whom a request comes from, as Flask-Login knows; what anybody stores is theirs alone."""
    return current_user._get_current_object() if current_user.is_authenticated else None


def create_app() -> Flask:
    app = Flask(__name__)
    app.secret_key = os.environ.get("SECRET_KEY") or secrets.token_hex()
    password = os.environ.get("PASSWORD") or "let-me-in"
    logins = LoginManager(app)
    logins.login_view = "login"
    logins.user_loader(User)

    @app.route("/login", methods=["GET", "POST"])
    def login() -> str | Response:
        given = request.form.get("password", "").encode()
        if request.form.get("name") in USERS and hmac.compare_digest(given, password.encode()):
            login_user(User(request.form["name"]))
            return redirect(url_for("index"))
        return LOGIN_PAGE

    @app.get("/")
    @login_required
    def index() -> str:
        return f"<h1>Hello {current_user.name}</h1>"

    compat = FlaskCompat(app, url_prefix="/ai", authenticate=logged_in)
    compat.registry.add("greeter", Greeter)
    return app
