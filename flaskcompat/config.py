"""The settings: each with its default, how the environment writes it, and its reason."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask

from flaskcompat.log import log


def _flag(text: str) -> bool:
    if text.strip().lower() in ("1", "true", "t", "yes", "y", "on"):
        return True
    if text.strip().lower() in ("0", "false", "f", "no", "n", "off", ""):
        return False
    raise ValueError("must be true or false, 1 or 0, yes or no, on or off")


def _count(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise ValueError("must be a whole number, 0 or more")
    return number


def _seconds(text: str) -> float:
    return _amount(text, "seconds")


def _days(text: str) -> float:
    return _amount(text, "days")


def _amount(text: str, unit: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(f"must be a number of {unit}, 0 or more")
    return number


def _level(text: str) -> str:
    if text.strip().upper() not in logging.getLevelNamesMapping():
        raise ValueError("must be one of TRACE, DEBUG, INFO, WARNING, ERROR, CRITICAL")
    return text.strip().upper()


def _alias(text: str) -> str:
    if text.strip().lower() not in ("auto", "on", "off"):
        raise ValueError("must be auto, on or off")
    return text.strip().lower()


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
    Setting("FLASKCOMPAT_PYTHON_PATH", None, str, "further folders of modules for wrappers, written as `PYTHONPATH`"),
    Setting(
        "FLASKCOMPAT_HAYHOOKS_ALIAS",
        "auto",
        _alias,
        "wrappers that import `hayhooks` get flaskcompat: `auto` (where it is not installed), `on`, `off`",
    ),
    Setting("FLASKCOMPAT_STRICT", False, _flag, "a wrapper that fails to load ends the start"),
    Setting(
        "FLASKCOMPAT_SHOW_TOOL_CALLS", False, _flag, "show calls of tools that ran in a pipeline as items of responses"
    ),
    Setting(
        "FLASKCOMPAT_API_KEYS",
        None,
        str,
        "who may come in: `[name=]key [model ...]`, by commas or on lines of their own; unset: everybody",
    ),
    Setting("FLASKCOMPAT_API_KEYS_FILE", None, str, "a file with more of them, one on a line"),
    Setting(
        "FLASKCOMPAT_MAX_GENERATIONS",
        None,
        _count,
        "answers made at the same time, 0: any number; unset: 1000 under `serve`, elsewhere the server's threads but 8",
    ),
    Setting("FLASKCOMPAT_MAX_BACKGROUND", 16, _count, "responses made in the background at the same time"),
    Setting(
        "FLASKCOMPAT_CELERY_BROKER_URL",
        None,
        str,
        "broker of the Celery workers that make them; unset: threads of the process that was asked",
    ),
    Setting(
        "FLASKCOMPAT_REQUEST_TIMEOUT",
        0.0,
        _seconds,
        "seconds that an answer may take, else 504 or an error event; 0: any",
    ),
    Setting("FLASKCOMPAT_CHUNK_TIMEOUT", 0.0, _seconds, "seconds that an answer may be silent, likewise; 0: any"),
    Setting(
        "FLASKCOMPAT_KEEP_ALIVE", 15.0, _seconds, "seconds of silence after which a stream gets a comment; 0: never"
    ),
    Setting(
        "FLASKCOMPAT_STALL_TIMEOUT", 30.0, _seconds, "seconds that a client may leave a stream unread; 0: any number"
    ),
    Setting("FLASKCOMPAT_SHUTDOWN_GRACE", 10.0, _seconds, "seconds that a stop gives to answers still being made"),
    Setting("FLASKCOMPAT_MAX_BODY_BYTES", 10_000_000, _count, "largest JSON body, in bytes, decoded"),
    Setting("FLASKCOMPAT_MAX_UPLOAD_BYTES", 128 * 1024 * 1024, _count, "largest upload, in bytes, decoded"),
    Setting(
        "FLASKCOMPAT_DATABASE_URL",
        None,
        str,
        "where responses and what is known of files are kept: `sqlite:///path` or `postgresql://…`; unset: in memory",
    ),
    Setting(
        "FLASKCOMPAT_FILES_URL",
        None,
        str,
        "where the bytes of files are kept: `file:///dir`, `s3://…`; unset: nowhere",
    ),
    Setting(
        "FLASKCOMPAT_FETCH_URLS",
        None,
        str,
        "where files and images that a request names by URL may be fetched from: `https://host/path/`, by commas;"
        " unset: nowhere",
    ),
    Setting(
        "FLASKCOMPAT_RESPONSES_MAX_DAYS",
        30.0,
        _days,
        "days that responses, conversations and chat completions are kept after their last use; 0: until deleted",
    ),
    Setting(
        "FLASKCOMPAT_RESPONSES_MAX_BYTES",
        None,
        _count,
        "bytes that they may take, then the oldest go; unset: any",
    ),
    Setting("FLASKCOMPAT_FILES_MAX_DAYS", 0.0, _days, "days that files are kept; 0: until deleted"),
    Setting("FLASKCOMPAT_FILES_MAX_BYTES", None, _count, "bytes that they may take, then the oldest go; unset: any"),
    Setting("FLASKCOMPAT_AUDIT", False, _flag, "log one line of JSON for each call: who, which model, status, tokens"),
    Setting("FLASKCOMPAT_METRICS", False, _flag, "metrics for Prometheus at `/metrics`; takes the extra `metrics`"),
    Setting(
        "FLASKCOMPAT_OPENAPI",
        None,
        _flag,
        "the API's description at `/openapi.json` and `/docs`; takes the extra `openapi`; unset: in an app of"
        " `create_app` that has it",
    ),
    Setting(
        "FLASKCOMPAT_PAGE",
        None,
        _flag,
        "a page at `/` to try the models in a browser; unset: in an app of `create_app`",
    ),
    Setting("FLASKCOMPAT_TRACEBACKS", False, _flag, "tell clients the type and text of a wrapper's exception"),
    Setting("FLASKCOMPAT_LOG_LEVEL", "INFO", _level, "level of the log on stderr: TRACE, DEBUG, INFO, WARNING, ERROR"),
)


#: Settings of Hayhooks' that mean the same, by ours.
HAYHOOKS_SETTINGS = {
    "FLASKCOMPAT_PIPELINES_DIR": "HAYHOOKS_PIPELINES_DIR",
    "FLASKCOMPAT_PYTHON_PATH": "HAYHOOKS_ADDITIONAL_PYTHON_PATH",
    "FLASKCOMPAT_TRACEBACKS": "HAYHOOKS_SHOW_TRACEBACKS",
}


def set_defaults(app: Flask) -> None:
    """Give *app* every setting that it has not set itself; texts are read as those of the environment are.

    :raises ValueError: for a value that is no such setting's, naming it.
    """
    for setting in SETTINGS:
        value = app.config.setdefault(setting.name, setting.default)
        if value is not None:
            app.config[setting.name] = _checked(setting, value)


def _checked(setting: Setting, value: Any) -> Any:
    """*value* as an application has set it; several keys may be given one by one, and paths as such."""
    name = setting.name
    if isinstance(value, Path) and name.endswith(("_DIR", "_FILE", "_PATH")):
        return str(value)
    if name == "FLASKCOMPAT_API_KEYS" and isinstance(value, list | tuple | set | frozenset):
        if all(isinstance(key, str) for key in value):
            return list(value)
    elif isinstance(value, str) or setting.read is not str:
        is_whole = isinstance(value, float) and value.is_integer()
        return _read(setting, name, str(int(value) if is_whole else value))
    several = " or a list of texts" if name == "FLASKCOMPAT_API_KEYS" else ""
    raise ValueError(f"{name} must be a text{several}, not {type(value).__name__}")


def _read(setting: Setting, name: str, text: str) -> Any:
    try:
        return setting.read(text)
    except ValueError as error:
        raise ValueError(f"{name}={text!r}: {error}") from None


def unread_settings(app: Flask, environ: Mapping[str, str] = os.environ) -> list[str]:
    """The settings that the environment has and *app*, which may not read it, has at their defaults."""

    def differs(setting: Setting) -> bool:
        try:
            return bool(setting.read(environ[setting.name]) != setting.default)
        except ValueError:
            return True

    at_default = (setting for setting in SETTINGS if app.config[setting.name] == setting.default)
    return [setting.name for setting in at_default if setting.name in environ and differs(setting)]


def read_environment(app: Flask, environ: Mapping[str, str] = os.environ) -> None:
    """Take settings from the environment; for an application that is ours alone.

    :raises ValueError: for a value that is no such setting's, naming it.
    """
    for setting in SETTINGS:
        name, other = setting.name, HAYHOOKS_SETTINGS.get(setting.name, setting.name)
        if name not in environ and other in environ:
            log.warning("{} is read in place of {}, which is not set", other, name)
            name = other
        text = environ.get(name)
        if text is not None:
            app.config[setting.name] = _read(setting, name, text)
