"""What the README shows runs as it is pasted, and its tables say what the code says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask import Flask
from openai import OpenAI

import flaskcompat
from flaskcompat import FlaskCompat
from flaskcompat.blueprints import files, multipart
from flaskcompat.blueprints.requests import MAX_DEPTH
from flaskcompat.blueprints.servers import DETACHED_ANSWERS
from flaskcompat.cli import keep_below
from flaskcompat.config import SETTINGS
from flaskcompat.errors import ECHO_LIMIT, LOG_LIMIT
from flaskcompat.log import _LONGEST_LINE, _MOST_LINES
from flaskcompat.protocol.machine import MOST_TEXT
from flaskcompat.protocol.tool_calls import MOST_CALLS
from flaskcompat.runtime.admission import PATIENCE
from flaskcompat.runtime.bridge import BLOCKED_AFTER
from flaskcompat.runtime.keys import Principal, read_keys
from flaskcompat.runtime.watch import STALL_WHILE_OTHERS_WAIT
from flaskcompat.runtime.wrapper import METHODS
from flaskcompat.server import DEFAULT_HOST, DEFAULT_PORT, DEFAULT_THREADS, SPARE_CONNECTIONS, options
from flaskcompat.server.lanes import MOST_WAITING
from flaskcompat.server.runner import HEAD_TIMEOUT

from .live.test_servers import free_port
from .support import chat_body, eventually, post, serving

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def rows(head: str) -> list[list[str]]:
    table = README.split(head)[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()[1:]]


def test_settings_table_is_the_code_s() -> None:
    shown = [(name.strip("`"), default.strip("`"), about) for name, default, about in rows("| setting | default | |\n")]
    assert shown == [(s.name, "" if s.default is None else str(s.default), s.about) for s in SETTINGS]


def test_limits_table_is_the_code_s() -> None:
    app = Flask("x")
    FlaskCompat(app)
    waitress = options(app, 64)
    head = waitress["max_request_header_size"]
    assert waitress["connection_limit"] == DETACHED_ANSWERS + SPARE_CONNECTIONS
    assert f"Up to {DETACHED_ANSWERS} answers are made at once" in README
    assert rows("| limit | value |\n") == [
        [name, value]
        for name, value in {
            "depth of a JSON body": f"{MAX_DEPTH} levels",
            "parts of an upload": str(multipart.MAX_PARTS),
            "a text field of an upload, the headers of a part": (
                f"{multipart.MAX_FIELD_BYTES}, {multipart.MAX_PART_HEAD_BYTES} bytes"
            ),
            "a file's name": f"{files.NAME_LIMIT} characters",
            "the head of a request (`serve`)": f"{head} bytes, {HEAD_TIMEOUT:.0f} seconds",
            "connections (`serve`)": f"{SPARE_CONNECTIONS} more than answers, or threads",
            "an idle connection (`serve`)": f"{waitress['channel_timeout']} seconds",
            "requests waiting for a place (`serve`)": f"{MOST_WAITING} times the threads for answers",
            "waiting for a place": f"{PATIENCE:.0f} seconds",
            "a client that reads nothing while others wait": f"{STALL_WHILE_OTHERS_WAIT:.0f} seconds",
            "a blocked event loop, until others get a fresh one": f"{BLOCKED_AFTER} seconds",
            "text of an answer that is kept whole": f"{MOST_TEXT} characters",
            "tool calls of an answer that are open at once": str(MOST_CALLS),
            "a client's text repeated in an error, in a log line": f"{ECHO_LIMIT}, {LOG_LIMIT} characters",
        }.items()
    ]


def test_traceback_s_bounds_are_the_code_s() -> None:
    assert f"up to {_MOST_LINES} lines of {_LONGEST_LINE} characters" in README


def test_every_public_name_is_explained() -> None:
    for name in flaskcompat.__all__:
        assert name.startswith("__") or name in README, name
    for method in METHODS:
        assert method.removesuffix("_async") in README


def test_serve_command_shows_the_defaults() -> None:
    assert f"serve --host {DEFAULT_HOST} --port {DEFAULT_PORT} --threads {DEFAULT_THREADS}" in README


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    wrapper = blocks("python")[0]
    (tmp_path / "shout").mkdir()
    (tmp_path / "shout" / "pipeline_wrapper.py").write_text(wrapper)
    app = Flask("host")
    FlaskCompat(app, pipelines=tmp_path)
    return app


def test_wrapper_and_client_run_as_pasted(app: Flask, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client_code = blocks("python")[1]
    assert "http://localhost:1416/v1" in client_code
    made: list[OpenAI] = []
    with serving(app) as url:
        code = client_code.replace("http://localhost:1416", url)
        names: dict[str, Any] = {}
        exec(compile(code, "README.md", "exec"), names)
        made.append(names["client"])
        made[0].close()
    assert capsys.readouterr().out == "GOOD MORNING "
    answer = post(app, "/v1/chat/completions", chat_body("shout", text="hello there")).json
    assert answer["choices"][0]["message"]["content"] == "HELLO THERE "


def test_state_is_kept_as_pasted(app: Flask, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.txt").write_text("all is well")
    keep_below(app, tmp_path / "state")
    with serving(app) as url, OpenAI(base_url=f"{url}/v1", api_key="x") as client:
        exec(compile(blocks("python")[2], "README.md", "exec"), {"client": client})
        exec(compile(blocks("python")[3], "README.md", "exec"), {"client": client})
    app.extensions["flaskcompat"].stores.close()
    assert capsys.readouterr().out == "all is well AND AGAIN \nA LONG STORY "
    assert "flaskcompat serve --data state" in README


def test_embedding_runs_as_pasted(app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pipelines").mkdir()
    monkeypatch.chdir(tmp_path)
    host = Flask("host")
    wrapper = type(app.extensions["flaskcompat"].registry["shout"].wrapper)
    exec(compile(blocks("python")[4], "README.md", "exec"), {"app": host, "ShoutWrapper": wrapper})
    listed = host.test_client().get("/ai/v1/models").json
    assert [model["id"] for model in listed["data"]] == ["shout"]


@pytest.mark.skipif(sys.platform == "win32", reason="gunicorn does not run on Windows")
def test_ten_minutes_are_as_pasted(tmp_path: Path) -> None:
    path = README.split("### Ten minutes to a service")[1].split("## Run it")[0]
    [app] = re.findall(r"```python\n(.*?)```", path, re.S)
    server, client = re.findall(r"```sh\n(.*?)```", path, re.S)
    (tmp_path / "shop.py").write_text(app)
    (tmp_path / "pipelines" / "shout").mkdir(parents=True)
    (tmp_path / "pipelines" / "shout" / "pipeline_wrapper.py").write_text(blocks("python")[0])
    # The environment of the tests stands for the new one.
    installed, commands = re.split(r"^pip install .*\n", server, flags=re.M)
    assert installed.splitlines() == ["python3 -m venv venv", ". venv/bin/activate"]
    commands, client = (text.replace(":1416", f":{(port)}") for port in [free_port()] for text in (commands, client))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FLASK")}
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"

    def start(script: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "-ec", script],
            cwd=tmp_path,
            env=environ,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    serving = start(commands)
    try:
        url = re.findall(r"http://127.0.0.1:\d+", client)[0]
        assert eventually(lambda: serving.poll() is not None or answers(url), 60)
        said, _ = start(client).communicate(timeout=60)
    finally:
        os.killpg(serving.pid, signal.SIGTERM)
        told, _ = serving.communicate(timeout=60)
    assert '"GOOD "' in said and "data: [DONE]" in said, f"{said}\n{told}"
    assert re.search(r'flaskcompat_requests_total\{.*model="shout".*\} 1\.0\n', said)
    assert (tmp_path / "alice.key").stat().st_mode & 0o777 == 0o600
    assert '"code":"invalid_api_key"' in said.replace(" ", "")
    assert "shout  ok" in told and "0 failed" in told


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=20).text == "<h1>Toy cars</h1>"
    except httpx.TransportError:
        return False


def test_keys_are_read_as_pasted() -> None:
    given = re.search(r"export FLASKCOMPAT_API_KEYS='(.*)'", README)
    assert given is not None
    keys = read_keys(given[1], None)
    assert keys.find("Bearer sk-alice") == Principal("alice")
    assert keys.find("Bearer sk-bob") == Principal("bob", ("demo-*",))
