"""An application with Flask-CORS, whose models may be asked by the pages of another site.

flask --app examples/flask_cors_app run

Needs Flask-CORS: pip install flask-cors. The site is ALLOWED_ORIGIN of the environment, else http://localhost:3000.
"""

import os
from typing import Any

from flask import Flask
from flask_cors import CORS

from flaskcompat import BasePipelineWrapper, FlaskCompat, get_last_user_message


class Parrot(BasePipelineWrapper):
    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> str:
        return f"You said: {get_last_user_message(messages)}"


def create_app() -> Flask:
    app = Flask(__name__)
    compat = FlaskCompat(app, url_prefix="/ai")
    compat.registry.add("parrot", Parrot)
    # One site by its name, never "*": what a page may ask for, it can do with its visitors' rights.
    site = os.environ.get("ALLOWED_ORIGIN", "http://localhost:3000")
    CORS(app, resources={"/ai/*": {"origins": [site]}}, expose_headers=["x-request-id"])
    return app
