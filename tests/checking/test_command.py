"""The command: what it prints, how it ends, and what it does without OpenAI's SDK."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from flask import Flask

from flaskcompat import FlaskCompat
from flaskcompat.commands.check import standalone_check_command

from ..support import eventually, make_app, returning
from .folders import gate, method, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "good", method("return 'x'"))
    write(tmp_path, "late", method("yield 'x'\nif body.get('stream'):\n    raise ValueError('midway')"))
    write(tmp_path, "unread", "import no_such_module_at_all\n")
    return tmp_path


def check(*args: str | Path, app: Flask | None = None) -> Result:
    given = [str(arg) for arg in args]
    if app is not None:
        return app.test_cli_runner().invoke(args=["flaskcompat", "check", *given])
    return CliRunner().invoke(standalone_check_command, given)


def test_scorecard(folder: Path) -> None:
    result = check(folder)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "model   load  chat  chat stream  responses  responses stream  files",
        "good    ok    ok    ok           -          -                 -",
        "late    ok    ok    FAIL         -          -                 -",
        "unread  FAIL  -     -            -          -                 -",
        "",
        "late",
        "  FAIL  chat stream: breaks off: ValueError: midway (late/pipeline_wrapper.py:15)",
        "",
        "unread",
        "  FAIL  load: ModuleNotFoundError: No module named 'no_such_module_at_all' (unread/pipeline_wrapper.py:1)",
        "",
        "3 models, 2 failed, 0 warnings; asked scripted models, no network; OpenAI's types: checked",
    ]
    assert result.stderr == ""


def test_status_tells_whether_all_is_well(folder: Path) -> None:
    assert check(folder, "--model", "good").exit_code == 0
    assert check(folder, "--model", "good", "--model", "late").exit_code == 1


@pytest.mark.parametrize(
    "args",
    [
        ("no-such-folder",),
        (".", "--model", "other"),
        (".", "--timeout", "0"),
        (".", "--real", "--reply", "x"),
        ("empty",),
        (),
    ],
    ids=" ".join,
)
def test_misuse_is_status_2(folder: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]) -> None:
    (folder / "empty").mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("FLASKCOMPAT_PIPELINES_DIR", raising=False)
    result = check(*args)
    assert result.exit_code == 2 and result.stdout == "" and "Error: " in result.stderr


def test_folder_of_one_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "shared.py").write_text("TEXT = 'x'\n")
    write(folder, "good", f"from shared import TEXT\n{method('return TEXT')}")
    result = check(folder / "good")
    assert result.exit_code == 0 and "\ngood   ok    ok    ok  " in result.stdout and "\n1 model, " in result.stdout
    assert check(folder / "good", app=make_app(served=returning("x"))).stdout == result.stdout
    monkeypatch.chdir(folder / "late")
    result = check(".")
    assert result.exit_code == 1 and "late/pipeline_wrapper.py:15" in result.stdout and "good" not in result.stdout
    (folder / "alone").mkdir()
    (folder / "alone" / "pipeline.yml").write_text("components: {}\n")
    assert "\n1 model, 1 failed" in check(folder / "alone").stdout


def test_misspelt_method_is_a_warning(folder: Path) -> None:
    more = "    def run_responses(self, model, input_items, body):\n        return 'x'\n"
    write(folder, "good", method("return 'x'") + more)
    result = check(folder / "good")
    found = re.findall(r"warning  load: (.*) \(good/pipeline_wrapper.py:\d+\)\n", result.stdout)
    assert result.exit_code == 0 and found == ["run_responses is not called: did you mean run_response?"]


def test_folder_of_the_environment_else_pipelines(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    write(folder / "pipelines", "local", method("return 'x'"))
    assert "\nlocal  ok" in check().stdout
    monkeypatch.setenv("FLASKCOMPAT_PIPELINES_DIR", str(folder))
    assert "\ngood " in check().stdout


def test_command_of_an_application_checks_what_it_serves_and_could_not_load(folder: Path) -> None:
    app = Flask("host")
    app.config["FLASKCOMPAT_PIPELINES_DIR"] = str(folder)
    FlaskCompat(app).registry.add("served", returning("x"))
    found = check(app=app).stdout
    for model in ("good    ok", "served  ok", "late    ok    ok    FAIL", "unread  FAIL"):
        assert f"\n{model}" in found
    assert "midway (late/pipeline_wrapper.py:15)" in found
    other = folder / "other"
    write(other, "another", method("return 'x'"))
    assert "\nanother  ok" in check(other, app=app).stdout


def test_application_that_has_the_api_more_than_once() -> None:
    app = make_app(first=returning("x"))
    FlaskCompat(app, url_prefix="/two", name="two").registry.add("second", returning(""))
    result = check(app=app)
    assert result.exit_code == 1
    assert "\nfirst   ok    ok    ok " in result.stdout and "\nsecond  ok    FAIL  FAIL " in result.stdout


def test_results_as_json_hold_nothing_that_a_wrapper_prints(folder: Path) -> None:
    write(folder, "good", method("print('aside')\nreturn 'x'"))
    result = check(folder, "--json")
    assert "aside" in result.stderr
    found = json.loads(result.stdout)
    assert (found["ok"], found["real"], found["types_checked"]) == (False, False, True)
    late = next(model for model in found["models"] if model["model"] == "late")
    assert late["columns"] | {"files": "-"} == late["columns"] and late["columns"]["chat stream"] == "FAIL"
    [finding] = late["findings"]
    assert finding["column"] == "chat stream" and finding["fails"] and "midway" in finding["text"]


def interrupting(folder: Path, body: str) -> int:
    """The status of a check that a user interrupts while a wrapper is at *body*, where *it()* sends the signal."""
    interrupt = """
