"""The same application under each server and command that the README names, as processes of their own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from ..support import TIMEOUT, chat_body, eventually

SCRIPTS = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(*command: str, cwd: Path, port: int, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """Run *command* until the block ends; waits until it answers on *port*."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("FLASK", "OPENAI_"))}
    log = cwd / "log.txt"
    with log.open("w") as out:
        started = subprocess.Popen(
            [str(SCRIPTS / command[0]), *command[1:]],
            cwd=cwd,
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
            env=clean | {"HAYSTACK_TELEMETRY_ENABLED": "False"} | environ,
        )
    try:
        assert eventually(lambda: started.poll() is not None or answers(port), 60), log.read_text()
        assert started.poll() is None, log.read_text()
        yield started
    finally:
        started.terminate()
        started.wait(30)


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/v1/models", timeout=TIMEOUT).status_code == 200
    except httpx.TransportError:
        return False


COMMANDS = {
    "flask run": ["flask", "--app", "flaskcompat", "run", "--port", "{port}"],
    "flask serve": ["flask", "--app", "flaskcompat", "serve", "--port", "{port}", "--threads", "8"],
    "flaskcompat serve": ["flaskcompat", "serve", "--port", "{port}"],
    "waitress-serve": ["waitress-serve", "--host", "127.0.0.1", "--port", "{port}", "--threads", "72"]
    + ["--channel-request-lookahead", "1", "--call", "flaskcompat:create_app"],
    "gunicorn": ["gunicorn", "-k", "gthread", "--threads", "8", "-b", "127.0.0.1:{port}", "flaskcompat:create_app()"],
    "gunicorn --preload": ["gunicorn", "--preload", "-k", "gthread", "--threads", "8", "-b", "127.0.0.1:{port}"]
    + ["flaskcompat:create_app()"],
    "gunicorn, worker of ours": ["gunicorn", "-k", "flaskcompat.server.gunicorn.Worker", "-w", "2"]
    + ["-b", "127.0.0.1:{port}", "flaskcompat:create_app()"],
}
ANNOUNCING = ["flask run", "flask serve", "flaskcompat serve"]


def start(name: str, cwd: Path, **environ: str) -> tuple[list[str], int]:
    port = free_port()
    return [part.format(port=port) for part in COMMANDS[name]], port


@pytest.mark.parametrize("name", COMMANDS)
def test_demos_answer_under_every_server(name: str, tmp_path: Path) -> None:
    if name.startswith("gunicorn") and sys.platform == "win32":
        pytest.skip("gunicorn does not run on Windows")
    command, port = start(name, tmp_path)
    url = f"http://127.0.0.1:{port}"
    with process(*command, cwd=tmp_path, port=port), OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
        assert [m.id for m in client.models.list()] == ["demo-agent", "demo-echo", "demo-rag"]
        with client.chat.completions.stream(
            model="demo-rag", messages=[{"role": "user", "content": "Which worker class for gunicorn?"}]
        ) as stream:
            answer = stream.get_final_completion().choices[0].message.content or ""
        assert "gthread" in answer and "Sources: deployment.md" in answer
        with client.responses.stream(model="demo-agent", input="what is (2 + 3) * 4?") as events:
            for _ in events:
                pass
            assert events.get_final_response().output_text == "(2 + 3) * 4 is 20."
        assert client.responses.create(model="demo-echo", input="one\ntwo").output_text == "one\ntwo"
    log = (tmp_path / "log.txt").read_text()
    assert "Traceback" not in log
    if name in ANNOUNCING:
        screen = log.split(f"{url}/v1\n")[1]
        assert re.findall(r"^  (demo-\w+) +chat, responses$", screen, re.M) == ["demo-agent", "demo-echo", "demo-rag"]
        curl = re.search(r"^  (curl .*)$", screen, re.M)
        assert curl is not None and f"{url}/v1/chat/completions" in curl[1]


def test_curl_line_of_the_start_screen_works_as_pasted(tmp_path: Path) -> None:
    command, port = start("flask serve", tmp_path)
    with process(*command, cwd=tmp_path, port=port):
        log = (tmp_path / "log.txt").read_text()
        curl = re.search(r"^  (curl .*)$", log, re.M)
        assert curl is not None
        done = subprocess.run(["sh", "-c", f"{curl[1]} -sS"], capture_output=True, text=True, timeout=TIMEOUT)
        assert '"object":"chat.completion"' in done.stdout, done.stderr


