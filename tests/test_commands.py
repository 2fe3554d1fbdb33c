"""``flask flaskcompat ...``."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import click
import pytest
from click.testing import Result
from flask import Blueprint, Flask
from haystack.dataclasses import ReasoningContent, StreamingChunk, ToolCallDelta

from flaskcompat import FlaskCompat
from flaskcompat.cli import start_screen

from .support import TIMEOUT, Raise, make_app, scripted

THOUGHT = StreamingChunk("", index=0, reasoning=ReasoningContent("hm "))
CALL = StreamingChunk("", index=1, tool_calls=[ToolCallDelta(1, "look", '{"a": 1}', id="c")], start=True)


def run(app: Flask, *arguments: str) -> Result:
    return app.test_cli_runner().invoke(args=["flaskcompat", *arguments])


def test_models() -> None:
    app = make_app(beta=scripted(["x"]), a=scripted(["x"]))
    done = run(app, "models")
    assert (done.exit_code, done.output) == (0, "a     chat, responses\nbeta  chat, responses\n")
    app.extensions["flaskcompat"].registry.failed["broken"] = "ValueError: no"
    done = run(app, "models")
    assert done.exit_code == 1 and "broken  FAILED: ValueError: no" in done.output


@pytest.mark.parametrize("more", [[], ["--stream"], ["--responses"], ["--stream", "--responses"]])
def test_call(more: list[str]) -> None:
    app = make_app(m=scripted([THOUGHT, "some ", "words"]))
    done = run(app, "call", "m", "hi", *more)
    assert (done.exit_code, done.output) == (0, "hm some words\n")


@pytest.mark.parametrize("more", [[], ["--stream"], ["--responses"], ["--stream", "--responses"]])
def test_refusal_is_printed(more: list[str]) -> None:
    delta = {"choices": [{"index": 0, "delta": {"refusal": "I won't."}, "finish_reason": None}]}
    app = make_app(m=scripted([{"object": "chat.completion.chunk", **delta}]))
    done = run(app, "call", "m", "hi", *more)
    assert (done.exit_code, done.output) == (0, "I won't.\n")


def test_call_on_another_thread() -> None:
    app = make_app(m=scripted(["words"]))
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(run, app, "call", "m", "hi", "--stream").result(TIMEOUT)
    assert (done.exit_code, done.output) == (0, "words\n")


@pytest.mark.parametrize("more", [["--stream"], ["--stream", "--responses"]])
def test_reasoning_is_dimmed_and_a_failure_is_an_error(more: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []
    monkeypatch.setattr(click, "echo", lambda text="", nl=True, **_: said.append(text))
    app = make_app(m=scripted([THOUGHT, "words", Raise(ValueError("secret"))]))
    done = run(app, "call", "m", "hi", *more)
    assert click.style("hm ", dim=True) in said and "words" in said
    assert done.exit_code == 1 and "secret" not in str(said)


def test_unknown_model_and_keys() -> None:
    app = Flask("host")
    app.config["FLASKCOMPAT_API_KEYS"] = "sesame"
    FlaskCompat(app, url_prefix="/ai").registry.add("m", scripted(["hi"]))
    refused = run(app, "call", "m", "hi")
    assert refused.exit_code == 1 and "key" in refused.output
    assert run(app, "call", "m", "hi", "--key", "sesame").output == "hi\n"
    unknown = run(app, "call", "none", "hi", "--key", "sesame")
    assert unknown.exit_code == 1 and "'none' does not exist" in unknown.output


# -- in a process of its own, as in a shell ----------------------------------------------------------------

WRAPPER = """
    import asyncio, time
    from pathlib import Path
    from flaskcompat import BasePipelineWrapper

    HERE = Path(__file__).parent

    class PipelineWrapper(BasePipelineWrapper):
        {method}
            try:
                {body}
            finally:
                (HERE / "closed").touch()
