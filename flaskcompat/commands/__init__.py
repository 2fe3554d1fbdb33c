"""The commands that every application with the extension has: ``flask flaskcompat ...``."""

from __future__ import annotations

import click
from flask import current_app
from flask.cli import AppGroup

from flaskcompat.commands.call import call_command
from flaskcompat.runtime.state import EXTENSION, State

commands = AppGroup("flaskcompat", help="Look at the models, ask one, and look after what flaskcompat keeps.")
commands.add_command(call_command)


@commands.command("models", short_help="List the models, and those that failed to load.")
def models_command() -> None:
    """List the models with what they answer, and those that failed to load; the exit status tells whether any did."""
    registry = _state().registry
    width = max(map(len, [*(model.name for model in registry), *registry.failed]), default=0)
    for model in registry:
        click.echo(f"{model.name:<{width}}  {', '.join(model.surfaces)}")
    for name, why in sorted(registry.failed.items()):
        click.echo(f"{name:<{width}}  FAILED: {why}", err=True)
    if registry.failed:
        raise SystemExit(1)


@commands.command("purge", short_help="Delete what is older or larger than the settings say.")
def purge_command() -> None:
    """Delete responses and files that are older or larger than the settings say, and what broken uploads have left."""
    click.echo(f"{_state().stores.purge()} records deleted")


def _state() -> State:
    state: State = current_app.extensions[EXTENSION]
    return state
