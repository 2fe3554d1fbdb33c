"""The Flask extension."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Request, current_app

from flaskcompat.blueprints import make_blueprint
from flaskcompat.blueprints.audit import Audit
from flaskcompat.blueprints.calls import observers_of, record_calls
from flaskcompat.blueprints.routes import Routes
from flaskcompat.commands import commands
from flaskcompat.config import set_defaults
from flaskcompat.development import reload_models
from flaskcompat.page import make_page_blueprint
from flaskcompat.runtime.fetching import Fetcher
from flaskcompat.runtime.input_files import MOST_INLINE
from flaskcompat.runtime.keys import read_keys
from flaskcompat.runtime.loader import load_folder
from flaskcompat.runtime.registry import Registry
from flaskcompat.runtime.state import EXTENSION, State, states_of
from flaskcompat.stores.opening import open_stores


class FlaskCompat:
    """Adds the OpenAI API to a Flask application.

    ::

        compat = FlaskCompat(app, pipelines="pipelines")
        compat.registry.add("echo", EchoWrapper)

    Each application has a registry of its own, in ``app.extensions["flaskcompat"].registry``. Nothing of the
    application but the routes added is touched: its error pages, limits and other routes stay as they are.

    :param pipelines: folder of wrappers; the config's ``FLASKCOMPAT_PIPELINES_DIR`` if None.
    :param url_prefix: where the routes go, such as ``/ai``, giving ``/ai/v1/models``.
    :param authenticate: called with each request; gives whom it comes from (a name, or any object, which may have
        ``name`` and ``models``), None for nobody. A request that is nobody's and has no valid key gets 401.
    :param parent: a blueprint of this one application that the routes go below; to be registered after this.
    :param name: of the blueprint, which names of endpoints begin with. An application that has the API more than once
        gives each a name; they keep what is stored in one place.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        pipelines: str | Path | None = None,
        url_prefix: str | None = None,
        authenticate: Callable[[Request], Any] | None = None,
        parent: Blueprint | None = None,
        name: str = EXTENSION,
    ) -> None:
        self._pipelines = pipelines
        self._url_prefix = url_prefix
        self._authenticate = authenticate
        self._parent = parent
        self._name = name
        self._app: Flask | None = None
        #: All routes of the API, for the application's extensions: ``csrf.exempt(compat.blueprint)`` and the like.
        self.blueprint: Blueprint = make_blueprint(name, _extra_routes)
        if app is not None:
            self._app = app
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Add the API to *app*.

        :raises PipelineLoadError: if the folder of wrappers is missing, or a wrapper fails under
            ``FLASKCOMPAT_STRICT``.
        :raises ValueError: for a setting that cannot be read, a store that cannot be used, or a name that is taken.
        """
        if self._name in app.extensions:
            raise ValueError(f"the application has an extension {self._name!r}: give this one another name=")
        set_defaults(app)
        keys = read_keys(app.config["FLASKCOMPAT_API_KEYS"], app.config["FLASKCOMPAT_API_KEYS_FILE"])
        state = State(keys=keys, authenticate=self._authenticate)
        if others := states_of(app.extensions):
            state.share(others[0])
        else:
            state.stores = open_stores(app.config)
            _observe(app)
        if app.config["FLASKCOMPAT_FETCH_URLS"] is not None:
            state.fetcher = Fetcher(app.config["FLASKCOMPAT_FETCH_URLS"], MOST_INLINE)
        if app.config["FLASKCOMPAT_OPENAPI"]:
            _check_openapi()
        app.extensions[self._name] = state
        state.send = _sender(app)
        folder = self._pipelines or app.config["FLASKCOMPAT_PIPELINES_DIR"]
        if folder is not None:
            state.folder = load_folder(
                Path(folder),
                state.registry,
                strict=app.config["FLASKCOMPAT_STRICT"],
                alias=app.config["FLASKCOMPAT_HAYHOOKS_ALIAS"],
                python_path=app.config["FLASKCOMPAT_PYTHON_PATH"],
            )
        (self._parent or app).register_blueprint(self.blueprint, url_prefix=self._url_prefix)
        if app.config["FLASKCOMPAT_PAGE"]:
            page = make_page_blueprint("flaskcompat_page" if self._name == EXTENSION else f"{self._name}_page")
            (self._parent or app).register_blueprint(page, url_prefix=self._url_prefix)
        app.cli.add_command(commands)
        reload_models(state)

    @property
    def registry(self) -> Registry:
        """The models of the application given, or of the current one.

        :raises RuntimeError: outside of an application context, where no application was given.
        """
        app = self._app or current_app
        state: State = app.extensions[self._name]
        return state.registry


def _observe(app: Flask) -> None:
    """Have the calls of *app* recorded, as the settings say.

    :raises ValueError: if what the settings ask for is not installed, or its folder is missing.
    """
    if app.config["FLASKCOMPAT_AUDIT"]:
        observers_of(app).append(Audit())
    if app.config["FLASKCOMPAT_METRICS"]:
        try:
            from flaskcompat.contrib.metrics import check_folder, metrics
        except ImportError:
            raise ValueError(
                "FLASKCOMPAT_METRICS needs prometheus_client: pip install 'flaskcompat[metrics]'"
            ) from None
        check_folder()
        observers_of(app).append(metrics())
    if observers_of(app):
        record_calls(app)


def _check_openapi() -> None:
    try:
        import flaskcompat.contrib.openapi  # noqa: F401
    except ImportError:
        raise ValueError("FLASKCOMPAT_OPENAPI needs apispec: pip install 'flaskcompat[openapi]'") from None


def _extra_routes(app: Flask, name: str) -> Iterator[Routes]:
    """The routes of the extras that the settings of *app* ask for, for its API of that *name*."""
    # One API tells the metrics of all.
    if app.config["FLASKCOMPAT_METRICS"] and app.extensions[name] is states_of(app.extensions)[0]:
        from flaskcompat.contrib import metrics

        yield metrics.routes
    if app.config["FLASKCOMPAT_OPENAPI"]:
        from flaskcompat.contrib import openapi

        yield openapi.routes


def _sender(app: Flask) -> Callable[[str, str], None] | None:
    """What puts background responses into the queue that the settings name.

    :raises ValueError: where they cannot be made elsewhere.
    """
    broker = app.config["FLASKCOMPAT_CELERY_BROKER_URL"]
    if broker is None:
        return None
    if app.config["FLASKCOMPAT_DATABASE_URL"] is None:
        raise ValueError("FLASKCOMPAT_CELERY_BROKER_URL needs FLASKCOMPAT_DATABASE_URL: workers find responses there")
    try:
        from flaskcompat.contrib.celery import sender
    except ImportError:
        raise ValueError("FLASKCOMPAT_CELERY_BROKER_URL needs Celery: pip install 'flaskcompat[celery]'") from None
    return sender(broker)
