"""The files for Windows, as far as they can be checked elsewhere: they are XML, and what they name exists."""

from __future__ import annotations

import shlex
from importlib.metadata import entry_points
from xml.etree import ElementTree

import click

from flaskcompat.cli import serve_command
from flaskcompat.config import SETTINGS

from .recipes import RECIPES

FOLDER = RECIPES / "windows"


def test_service_starts_a_command_that_exists() -> None:
    service = ElementTree.parse(FOLDER / "flaskcompat.xml").getroot()
    program = str(service.findtext("executable")).rpartition("\\")[2].removesuffix(".exe")
    assert program in entry_points(group="console_scripts").names
    name, *arguments = shlex.split(str(service.findtext("arguments")).replace("\\", "/"))
    assert name == serve_command.name
    with click.Context(serve_command) as context:
        given, rest, _ = serve_command.make_parser(context).parse_args(arguments)
    assert (given["host"], given["port"], rest) == ("127.0.0.1", "1416", [])
    known = {setting.name: setting for setting in SETTINGS}
    settings = {str(env.get("name")): str(env.get("value")) for env in service.iter("env")}
    for setting in settings.keys() & known.keys():
        known[setting].read(settings[setting])
    grace = float(settings["FLASKCOMPAT_SHUTDOWN_GRACE"])
    assert float(str(service.findtext("stoptimeout")).removesuffix("sec")) > grace + 1


def test_site_passes_on_to_where_the_service_listens() -> None:
    site = ElementTree.parse(FOLDER / "web.config").getroot()
    [action] = site.iter("action")
    assert action.get("url") == "http://127.0.0.1:1416/{R:1}"
    [compression] = site.iter("urlCompression")
    assert compression.get("doDynamicCompression") == "false"


def test_both_say_that_they_are_untested() -> None:
    for name in ("flaskcompat.xml", "web.config", "README.md"):
        assert "untested" in (FOLDER / name).read_text(encoding="utf-8").lower()[:300]
