"""The console command ``flaskcompat``, and the same as ``python -m flaskcompat``."""

from __future__ import annotations

import click
from flask import Flask
from flask.cli import FlaskGroup

from flaskcompat.app import create_app
from flaskcompat.errors import FlaskCompatError


def _create_app() -> Flask:
    try:
        return create_app()
    except (FlaskCompatError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def main() -> None:
    """Run the command line: Flask's own commands and ``serve``, on the application of this package."""
    FlaskGroup(name="flaskcompat", create_app=_create_app).main()


if __name__ == "__main__":
    main()
