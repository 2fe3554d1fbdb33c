"""The ``serve`` command and the start screen."""

from __future__ import annotations

import json
import shlex
from functools import partial
from pathlib import Path
from urllib.parse import quote

import click
from flask import Flask
from flask.cli import ScriptInfo

from flaskcompat._version import __version__
from flaskcompat.errors import CannotConnect, CannotListen
from flaskcompat.runtime.reloading import Reloader
from flaskcompat.runtime.state import State, models_of, states_of
from flaskcompat.server import DEFAULT_HOST, DEFAULT_PORT, DEFAULT_THREADS, serve, url_prefix
from flaskcompat.stores.opening import open_stores

_QUESTION = "What can you do?"


def start_screen(app: Flask, host: str, port: int, prefix: str = "") -> str:
    """What is served and where, and a line to try it with."""
    models, failed = models_of(app.extensions)
    shown = f"[{host}]" if ":" in host else host
    base = f"http://{shown}:{port}{quote(prefix, encoding='latin-1')}"
    apis = [
        (f"{base}{path}", state) for state in states_of(app.extensions) if (path := api_path(app, state)) is not None
    ]
    where = f"at {' and '.join(url for url, _ in apis)}" if apis else "without an API: its blueprint is not registered"
    names = [*(model.name for model in models), *dict(failed)]
    width = max(map(len, names), default=0)
    lines = [f"flaskcompat {__version__} {where}", ""]
    lines += [f"  {model.name:<{width}}  {', '.join(model.surfaces)}" for model in models]
    lines += [f"  {name:<{width}}  FAILED: {why}" for name, why in failed]
    if not names:
        has_folder = any(state.folder is not None for _, state in apis)
        missing = "the folder has no <name>/pipeline_wrapper.py" if has_folder else "the app has added none"
        lines.append(f"  no models: {missing}")
    # A path with variables cannot be pasted.
    examples = [(url, example) for url, state in apis if "<" not in url and (example := _example(state, url))]
    if examples:
        url, example = examples[0]
        lines += ["", "Try it:", f"  {example}"]
        if app.config["FLASKCOMPAT_PAGE"]:
            lines += [f"  or in a browser: {url.removesuffix('v1')}"]
    return "\n".join(lines)


def api_path(app: Flask, state: State) -> str | None:
    """The path of the API of *state*, such as ``/ai/v1``; None if its blueprint is not registered."""
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith(tuple(state.prefixes)) and rule.rule.endswith("/v1/models"):
            return rule.rule.removesuffix("/models")
    return None


def announce(app: Flask, host: str, port: int, prefix: str = "") -> None:
    """Print the start screen."""
    click.echo(f"\n{start_screen(app, host, port, prefix)}\n", err=True)


def _example(state: State, url: str) -> str | None:
    key = "-H 'Authorization: Bearer KEY' " if state.keys else ""
    for model in state.registry:
        if "chat" in model.surfaces:
            body = {"model": model.name, "messages": [{"role": "user", "content": _QUESTION}]}
            path = "chat/completions"
        elif "responses" in model.surfaces:
            body, path = {"model": model.name, "input": _QUESTION}, "responses"
        else:
            continue
        return f"curl {url}/{path} {key}-H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}"
    return None


def keep_below(app: Flask, folder: Path) -> None:
    """Have *app* keep its state in *folder*: an embedded database, and files beside it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = folder.resolve()
    app.config["FLASKCOMPAT_DATABASE_URL"] = f"sqlite:///{folder / 'flaskcompat.db'}"
    app.config["FLASKCOMPAT_FILES_URL"] = f"file://{folder / 'files'}"  # as it is: fsspec knows no escapes
    stores = open_stores(app.config)
    for state in states_of(app.extensions):
        state.stores = stores


@click.command("serve", short_help="Serve the app with waitress.")
@click.option("--host", default=DEFAULT_HOST, show_default=True, help="Address to listen on.")
@click.option("--port", default=DEFAULT_PORT, show_default=True, type=click.IntRange(0, 65535), help="0: any free one.")
@click.option(
    "--threads",
    default=DEFAULT_THREADS,
    show_default=True,
    type=click.IntRange(1),
    help="Whole answers made at the same time; streams need none here. A few more are kept for short requests.",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that keeps responses and files, in place of FLASKCOMPAT_DATABASE_URL and FLASKCOMPAT_FILES_URL.",
)
@click.option("--reload", is_flag=True, help="Load a model again when its files have changed.")
@click.pass_context
def serve_command(context: click.Context, host: str, port: int, threads: int, data: Path | None, reload: bool) -> None:
    """Serve the app with waitress, set up for many open streams."""
    app = context.ensure_object(ScriptInfo).load_app()
    folders = [state.folder for state in states_of(app.extensions) if state.folder is not None]
    if reload:
        for folder in folders:
            Reloader(folder).start()
    if data is not None:
        try:
            keep_below(app, data)
        except (OSError, ValueError) as error:
            raise click.ClickException(str(error)) from None
    try:
        # Now, not with the first answer that cannot be kept. All states have their stores in common.
        states_of(app.extensions)[0].stores.connect()
        start = partial(announce, app, host, prefix=url_prefix())
        serve(app, host=host, port=port, threads=threads, on_start=start)
    except (CannotConnect, CannotListen) as error:
        raise click.ClickException(str(error)) from None
