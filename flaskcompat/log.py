"""One logger for the package and for wrappers, over the standard library's ``logging``."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from copy import copy
from typing import Any, cast

#: Below DEBUG, for what is of interest only while a wrapper is being written.
TRACE = 5
logging.addLevelName(TRACE, "TRACE")

#: The id of the request that is being answered in this context, ``"-"`` outside of one.
request_id: ContextVar[str] = ContextVar("flaskcompat_request_id", default="-")

_logger = logging.getLogger("flaskcompat")


@contextmanager
def logged_as(id: str) -> Iterator[None]:
    """Log under the request *id* within this, on a thread that serves others as well."""
    token = request_id.set(id)
    try:
        yield
    finally:
        request_id.reset(token)


class _RequestIdFilter(logging.Filter):
    """Gives each record the ``request_id`` of its context."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        return True


_logger.addFilter(_RequestIdFilter())


class Log:
    """The ``log`` object: ``log.info("loaded {} in {:.1f} s", name, seconds)``.

    Messages take arguments by ``str.format`` (a message without arguments is taken as it is); one that
    does not fit its arguments is logged unformatted rather than raised. ``opt(exception=True)`` adds the
    traceback, as ``exception()`` does.
    """

    def __init__(self, exc_info: Any = None) -> None:
        self._exc_info = exc_info

    def opt(self, *, exception: Any = None, **_: Any) -> Log:
        """The same log with a traceback: of the exception given, or of the current one for ``True``."""
        return Log(exception)

    def bind(self, **_: Any) -> Log:
        """The same log; here so that code written against other loggers runs."""
        return self

    def log(self, level: int | str, message: str, *args: Any, **kwargs: Any) -> None:
        number = level if isinstance(level, int) else logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
        self._write(number, message, args, kwargs)

    def trace(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._write(TRACE, message, args, kwargs)

    def debug(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._write(logging.DEBUG, message, args, kwargs)

    def info(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._write(logging.INFO, message, args, kwargs)

    def success(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._write(logging.INFO, message, args, kwargs)

    def warning(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._write(logging.WARNING, message, args, kwargs)

    def error(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._write(logging.ERROR, message, args, kwargs)

    def critical(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._write(logging.CRITICAL, message, args, kwargs)

    def exception(self, message: str, *args: Any, **kwargs: Any) -> None:
        Log(self._exc_info or True)._write(logging.ERROR, message, args, kwargs)

    def _write(self, level: int, message: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not _logger.isEnabledFor(level):
            return
        if args or kwargs:
            try:
                message = str(message).format(*args, **kwargs)
            except Exception:  # a log line must never be what fails
                message = f"{message} {args or ''} {kwargs or ''}"
        exc_info = self._exc_info
        if (error := _exception_of(exc_info)) is not None and not _can_be_shown(error):
            exc_info, message = None, f"{message}: {type(error).__name__}, which cannot be shown"
        # stacklevel 3 names the caller of log.info() and the like, not this module.
        with suppress(Exception):  # of a handler or a filter of somebody else's
            _logger.log(level, "%s", message, exc_info=exc_info, stacklevel=3)


log = Log()


def _exception_of(exc_info: Any) -> BaseException | None:
    if exc_info is True:
        return sys.exc_info()[1]
    return cast("BaseException", exc_info) if issubclass(type(exc_info), BaseException) else None


def _can_be_shown(error: BaseException) -> bool:
    """Whether *error* and what led to it have a text; found out before a handler fails on it."""
    try:
        traceback.format_exception(error)
    except BaseException:
        return False
    return True


def text_of(error: BaseException) -> str:
    """The text of *error*, whatever it does when it is asked."""
    try:
        return str(error)
    except BaseException as failure:
        return f"({type(failure).__name__} when it was asked for its text)"


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]
    """To stderr; a class, so that ours is known among others."""


# What is logged of a traceback: lines, half of them from its end, and characters of each.
_MOST_LINES, _LONGEST_LINE = 200, 1000


class _Formatter(logging.Formatter):
    """One line a record, whatever text it repeats: a client must not be able to write lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        plain = copy(record)
        plain.msg, plain.args = _escaped(record.getMessage()), None
        # Handlers of others may have cached their form of the traceback.
        plain.exc_text = None
        return super().format(plain)

    def formatException(self, ei: Any) -> str:
        # Set in, so that no line of it can be taken for a record; cut, since an error's text may be anything.
        lines = super().formatException(ei).splitlines()
        if len(lines) > _MOST_LINES:
            lines[_MOST_LINES // 2 : -_MOST_LINES // 2] = [f"... {len(lines) - _MOST_LINES} lines ..."]
        return "\n".join(f"    {_escaped(line[:_LONGEST_LINE])}" for line in lines)


def _escaped(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def configure(level: str) -> None:
    """Write this package's log to stderr at *level*; for processes that are ours alone."""
    if _own_handler() is not None:
        return
    handler = _Handler(sys.stderr)
    handler.addFilter(_RequestIdFilter())
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s [%(request_id)s] %(message)s"))
    _logger.addHandler(handler)
    _logger.setLevel(logging.getLevelNamesMapping().get(level.upper(), logging.INFO))
    _logger.propagate = False
    # Lines of JSON are for programs: nothing else may stand in them.
    audit = logging.getLogger("flaskcompat.audit")
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(logging.Formatter("%(message)s"))
    audit.addHandler(lines)
    audit.setLevel(logging.INFO)
    audit.propagate = False


def take_logger(name: str) -> None:
    """Write what the logger *name* logs as our own is written, where :func:`configure` has set it up."""
    handler, logger = _own_handler(), logging.getLogger(name)
    if handler is not None and handler not in logger.handlers:
        logger.addHandler(handler)
        logger.propagate = False


def _own_handler() -> logging.Handler | None:
    return next((handler for handler in _logger.handlers if isinstance(handler, _Handler)), None)
