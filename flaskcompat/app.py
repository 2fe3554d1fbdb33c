"""The application that ``flask --app flaskcompat run`` serves."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map

from flaskcompat.blueprints import make_health_blueprint, unrouted_error
from flaskcompat.cli import announce, serve_command
from flaskcompat.config import read_environment, set_defaults
from flaskcompat.development import current_flask_run
from flaskcompat.extension import FlaskCompat
from flaskcompat.log import configure
from flaskcompat.runtime.state import EXTENSION
from flaskcompat.server import warn_if_open

DEMOS = Path(__file__).parent / "demos"


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """An application that serves a folder of wrappers and nothing else.

    Settings come from the environment, and from *config* before it. The folder is ``FLASKCOMPAT_PIPELINES_DIR``,
    else ``./pipelines`` where that exists, else the demos of this package.

    :raises ValueError: for a setting that cannot be read.
    :raises PipelineLoadError: as :meth:`FlaskCompat.init_app`.
    """
    app = Flask("flaskcompat", static_folder=None, root_path=str(Path(__file__).parent))
    read_environment(app)
    app.config.update(config or {})
    set_defaults(app)
    for name, is_there in (("FLASKCOMPAT_OPENAPI", find_spec("apispec") is not None), ("FLASKCOMPAT_PAGE", True)):
        if app.config[name] is None:
            app.config[name] = is_there
    configure(app.config["FLASKCOMPAT_LOG_LEVEL"])
    # A redirect would repeat the Host header; doubled slashes are answered as they are. Before Werkzeug 3.0.2 a map can
    # be told so only when it is made.
    app.url_map = Map(merge_slashes=False)
    FlaskCompat(app, pipelines=app.config["FLASKCOMPAT_PIPELINES_DIR"] or _default_folder())
    app.register_blueprint(make_health_blueprint(app.extensions[EXTENSION]))
    app.register_error_handler(HTTPException, unrouted_error)
    app.register_error_handler(Exception, unrouted_error)
    app.cli.add_command(serve_command)
    _announce_run(app)
    return app


def _default_folder() -> Path:
    local = Path("pipelines")
    return local if local.is_dir() else DEMOS


def _announce_run(app: Flask) -> None:
    """Say what is served, where ``flask run`` is making the app: its own context knows the address."""
    run = current_flask_run()
    if run is not None and run.serves:
        announce(app, run.host, run.port)
        warn_if_open(app, run.host)
