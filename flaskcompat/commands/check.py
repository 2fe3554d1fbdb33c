"""``flask flaskcompat check``, and ``flaskcompat check``, which loads no application."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from flask import Flask, current_app
from flask.cli import with_appcontext

from flaskcompat.checking.findings import Result
from flaskcompat.checking.options import TIMEOUT, Options
from flaskcompat.checking.scorecard import as_json, scorecard
from flaskcompat.runtime.state import states_of

if TYPE_CHECKING:
    from flaskcompat.checking.checker import Checker, Models

_HELP = """Check the wrappers in DIRECTORY: load each, ask it in every way that it answers, read its source.

DIRECTORY is a folder of models, or the folder of one.

Scripted models answer in place of real ones, nothing goes over the network, and no key is needed. Without DIRECTORY:
{otherwise}.

The exit status is 1 where something failed, and 2 where nothing could be checked.
"""
# Of a process that SIGINT ended, as shells tell it.
_INTERRUPTED = 130
_OPTIONS = [
    click.argument("directory", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path)),
    click.option(
        "--model",
        "chosen",
        multiple=True,
        metavar="NAME",
        help="Check this model alone; may be repeated. All are loaded.",
    ),
    click.option("--real", is_flag=True, help="Ask the real models, over the network."),
    click.option("--reply", metavar="TEXT", help="What scripted models say, where a wrapper reads it."),
    click.option(
        "--timeout",
        default=TIMEOUT,
        show_default=True,
        type=click.FloatRange(0, min_open=True),
        help="Seconds for loading a model, and for each answer.",
    ),
    click.option("--json", "to_json", is_flag=True, help="Print the results as JSON."),
]


def _command(run: Callable[..., None], otherwise: str) -> click.Command:
    for option in reversed(_OPTIONS):
        run = option(run)
    return click.command("check", short_help="Check wrappers.", help=_HELP.format(otherwise=otherwise))(run)


@with_appcontext
def _for_app(directory: Path | None, **options: Any) -> None:
    from flaskcompat.checking.checker import ServedModels  # it needs the extension, which has this command

    if directory is not None:
        _check([_in_folder(directory)], current_app, **options)
        return
    states = states_of(current_app.extensions)
    served = [ServedModels(state.registry, state.folder.path if state.folder else None) for state in states]
    _check([*served], current_app, **options)


def _alone(directory: Path | None, **options: Any) -> None:
    from flaskcompat.checking.checker import bare_app

    try:
        app = bare_app()
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    _check([_in_folder(directory or app.config["FLASKCOMPAT_PIPELINES_DIR"] or "pipelines")], app, **options)


check_command = _command(_for_app, "what the application serves")
standalone_check_command = _command(_alone, "the folder of FLASKCOMPAT_PIPELINES_DIR, else ./pipelines")


def _in_folder(folder: Path | str) -> Models:
    from flaskcompat.checking.checker import FolderModels

    if not Path(folder).is_dir():
        raise click.UsageError(f"the folder {folder} does not exist")
    return FolderModels(Path(folder))


def _check(
    places: list[Models],
    app: Flask,
    chosen: tuple[str, ...],
    to_json: bool,
    real: bool,
    reply: str | None,
    timeout: float,
) -> None:
    from flaskcompat.checking.checker import Checker

    if real and reply is not None:
        raise click.UsageError("--reply is for scripted models, --real for real ones")
    names = [name for models in places for name in models.names]
    if not names:
        raise click.UsageError("there are no models: a folder has <name>/pipeline_wrapper.py or <name>/pipeline.yml")
    if unknown := [name for name in chosen if name not in names]:
        raise click.UsageError(f"there is no model {unknown[0]}; there are {', '.join(names)}")
    results: list[Result] = []
    try:
        with _stdout_kept():
            for models in places:
                wanted = [name for name in models.names if not chosen or name in chosen]
                results += _go_through(Checker(models, app, Options(real, reply, timeout)), wanted)
    except KeyboardInterrupt:
        _end_at_once(_INTERRUPTED)
        raise SystemExit(_INTERRUPTED) from None
    status = int(any(result.failed for result in results))
    _print(json.dumps(as_json(results, real=real), indent=2) if to_json else scorecard(results, real=real))
    if any(result.hangs for result in results):
        _end_at_once(status)
    if status:
        raise SystemExit(status)


def _is_console() -> bool:
    """Whether stdout is the process's own: a test of the command has put another in its place."""
    return sys.stdout is not None and sys.stdout is sys.__stdout__


@contextmanager
def _stdout_kept() -> Iterator[None]:
    """Have what wrappers print, log and let their children print go to stderr: it is no part of the results."""
    if not _is_console():
        with redirect_stdout(sys.stderr):
            yield
        return
    stdout = sys.stdout
    stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        stdout.flush()  # a handler of logging may have written there
        os.dup2(kept, 1)
        os.close(kept)


def _print(text: str) -> None:
    # A text of a wrapper's may have characters that the terminal has not.
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding))


def _end_at_once(status: int) -> None:
    """End the process, if it is for this command alone: the interpreter would wait for threads that may never end."""
    if _is_console():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _go_through(checker: Checker, names: list[str]) -> list[Result]:
    """Check one after the other, and show on a terminal how far it is."""
    results = []
    for number, name in enumerate(names, 1):
        where = f"{number}/{len(names)} {name}"
        _show(f"{where}: load")
        results.append(checker.check(name, lambda column, where=where: _show(f"{where}: {column}")))  # type: ignore[misc]
    _show("")
    return results


def _show(progress: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{progress}", nl=False, err=True)
