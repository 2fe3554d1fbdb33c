"""``flask flaskcompat keys ...``, and ``flaskcompat keys ...``, which loads no models."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from flask import Flask, current_app
from flask.cli import AppGroup, ScriptInfo

from flaskcompat.commands.writing import alone_in, write_new, write_whole
from flaskcompat.runtime.keys import Keys, Principal, decode_keys, make_key, read_keys, split_entries
from flaskcompat.runtime.state import EXTENSION, State, states_of

_SHORT_HELP = "Make API keys, and look at those that there are."
_HELP = f"{_SHORT_HELP} A server reads its keys when it starts, and only then."

keys_commands = AppGroup("keys", short_help=_SHORT_HELP, help=_HELP)


@keys_commands.command("new", with_appcontext=False, short_help="Make a key.")
@click.argument("name")
@click.argument("models", metavar="[MODEL]...", nargs=-1)
@click.option(
    "--add",
    "file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Add the line to FILE, which is made if it is not there, in place of printing it.",
)
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the key to FILE, a new file that only you can read, instead of printing it.",
)
def new_command(name: str, models: tuple[str, ...], file: Path | None, out: Path | None) -> None:
    """Make a key for NAME, for the MODELs alone if any are given (`*` stands for anything).

    The first line printed is the key, which is shown this once and kept nowhere; the second is the one for the file
    that FLASKCOMPAT_API_KEYS_FILE names, with the key's hash. Servers that run know the key after a restart. A file
    that the shell makes with `>` can be read by all users of the machine: use --out.
    """
    try:
        key, entry = make_key(name, models)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if out is not None:
        if file is not None and out.resolve() == file.resolve():
            raise click.UsageError("--add and --out name the same file")
        _write_new(out, f"{key}\n".encode())
    try:
        if file is not None:
            _add(file.resolve(), name, entry)
    except click.ClickException:
        if out is not None:
            out.unlink(missing_ok=True)  # it opens nothing
        raise
    if out is None:
        click.echo(key)
    if file is None:
        click.echo(entry)


@keys_commands.command("list", short_help="List whose keys there are.")
def list_command() -> None:
    """List the names that there are keys for, each with the models that it may use."""
    principals = _keys().principals
    width = max((len(principal.name) for principal in principals), default=0)
    for principal in principals:
        click.echo(f"{principal.name:<{width}}  {_models(principal)}")
    if not principals:
        click.echo("There are no keys.", err=True)


@keys_commands.command("check", short_help="Say whose a key is.")
def check_command() -> None:
    """Read a key from the standard input, or ask for it, and say whose it is; exit with 1 if it is nobody's."""
    if sys.stdin.isatty():
        key = click.prompt("Key", hide_input=True, err=True)
    else:
        key = sys.stdin.readline().strip()
    principal = _keys().find(f"Bearer {key.encode('utf-8', 'surrogateescape').decode('latin-1')}")
    if principal is None:
        raise click.ClickException("The key is nobody's.")
    click.echo(f"{principal.name}  {_models(principal)}")


@click.group("keys", commands=keys_commands.commands, short_help=_SHORT_HELP, help=_HELP)
@click.pass_context
def standalone_keys_commands(context: click.Context) -> None:
    context.obj = ScriptInfo(create_app=_app_with_keys_alone)


def _app_with_keys_alone() -> Flask:
    """An application that has the keys of the environment, and no models."""
    from flaskcompat.checking.checker import bare_app  # it needs the extension, which has this command

    try:
        app = bare_app()
        keys = read_keys(app.config["FLASKCOMPAT_API_KEYS"], app.config["FLASKCOMPAT_API_KEYS_FILE"])
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    app.extensions[EXTENSION] = State(keys=keys)
    return app


def _keys() -> Keys:
    return states_of(current_app.extensions)[0].keys  # which all have in common


def _models(principal: Principal) -> str:
    return " ".join(principal.models or ("*",))


def _write_new(out: Path, data: bytes) -> None:
    """:raises ClickException: if *out* is there, or cannot be written."""
    try:
        write_new(out, data)
    except FileExistsError:
        raise click.ClickException(f"{out} exists already.") from None
    except OSError as error:
        raise click.ClickException(f"{out} cannot be written: {type(error).__name__}") from None


def _add(file: Path, name: str, entry: str) -> None:
    """Add a line to a file of keys.

    :raises ClickException: if it has that name, or is no such file.
    """
    try:
        with alone_in(file.parent):
            is_there = file.exists()
            if is_there and not file.is_file():  # a pipe would block, a device would be replaced
                raise click.ClickException(f"{file} is no regular file.")
            data = file.read_bytes() if is_there else b""
            if any(principal.name == name for principal in Keys(split_entries(decode_keys(data))).principals):
                raise click.ClickException(f"{file} has a key for {name} already.")
            line_end = b"\r\n" if b"\r\n" in data else b"\n"
            separator = b"" if not data or data.endswith((b"\n", b"\r")) else line_end
            write_whole(file, data + separator + entry.encode() + line_end)
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{file} cannot be read or written: {type(error).__name__}") from None
    except ValueError as error:
        raise click.ClickException(f"{file} is no file of keys: {error}") from None
