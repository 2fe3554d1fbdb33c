from __future__ import annotations

import logging
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from flaskcompat import BasePipelineWrapper, log
from flaskcompat import log as public_log
from flaskcompat.log import _LONGEST_LINE, _MOST_LINES, TRACE, _Formatter, configure, request_id

from .support import chat_body, make_app, post

LEVELS = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "success": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}


@pytest.mark.parametrize("level", LEVELS)
def test_braces_are_filled_in_at_every_level(level: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(1, "flaskcompat"):
        getattr(log, level)("{} and {name:>3} {!r}", 1, "x", name="a")
    [record] = caplog.records
    assert (record.getMessage(), record.levelno) == ("1 and   a 'x'", LEVELS[level])
    assert record.filename == "test_log.py"


@pytest.mark.parametrize(
    ("message", "args", "said"),
    [
        ("plain {} %s", (), "plain {} %s"),
        ("{} {}", (1,), "{} {} (1,) "),
        ("{broken", (1,), "{broken (1,) "),
        ("%s", (1,), "%s"),
        (3, (1,), "3"),
    ],
)
def test_message_that_does_not_fit_is_logged_all_the_same(message: Any, args: Any, said: str, caplog: Any) -> None:
    log.warning(message, *args)
    assert caplog.records[0].getMessage() == said


def test_disabled_level_formats_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Rude:
        def __format__(self, spec: str) -> str:
            raise AssertionError

    with caplog.at_level(logging.INFO, "flaskcompat"):
        log.trace("{}", Rude())
    assert caplog.records == []


def test_tracebacks(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ValueError("boom")
    except ValueError as error:
        log.exception("a")
        log.opt(exception=True).error("b")
        log.opt(exception=error).bind(x=1).log("warning", "c")
        log.bind(x=1).log(logging.ERROR, "d")
    assert [r.exc_info is not None and r.exc_info[1] is not None for r in caplog.records] == [True, True, True, False]
    assert [r.levelname for r in caplog.records] == ["ERROR", "ERROR", "WARNING", "ERROR"]


def test_request_id_is_in_every_record(caplog: pytest.LogCaptureFixture) -> None:
    token = request_id.set("req_1")
    with caplog.at_level(logging.INFO, "flaskcompat"):
        log.info("inside")
        request_id.reset(token)
        log.info("outside")
    assert [getattr(r, "request_id", None) for r in caplog.records] == ["req_1", "-"]


def test_configure_writes_once_to_stderr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("flaskcompat")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    configure("warning")
    configure("debug")
    assert len(logger.handlers) == 1 and logger.level == logging.WARNING
    public_log.warning("heard")
    public_log.info("not heard")
    assert re.fullmatch(r"\S+ \S+ WARNING \[-\] heard\n", capsys.readouterr().err)


def test_no_text_can_write_a_line_of_its_own() -> None:
    code = r"""
import logging
from flaskcompat.log import configure, log, take_logger
configure("INFO")
take_logger("waitress")
forged = "x\n2026-01-01 00:00:00,000 INFO [req_1] forged\r\x1b[31m\u2028"
log.info("{}", forged)
logging.getLogger("waitress").error("%s", forged)
try:
    raise ValueError(forged)
except ValueError as error:
    log.opt(exception=error).error("failed")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    first, second, *rest = done.stderr.splitlines()
    assert r"x\n2026-01-01" in first and r"\r\x1b[31m\u2028" in first and first.endswith(r"\u2028")
    assert r"x\n2026-01-01" in second
    assert rest[0].endswith("ERROR [-] failed") and all(line.startswith("    ") for line in rest[1:])
    assert "\x1b" not in done.stderr


def test_traceback_is_bounded_whatever_its_error_says() -> None:
    record = logging.LogRecord("x", logging.ERROR, "f.py", 1, "failed", None, None)
    for text in ("x" * 1_000_000, "line\n" * 100_000):
        try:
            raise ValueError(text)
        except ValueError as error:
            record.exc_info = (ValueError, error, error.__traceback__)
        lines = _Formatter("%(message)s").format(record).splitlines()
        assert len(lines) <= _MOST_LINES + 2 and max(map(len, lines)) <= _LONGEST_LINE + 4
        assert lines[0] == "failed" and all(line.startswith("    ") for line in lines[1:])


def test_time_limit_is_logged_under_the_request_s_id(caplog: pytest.LogCaptureFixture) -> None:
    class Slow(BasePipelineWrapper):
        def run_chat_completion(self, model: str, messages: Any, body: Any) -> Iterator[str]:
            time.sleep(1)
            yield "late"

    app = make_app(m=Slow())
    app.config["FLASKCOMPAT_CHUNK_TIMEOUT"] = 0.1
    for stream in (True, False):
        caplog.clear()
        answer = post(app, "/v1/chat/completions", chat_body(stream=stream))
        assert answer.status_code == 504
        [record] = [r for r in caplog.records if "is over its time limit" in r.getMessage()]
        assert vars(record)["request_id"] == answer.headers["x-request-id"]
