"""The Flask extension."""

from __future__ import annotations

from pathlib import Path

from flask import Flask, current_app

from flaskcompat.blueprints import make_blueprint
from flaskcompat.config import set_defaults
from flaskcompat.runtime.loader import load_folder
from flaskcompat.runtime.registry import Registry

EXTENSION = "flaskcompat"


class FlaskCompat:
    """Adds the OpenAI API to a Flask application.

    ::

        compat = FlaskCompat(app, pipelines="pipelines")
        compat.registry.add("echo", EchoWrapper)

    Each application has a registry of its own, in ``app.extensions["flaskcompat"]``. Nothing of the application
    but the routes added is touched: its error pages, limits and other routes stay as they are.

    :param pipelines: folder of wrappers; the config's ``FLASKCOMPAT_PIPELINES_DIR`` if None.
    :param url_prefix: where the routes go, such as ``/ai``, giving ``/ai/v1/models``.
    """

    def __init__(
        self, app: Flask | None = None, *, pipelines: str | Path | None = None, url_prefix: str | None = None
    ) -> None:
        self._pipelines = pipelines
        self._url_prefix = url_prefix
        self._app: Flask | None = None
        if app is not None:
            self._app = app
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Add the API to *app*.

        :raises PipelineLoadError: if the folder of wrappers is missing, or a wrapper fails under
            ``FLASKCOMPAT_STRICT``.
        """
        set_defaults(app)
        registry = Registry()
        app.extensions[EXTENSION] = registry
        folder = self._pipelines or app.config["FLASKCOMPAT_PIPELINES_DIR"]
        if folder is not None:
            load_folder(Path(folder), registry, strict=app.config["FLASKCOMPAT_STRICT"])
        app.register_blueprint(make_blueprint(registry), url_prefix=self._url_prefix)

    @property
    def registry(self) -> Registry:
        """The models of the application given, or of the current one.

        :raises RuntimeError: outside of an application context, where no application was given.
        """
        app = self._app or current_app
        registry: Registry = app.extensions[EXTENSION]
        return registry
