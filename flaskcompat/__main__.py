"""The console command ``flaskcompat``, and the same as ``python -m flaskcompat``."""

from __future__ import annotations

import platform
from importlib.metadata import version

import click
from flask.cli import FlaskGroup, ScriptInfo

from flaskcompat._version import __version__
from flaskcompat.commands import commands
from flaskcompat.commands.app_loader import AppLoader
from flaskcompat.commands.check import standalone_check_command
from flaskcompat.commands.keys import standalone_keys_commands

_HELP = """Serve Haystack pipelines and agents to any OpenAI client.

The commands work on the Flask app that --app or FLASK_APP names. Without it, they work on the folder of
FLASKCOMPAT_PIPELINES_DIR, else on ./pipelines, else on the demos.

\b
  flaskcompat serve                         serve the models in ./pipelines
  flaskcompat --app shop serve              serve your app, with its models
  flaskcompat call NAME "good morning"      ask a model without a server
"""


def _show_versions(context: click.Context, option: click.Parameter, given: bool) -> None:
    if not given or context.resilient_parsing:
        return
    click.echo(f"flaskcompat {__version__}")
    for name, package in (("Flask", "flask"), ("Haystack", "haystack-ai")):
        click.echo(f"{name} {version(package)}")
    click.echo(f"Python {platform.python_version()}")
    context.exit()


_version_option = click.Option(
    ["--version"],
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_versions,
    help="Show the versions of flaskcompat, Flask, Haystack and Python.",
)
#: Those that work without an application, too: for a folder that cannot be served.
_STANDALONE = {"check": standalone_check_command, "keys": standalone_keys_commands}


class _Group(FlaskGroup):
    """The commands of this package and of Flask, and with ``--app`` those of the application.

    Nothing is loaded to list or find the first two.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*commands.list_commands(ctx), *self.commands})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        has_app = bool(ctx.ensure_object(ScriptInfo).app_import_path)
        if not has_app and name in _STANDALONE:
            return _STANDALONE[name]
        if name == commands.name:  # as under `flask`
            return commands
        if (command := commands.get_command(ctx, name)) is not None:
            return command
        return super().get_command(ctx, name) if has_app else self.commands.get(name)


def main() -> None:
    """Run the command line."""
    group = _Group(
        name="flaskcompat",
        help=_HELP,
        add_version_option=False,
        params=[_version_option],
        context_settings={"obj": AppLoader()},
    )
    group.main()


if __name__ == "__main__":
    main()