WRAPPER = """
from pathlib import Path
from flaskcompat import BasePipelineWrapper
class PipelineWrapper(BasePipelineWrapper):
    def setup(self):
        with open(Path(__file__).parent / "loaded.txt", "a") as log:
            log.write("x")
        {setup}
    def run_chat_completion(self, model, messages, body):
        import threading
        yield threading.current_thread().name
"""


def write(folder: Path, name: str, setup: str = "pass") -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "pipeline_wrapper.py").write_text(WRAPPER.format(setup=setup))


@pytest.mark.parametrize("name", ["flask run", "flask serve", "waitress-serve", "gunicorn --preload"])
def test_wrappers_load_once_and_a_broken_one_is_reported(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "wrappers"
    write(folder, "good")
    write(folder, "broken", setup="raise ValueError('no such index')")
    command, port = start(name, tmp_path)
    with process(*command, cwd=tmp_path, port=port, FLASKCOMPAT_PIPELINES_DIR=str(folder)):
        listed = httpx.get(f"http://127.0.0.1:{port}/v1/models").json()
        assert [m["id"] for m in listed["data"]] == ["good"]
        assert (folder / "good" / "loaded.txt").read_text() == "x"
    log = (tmp_path / "log.txt").read_text()
    assert "model 'broken' failed to load" in log and "Traceback" in log and "no such index" in log
    if name in ANNOUNCING:
        assert re.search(r"^  broken +FAILED: ValueError: no such index$", log, re.M)


def test_pipelines_folder_beside_the_process_comes_before_the_demos(tmp_path: Path) -> None:
    write(tmp_path / "pipelines", "local")
    command, port = start("flask run", tmp_path)
    with process(*command, cwd=tmp_path, port=port):
        listed = httpx.get(f"http://127.0.0.1:{port}/v1/models").json()
    assert [m["id"] for m in listed["data"]] == ["local"]


@pytest.mark.parametrize("command", [["flaskcompat", "serve"], ["flask", "--app", "flaskcompat", "run"]])
@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({"FLASKCOMPAT_PIPELINES_DIR": "nowhere"}, "the pipelines folder nowhere does not exist"),
        ({"FLASKCOMPAT_PIPELINES_DIR": "wrappers", "FLASKCOMPAT_STRICT": "1"}, "model 'broken' failed to load"),
        ({"FLASKCOMPAT_KEEP_ALIVE": "soon"}, "FLASKCOMPAT_KEEP_ALIVE='soon'"),
    ],
)
def test_start_that_cannot_succeed_fails_and_says_why(
    command: list[str], environ: dict[str, str], reason: str, tmp_path: Path
) -> None:
    write(tmp_path / "wrappers", "broken", setup="raise ValueError('x')")
    done = subprocess.run(
        [str(SCRIPTS / command[0]), *command[1:], "--port", str(free_port())],
        cwd=tmp_path,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0 and reason in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGTERM")
def test_sigterm_ends_the_runner(tmp_path: Path) -> None:
    command, port = start("flask serve", tmp_path)
    with process(*command, cwd=tmp_path, port=port) as started:
        httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=chat_body("demo-agent", text="1+1"))
        started.send_signal(signal.SIGTERM)
        assert started.wait(20) == 0
    assert "stopped" in (tmp_path / "log.txt").read_text()


def test_embedded_application_under_gunicorn(tmp_path: Path) -> None:
    (tmp_path / "legacy.py").write_text(
        textwrap.dedent(
            """
            from flask import Flask
            from flaskcompat import BasePipelineWrapper, FlaskCompat

            class Echo(BasePipelineWrapper):
                def run_chat_completion(self, model, messages, body):
                    return "hello"

            app = Flask(__name__)
            FlaskCompat(app).registry.add("echo", Echo)
            """
        )
    )
    port = free_port()
    command = ["gunicorn", "-k", "gthread", "--threads", "4", "-b", f"127.0.0.1:{port}", "legacy:app"]
    with process(*command, cwd=tmp_path, port=port):
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        for stream in (False, True):
            assert "hello" in httpx.post(url, json=chat_body("echo", stream=stream)).text


def test_start_screen_is_shown_once_under_the_reloader(tmp_path: Path) -> None:
    port = free_port()
    with process("flask", "--app", "flaskcompat", "run", "--debug", "--port", str(port), cwd=tmp_path, port=port):
        pass
    assert (tmp_path / "log.txt").read_text().count(f"at http://127.0.0.1:{port}/v1\n") == 1