"""
SYNC = "def run_chat_completion(self, model, messages, body):"
ASYNC = "async def run_chat_completion_async(self, model, messages, body):"

# Makes its standard input the terminal whose keys send signals, and goes on with the interpreter's arguments.
ON_ITS_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts ``call`` for a wrapper with this method; its standard output is a pipe, unless it is said otherwise."""
    processes = []

    def start(
        method: str, body: str, *options: str, through: Sequence[str] = (), **streams: Any
    ) -> subprocess.Popen[bytes]:
        (tmp_path / "m").mkdir()
        text = dedent(WRAPPER).format(method=method, body=body)
        (tmp_path / "m" / "pipeline_wrapper.py").write_text(text, encoding="utf-8")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("FLASK")}
        process = subprocess.Popen(
            [sys.executable, *through, "-m", "flaskcompat", "flaskcompat", "call", "m", "hi", *options],
            env=clean | {"FLASKCOMPAT_PIPELINES_DIR": str(tmp_path), "HAYSTACK_TELEMETRY_ENABLED": "False"},
            cwd=tmp_path,
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        with process:
            process.kill()


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal: for the test, and for the process."""
    ours, theirs = pty.openpty()
    try:
        yield ours, theirs
    finally:
        os.close(ours)
        os.close(theirs)


def read_until(fd: int, what: bytes) -> bytes:
    """What comes from *fd*, until it has *what* in it."""
    found = b""
    while what not in found:
        assert select.select([fd], [], [], 3 * TIMEOUT)[0], found
        piece = os.read(fd, 1000)
        assert piece, found
        found += piece
    return found


def test_words_are_printed_while_the_wrapper_makes_the_next(start: Start, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "more")
    process = start(SYNC, 'yield "first "; yield (HERE.parent / "more").read_text()', "--stream")
    assert process.stdout is not None and read_until(process.stdout.fileno(), b" ") == b"first "
    (tmp_path / "more").write_text("second")
    assert process.communicate(timeout=TIMEOUT) == (b"second\n", b"") and process.returncode == 0


@pytest.mark.parametrize(
    ("method", "body", "options"),
    [
        (SYNC, "while True: yield 'word '; time.sleep(0.01)", ["--stream"]),
        (ASYNC, "yield 'word '; await asyncio.Event().wait()", ["--stream"]),
        (ASYNC, "print('word ', flush=True); await asyncio.Event().wait()", []),
    ],
)  # fmt: skip
def test_interrupt_ends_the_run(method: str, body: str, options: list[str], start: Start, tmp_path: Path) -> None:
    process = start(method, body, *options)
    assert process.stdout is not None
    read_until(process.stdout.fileno(), b"word ")
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, told) == (130, b"") and (tmp_path / "m" / "closed").exists()


def test_interrupt_from_a_terminal(start: Start, tmp_path: Path) -> None:
    with terminal() as (ours, theirs):
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
        process = start(
            SYNC, "while True: yield 'word '; time.sleep(0.01)", "--stream", through=["-c", ON_ITS_TERMINAL],
            start_new_session=True, **streams,
        )  # fmt: skip
        read_until(ours, b"word ")
        os.write(ours, b"\x03")
        assert process.wait(TIMEOUT) == 130 and (tmp_path / "m" / "closed").exists()


def test_wrapper_that_blocks_does_not_hold_the_process(start: Start, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never")
    process = start(SYNC, 'yield "first "; (HERE.parent / "never").read_text()', "--stream")
    assert process.stdout is not None
    read_until(process.stdout.fileno(), b"first ")
    process.send_signal(signal.SIGINT)
    read_until(process.stdout.fileno(), b"\n")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=TIMEOUT) == (b"", b"") and process.returncode == 130


def test_seconds_are_counted_on_a_terminal_until_the_answer_is_there(start: Start, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "more")
    with terminal() as (ours, theirs):
        process = start(SYNC, 'return (HERE.parent / "more").read_text()', stderr=theirs)
        assert read_until(ours, b"1 s").startswith(b"\r1 s")
        (tmp_path / "more").write_text("answer")
        assert read_until(ours, b" \r").endswith(b"\r   \r")
        assert process.communicate(timeout=TIMEOUT)[0] == b"answer\n"


def test_call_where_the_api_cannot_be_asked() -> None:
    for prefix, registered in (("/<tenant>", True), ("/x", False)):
        app = Flask("host")
        parent = Blueprint("parent", __name__, url_prefix=prefix)
        FlaskCompat(app, parent=parent).registry.add("m", scripted(["hi"]))
        if registered:
            app.register_blueprint(parent)
        done = run(app, "call", "m", "hi")
        assert done.exit_code == 1 and "below a blueprint" in done.output and "Traceback" not in done.output
    app = make_app(m=scripted(["hi"]))
    app.before_request(lambda: ("<p>Log in first</p>", 403))
    done = run(app, "call", "m", "hi")
    assert done.exit_code == 1 and "answers 403" in done.output


def test_call_asks_the_api_that_has_the_model() -> None:
    app = Flask("host")
    FlaskCompat(app, url_prefix="/one", name="one").registry.add("a", scripted(["of one"]))
    FlaskCompat(app, url_prefix="/two", name="two").registry.add("b", scripted(["of two"]))
    assert run(app, "call", "b", "hi").output == "of two\n"
    assert run(app, "models").output == "a  chat, responses\nb  chat, responses\n"
    shown = start_screen(app, "127.0.0.1", 5000)
    assert "  a  chat, responses\n  b  chat" in shown
