"""An application with Flask-Limiter, whose users may ask its models so many times a minute.

flask --app examples/flask_limiter_app run

Needs Flask-Limiter: pip install flask-limiter. The users "ada" and "bob" send their name as the API key; each may
ask ASKS_PER_MINUTE times, else 20.
"""

import os
from typing import Any

from flask import Blueprint, Flask, Request, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

from flaskcompat import BasePipelineWrapper, FlaskCompat, get_last_user_message

USERS = ("ada", "bob")


class Parrot(BasePipelineWrapper):
    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> str:
        return f"You said: {get_last_user_message(messages)}"


def user_of(request: Request) -> str | None:
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    return token if token in USERS else None


def create_app() -> Flask:
    app = Flask(__name__)
    # With several processes give it a storage that they share: storage_uri="redis://...".
    limiter = Limiter(lambda: user_of(request) or get_remote_address(), app=app, storage_uri="memory://")

    # Shared by the blueprint's endpoints: a path with /v1 and one without are two of them.
    api = Blueprint("api", __name__, url_prefix="/ai")
    often = f"{os.environ.get('ASKS_PER_MINUTE', 20)}/minute"
    limiter.shared_limit(often, scope="asks", exempt_when=lambda: request.method != "POST")(api)

    compat = FlaskCompat(app, parent=api, authenticate=user_of)
    compat.registry.add("parrot", Parrot)
    app.register_blueprint(api)
    return app
