"""The commands that every application with the extension has: ``flask flaskcompat ...``."""

from __future__ import annotations

from importlib import import_module

import click
from flask import current_app
from flask.cli import AppGroup

from flaskcompat.errors import CannotConnect
from flaskcompat.runtime.state import models_of, states_of

# Those that have a module each, and their names there.
_MODULES = {
    "call": ("flaskcompat.commands.call", "call_command"),
    "check": ("flaskcompat.commands.check", "check_command"),
    "keys": ("flaskcompat.commands.keys", "keys_commands"),
    "migrate": ("flaskcompat.commands.migrate", "migrate_command"),
    "serve": ("flaskcompat.cli", "serve_command"),
}


class _Commands(AppGroup):
    """Imports a command when it is asked for: servers start with this, and need none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_MODULES])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULES:
            return super().get_command(ctx, cmd_name)
        module, name = _MODULES[cmd_name]
        command: click.Command = getattr(import_module(module), name)
        return command


commands = _Commands("flaskcompat", help="Serve, list, ask and check the models, and look after what is stored.")


@commands.command("models", short_help="List the models, and those that failed to load.")
def models_command() -> None:
    """List the models with what they answer, and those that failed to load; the exit status tells whether any did."""
    models, failed = models_of(current_app.extensions)
    width = max((len(name) for name in [*(model.name for model in models), *dict(failed)]), default=0)
    for model in models:
        click.echo(f"{model.name:<{width}}  {', '.join(model.surfaces)}")
    for name, why in failed:
        click.echo(f"{name:<{width}}  FAILED: {why}", err=True)
    if failed:
        raise SystemExit(1)


@commands.command("purge", short_help="Delete what is older or larger than the settings say.")
def purge_command() -> None:
    """Delete responses and files that are older or larger than the settings say, and what broken uploads have left."""
    stores = states_of(current_app.extensions)[0].stores  # which all have in common
    try:
        stores.connect()
    except CannotConnect as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{stores.purge()} records deleted")
