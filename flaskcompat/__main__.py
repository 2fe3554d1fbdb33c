"""The console command ``flaskcompat``, and the same as ``python -m flaskcompat``."""

from __future__ import annotations

import click
from flask import Flask
from flask.cli import FlaskGroup

from flaskcompat.app import create_app
from flaskcompat.commands.check import standalone_check_command
from flaskcompat.errors import FlaskCompatError


def _create_app() -> Flask:
    try:
        return create_app()
    except (FlaskCompatError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def main() -> None:
    """Run the command line: Flask's own commands, ``serve`` and ``check``, on the application of this package."""
    group = FlaskGroup(name="flaskcompat", create_app=_create_app)
    group.add_command(standalone_check_command)  # a folder that cannot be served can still be checked
    group.main()


if __name__ == "__main__":
    main()
