"""A wrapper that is edited while it is being served."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from ..support import TIMEOUT, chat_body, eventually
from .test_servers import free_port

WRAPPER = """
import os
from flaskcompat import BasePipelineWrapper
class PipelineWrapper(BasePipelineWrapper):
    def run_chat_completion(self, model, messages, body):
        return f"{os.getpid()} ANSWER"
"""
# In a way in which wrappers' modules name their files otherwise than the folder's own path does.
HOST = """
from flask import Flask
from flaskcompat import FlaskCompat
app = Flask(__name__)
FlaskCompat(app, pipelines="link/pipelines/../pipelines")
app.add_url_rule("/healthz", view_func=lambda: "ok")
"""
COMMANDS = {
    "serve": ["flaskcompat", "serve", "--reload"],
    "run": ["flask", "--app", "flaskcompat", "run", "--debug"],
    "embedded": ["flask", "--app", "host", "run", "--debug"],
}


@contextmanager
def served(command: list[str], folder: Path) -> Iterator[tuple[str, Path]]:
    """The base URL of what *command* serves, and its log."""
    url, log = f"http://127.0.0.1:{(port := free_port())}", folder / "log.txt"
    program = str(Path(sys.executable).parent / command[0])
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("FLASK", "OPENAI_"))}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [program, *command[1:], "--port", str(port)],
            cwd=folder,
            env=environ | {"HAYSTACK_TELEMETRY_ENABLED": "False"},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        assert eventually(lambda: answers(f"{url}/healthz"), 60), log.read_text()
        yield url, log
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(TIMEOUT)
        finally:
            os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=TIMEOUT).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.skipif(sys.platform == "win32", reason="signals of process groups")
@pytest.mark.parametrize("name", COMMANDS)
def test_edited_wrapper_is_served_by_the_same_process(name: str, tmp_path: Path) -> None:
    wrapper = tmp_path / "pipelines" / "m" / "pipeline_wrapper.py"
    wrapper.parent.mkdir(parents=True)
    wrapper.write_text(WRAPPER.replace("ANSWER", "one"))
    (tmp_path / "host.py").write_text(HOST)
    (tmp_path / "link").symlink_to(tmp_path)
    with served(COMMANDS[name], tmp_path) as (url, log):

        def said() -> list[str]:
            answer = httpx.post(f"{url}/v1/chat/completions", json=chat_body(), timeout=TIMEOUT)
            return str(answer.json()["choices"][0]["message"]["content"]).split()

        pid, text = said()
        assert text == "one"
        wrapper.write_text(WRAPPER.replace("ANSWER", "two"))
        assert eventually(lambda: said()[1] == "two"), log.read_text()
        wrapper.write_text(WRAPPER.replace("return", "retrun"))
        assert eventually(lambda: "served as it was before" in log.read_text())
        wrapper.with_name("more.txt").write_text("a new file")
        assert eventually(lambda: log.read_text().count("served as it was before") == 2)
        assert said() == [pid, "two"], log.read_text()
