"""What is different under ``flask run``, and while wrappers are being written."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import click
from flask.helpers import get_debug_flag
from werkzeug.serving import is_running_from_reloader

from flaskcompat.runtime.reloading import Reloader
from flaskcompat.runtime.state import State

# Where Flask's own reloader is told what is none of its business.
_EXCLUDED = "FLASK_RUN_EXCLUDE_PATTERNS"


@dataclass(frozen=True)
class FlaskRun:
    """``flask run``, as it makes the application.

    :param reloads: whether it starts anew when a file has changed.
    :param serves: whether this process serves; else it starts, and starts again, the one that does.
    """

    host: str
    port: int
    reloads: bool
    serves: bool


def current_flask_run() -> FlaskRun | None:
    """The ``flask run`` that is making an application; None elsewhere."""
    context = click.get_current_context(silent=True)
    if context is None or context.info_name != "run" or "port" not in context.params:
        return None
    given = context.params.get("reload")
    reloads = bool(get_debug_flag() if given is None else given)
    serves = not reloads or is_running_from_reloader()
    return FlaskRun(context.params["host"], context.params["port"], reloads, serves)


def reload_models(state: State) -> None:
    """Load each model of *state* again when its files have changed, if ``flask run`` reloads what it serves."""
    run = current_flask_run()
    if run is None or not run.reloads or state.folder is None:
        return
    if run.serves:
        Reloader(state.folder).start()
    else:
        _exclude(state.folder.path)


def _exclude(folder: Path) -> None:
    """Keep Flask's reloader from starting the whole anew for a file below *folder*, in the process that serves."""
    patterns = [pattern for pattern in os.environ.get(_EXCLUDED, "").split(os.pathsep) if pattern]
    # In each way in which a file there may be named.
    mine = [str(path / "*") for path in (folder, folder.absolute(), folder.resolve(), Path(os.path.abspath(folder)))]
    os.environ[_EXCLUDED] = os.pathsep.join(dict.fromkeys([*patterns, *mine]))
