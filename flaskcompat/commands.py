"""The commands that every application with the extension has: ``flask flaskcompat ...``."""

from __future__ import annotations

import click
from flask import current_app
from flask.cli import AppGroup

from flaskcompat.runtime.state import EXTENSION, State

commands = AppGroup("flaskcompat", help="Look after what flaskcompat keeps.")


@commands.command("purge", short_help="Delete what is older or larger than the settings say.")
def purge_command() -> None:
    """Delete responses and files that are older or larger than the settings say, and what broken uploads have left."""
    state: State = current_app.extensions[EXTENSION]
    click.echo(f"{state.stores.purge()} records deleted")