import signal, threading
from tests.checking.folders import gate

def it():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    gate.wait()
"""
    gate.clear()
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell has its jobs in the background ignore it
    try:
        write(folder, "good", f"{interrupt}{body}")
        return check(folder, "--model", "good").exit_code
    finally:
        signal.signal(signal.SIGINT, before)
        gate.set()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals to a thread")
@pytest.mark.parametrize(
    "body",
    [method("it()"), method("yield 'a'\nit()"), method("return 'x'") + "\n    def setup(self):\n        it()\n"],
    ids=["asked", "streamed", "loaded"],
)
def test_interrupt_ends_it(folder: Path, body: str) -> None:
    assert interrupting(folder, body) == 130
    assert eventually(lambda: not [t for t in threading.enumerate() if t.name == "flaskcompat-check"])


def run(*args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "HAYSTACK_TELEMETRY_ENABLED": "False", **environ}
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, timeout=120, env=env)


def test_console_command_loads_no_application(folder: Path) -> None:
    done = run("-m", "flaskcompat", "check", str(folder), FLASKCOMPAT_STRICT="1", FLASKCOMPAT_PIPELINES_DIR=str(folder))
    assert done.returncode == 1 and "3 models, 2 failed" in done.stdout and done.stderr == ""


def test_hang_does_not_keep_the_process_and_any_encoding_can_show_it(folder: Path) -> None:
    body = "await asyncio.to_thread(threading.Event().wait)"
    write(folder / "one", "\u65e5", f"import threading\n{method(body, 'run_chat_completion_async', 'async def')}")
    given = ("-m", "flaskcompat", "check", str(folder / "one"), "--timeout", "3")
    done = run(*given, PYTHONIOENCODING="cp1252")
    assert done.returncode == 1 and "\\u65e5" in done.stdout and "hangs: no end after 3 s" in done.stdout


def test_stdout_is_the_json_alone(folder: Path) -> None:
    body = """
subprocess.run([sys.executable, "-c", "print('of a child')"])
os.write(1, b"raw")
logging.getLogger("own").warning("logged")
raise ValueError("\\u65e5\\ud800")
"""
    head = "import logging, os, subprocess, sys\n\nlogging.basicConfig(stream=sys.__stdout__, level=logging.WARNING)\n"
    write(folder, "good", f"{head}{method(body)}")
    done = run("-m", "flaskcompat", "check", str(folder), "--model", "good", "--json")
    [model] = json.loads(done.stdout)["models"]
    assert "ValueError: \u65e5\\ud800" in model["findings"][0]["text"]
    assert all(text in done.stderr for text in ("of a child", "raw", "logged"))


def test_without_openai_the_types_are_not_checked(folder: Path) -> None:
    source = "from flaskcompat import BasePipelineWrapper as Base\n\n\nclass PipelineWrapper(Base):\n"
    write(folder, "plain", f"{source}    def run_response(self, *args):\n        return 'x'\n")
    code = f"""
import sys
sys.modules["openai"] = None
from flaskcompat import FlaskCompat
from flaskcompat.commands.check import standalone_check_command
standalone_check_command([{str(folder)!r}, "--model", "plain"])
"""
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    assert "OpenAI's types: not checked: pip install openai" in done.stdout
