"""The settings: each with its default, how the environment writes it, and its reason."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Flask


def _flag(text: str) -> bool:
    if text.strip().lower() in ("1", "true", "yes", "on"):
        return True
    if text.strip().lower() in ("0", "false", "no", "off", ""):
        return False
    raise ValueError("is neither true nor false")


def _level(text: str) -> str:
    if text.strip().upper() not in logging.getLevelNamesMapping():
        raise ValueError("is no level of the log")
    return text.strip().upper()


@dataclass(frozen=True)
class Setting:
    """One ``FLASKCOMPAT_`` key of a Flask config.

    :param read: makes a value of what the environment holds; raises ValueError.
    """

    name: str
    default: Any
    read: Callable[[str], Any]
    about: str


SETTINGS = (
    Setting(
        "FLASKCOMPAT_PIPELINES_DIR", None, str, "folder of wrappers; unset: `./pipelines` if it exists, else the demos"
    ),
    Setting("FLASKCOMPAT_STRICT", False, _flag, "a wrapper that fails to load ends the start"),
    Setting(
        "FLASKCOMPAT_SHOW_TOOL_CALLS", False, _flag, "show calls of tools that ran in a pipeline as items of responses"
    ),
    Setting("FLASKCOMPAT_KEEP_ALIVE", 15.0, float, "seconds of silence after which a stream gets a comment; 0: never"),
    Setting("FLASKCOMPAT_MAX_BODY_BYTES", 10_000_000, int, "largest JSON body, in bytes"),
    Setting("FLASKCOMPAT_MAX_UPLOAD_BYTES", 128 * 1024 * 1024, int, "largest upload, in bytes"),
    Setting("FLASKCOMPAT_TRACEBACKS", False, _flag, "tell clients the type and text of a wrapper's exception"),
    Setting("FLASKCOMPAT_LOG_LEVEL", "INFO", _level, "level of the log on stderr: TRACE, DEBUG, INFO, WARNING, ERROR"),
)


def set_defaults(app: Flask) -> None:
    """Give *app* every setting that it has not set itself."""
    for setting in SETTINGS:
        app.config.setdefault(setting.name, setting.default)


def read_environment(app: Flask, environ: Mapping[str, str] = os.environ) -> None:
    """Take settings from the environment; for an application that is ours alone.

    :raises ValueError: for a value that is no such setting's, naming it.
    """
    for setting in SETTINGS:
        text = environ.get(setting.name)
        if text is None:
            continue
        try:
            app.config[setting.name] = setting.read(text)
        except ValueError as error:
            raise ValueError(f"{setting.name}={text!r}: {error}") from None
