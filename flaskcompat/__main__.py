"""The console command ``flaskcompat``, and the same as ``python -m flaskcompat``."""

from __future__ import annotations

import click
from flask import Flask
from flask.cli import FlaskGroup

from flaskcompat.app import create_app
from flaskcompat.commands.check import standalone_check_command
from flaskcompat.commands.keys import standalone_keys_commands
from flaskcompat.commands.migrate import migrate_command
from flaskcompat.errors import FlaskCompatError


def _create_app() -> Flask:
    try:
        return create_app()
    except (FlaskCompatError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def main() -> None:
    """Run the command line: Flask's own commands and ``serve`` on the app of this package, and those that need none."""
    group = FlaskGroup(name="flaskcompat", create_app=_create_app)
    # For a folder that cannot be served, too: these load none of its models.
    for command in (standalone_check_command, standalone_keys_commands, migrate_command):
        group.add_command(command)
    group.main()


if __name__ == "__main__":
    main()
