"""Loads the application that the ``flaskcompat`` command works on, and reports errors in one line."""

from __future__ import annotations

import os
import sysconfig
import traceback
from contextlib import suppress
from pathlib import Path

import click
import flask
from flask import Flask
from flask.cli import NoAppException, ScriptInfo
from flask.helpers import get_debug_flag

from flaskcompat.app import create_app
from flaskcompat.config import unread_settings
from flaskcompat.errors import FlaskCompatError
from flaskcompat.runtime.loader import reason_of
from flaskcompat.runtime.state import states_of

_PACKAGES = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
# What loads an application: this package, and Flask.
_LOADERS = (Path(__file__).parent.parent, Path(flask.__file__).parent)


class AppLoader(ScriptInfo):
    """Loads the app of ``--app`` or ``FLASK_APP``; if neither names one, the app of this package.

    A ``wsgi.py`` or ``app.py`` in the current folder is not looked for, unlike under ``flask``.
    """

    def load_app(self) -> Flask:
        """The application, which has the extension.

        :raises ClickException: if there is none.
        """
        if not self.app_import_path:
            if self.create_app is None:
                self.create_app = _default_app
                _tell_of_another_app()
            return super().load_app()
        is_first = self._loaded_app is None
        try:
            app = super().load_app()
        except NoAppException as error:
            cause = error.__context__
            # Raised in the module rather than by the search for it.
            if isinstance(cause, ImportError) and cause.__traceback__ and cause.__traceback__.tb_next:
                raise self._failed(cause) from None
            raise click.ClickException(f"The app {self.app_import_path!r} is not found: {error.message}") from None
        except click.ClickException:
            raise
        except (Exception, SystemExit) as error:
            raise self._failed(error) from None
        if not states_of(app.extensions):
            raise click.ClickException(
                f"The app {self.app_import_path!r} does not have the FlaskCompat extension: add FlaskCompat(app) to it."
            )
        if is_first and (unread := unread_settings(app)):
            # A key among them would guard nothing.
            click.echo(
                f"The app {self.app_import_path!r} does not read its settings from the environment."
                f" Set them in app.config: {', '.join(unread)}",
                err=True,
            )
        return app

    def _failed(self, error: BaseException) -> click.ClickException:
        if get_debug_flag():
            traceback.print_exception(error)
        place = _place(error)
        at = f" ({place})" if place else ""
        return click.ClickException(f"The app {self.app_import_path!r} failed to load: {reason_of(error)}{at}")


def _default_app() -> Flask:
    try:
        return create_app()
    except (FlaskCompatError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def _tell_of_another_app() -> None:
    """Say that an app in the current folder is not loaded, if it uses this package: ``flask`` would load it."""
    for name in ("wsgi.py", "app.py"):
        with suppress(OSError):  # usually the file does not exist
            if b"flaskcompat" in Path(name).read_bytes():
                click.echo(f"{name} is not loaded. To work on its app: flaskcompat --app {name} ...", err=True)


def _place(error: BaseException) -> str | None:
    """``file:line`` of the innermost call in the user's own files, else in those of an installed app."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shown(Path(error.filename))}:{error.lineno}"
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    frames = [(path, line) for path, line in frames if path.is_file() and not _is_below(path, _LOADERS)]
    own = [(path, line) for path, line in frames if not _is_below(path, _PACKAGES)]
    if not (found := own or frames):
        return None
    path, line = found[-1]
    return f"{_shown(path)}:{line}"


def _is_below(path: Path, folders: tuple[Path, ...]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _shown(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
