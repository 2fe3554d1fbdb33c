"""Why something failed: what is logged while a model is asked, and where in a wrapper's source it came from."""

from __future__ import annotations

import logging
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from flaskcompat.blueprints import failures
from flaskcompat.checking.network import NoNetwork
from flaskcompat.errors import WrapperContractError
from flaskcompat.log import text_of

T = TypeVar("T")

_LONGEST = 300
_THREAD = "flaskcompat-check"
_TELLS = failures.failure.__code__.co_filename
_IN_STACK = re.compile(r'File "([^"]+)", line (\d+)')


class TookTooLong(Exception):
    """What was waited for did not come in time."""


class Raised(Exception):
    """What was waited for raised *error*, of whatever kind; an interrupt of the one who waits is told apart so."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


def within(seconds: float | None, work: Callable[[], T]) -> T:
    """What *work* gives, on a thread of its own, which is left behind where that takes longer, or who waits is
    interrupted.

    :param seconds: None: no end of it.
    :raises TookTooLong: then.
    :raises Raised: for whatever *work* raises.
    """
    given: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            given.append(work())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name=_THREAD, daemon=True)
    thread.start()
    thread.join(seconds)
    if raised:
        raise Raised(raised[0]) from raised[0]
    if not given:
        raise TookTooLong
    return given[0]


class Heard(logging.Handler):
    """What the package logged, kept rather than written."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def error(self) -> BaseException | None:
        """The exception that a client was told of last; those that a wrapper logs by itself are none."""
        told = [record.exc_info[1] for record in self.records if record.exc_info and record.pathname == _TELLS]
        return told[-1] if told else None

    @property
    def blocked(self) -> str | None:
        """Where the event loop was blocked, as a stack."""
        messages = (record.getMessage() for record in self.records)
        return next((message for message in messages if "blocks the event loop" in message), None)


@contextmanager
def hearing() -> Iterator[Heard]:
    """Keep what the package logs, rather than write it: the findings say it in a line."""
    logger, heard = logging.getLogger("flaskcompat"), Heard()
    before = logger.handlers, logger.propagate, logger.level
    logger.handlers, logger.propagate = [heard], False
    logger.setLevel(logging.WARNING)
    try:
        yield heard
    finally:
        logger.handlers, logger.propagate = before[:2]
        logger.setLevel(before[2])


@dataclass(frozen=True, slots=True)
class Source:
    """The files of a model.

    :param root: the folder that paths are shown from; what is outside of it is not the author's.
    :param own: the folder of this model, in it.
    """

    root: Path
    own: Path

    def show(self, filename: str, line: int) -> str | None:
        """``file:line``; None for a file that is not the author's."""
        path = Path(filename)
        if not path.is_relative_to(self.root) or "site-packages" in path.parts:
            return None
        return f"{path.relative_to(self.root)}:{line}"


def why(error: BaseException, source: Source | None) -> str:
    """*error* in a line: its type, its text, and where in the author's files it came from."""
    if isinstance(error, WrapperContractError):
        return f"gives what is no answer: {error}"
    at = f" ({found})" if (found := _place(error, source)) else ""
    for cause in _causes(error):
        if isinstance(cause, NoNetwork):
            return f"wants the network ({cause}), which is refused without --real{at}"
    text = " ".join(text_of(error).split())
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}..."
    return f"{type(error).__name__}{': ' if text else ''}{text}{at}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: list[int] = []
    while error is not None and id(error) not in seen:
        seen.append(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _place(error: BaseException, source: Source | None) -> str | None:
    if source is None:
        return None
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return source.show(error.filename, error.lineno)
    for cause in _causes(error):
        frames = traceback.extract_tb(cause.__traceback__)
        if found := [shown for f in frames if (shown := source.show(f.filename, f.lineno or 0))]:
            return found[-1]
    return None


def place_in(stack: str, source: Source | None) -> str | None:
    """``file:line`` of the innermost frame in the author's files, of a *stack* as text."""
    if source is None:
        return None
    found = [shown for name, line in _IN_STACK.findall(stack) if (shown := source.show(name, int(line)))]
    return found[-1] if found else None


def standing_at(source: Source | None) -> str | None:
    """``file:line`` in the model's own files where it stands at this moment; threads that it started do not count."""
    if source is None:
        return None
    frames = sys._current_frames()
    for thread in threading.enumerate():
        if not thread.name.startswith("flaskcompat-") or thread.ident not in frames:
            continue
        for frame, line in traceback.walk_stack(frames[thread.ident]):
            name = frame.f_code.co_filename
            if Path(name).is_relative_to(source.own) and (shown := source.show(name, line)):
                return shown
    return None
