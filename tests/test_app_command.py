"""The console command ``flaskcompat`` on an application that it is given, in a process of its own as in a shell."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest

from .support import TIMEOUT, chat_body

SCRIPTS = Path(sys.executable).parent
KEY = {"Authorization": "Bearer sesame"}

SHOP = """
from flask import Flask, abort, request

from flaskcompat import BasePipelineWrapper, FlaskCompat


class Till(BasePipelineWrapper):
    def run_chat_completion(self, model, messages, body):
        return "paid"


def create_app(name="till", **settings):
    app = Flask("shop")
    app.config.update(FLASKCOMPAT_API_KEYS="ann=sesame", **settings)
    app.before_request(lambda: abort(418) if request.args.get("tea") else None)
    FlaskCompat(app, url_prefix="/ai").registry.add(name, Till)
    return app


app = create_app()
"""
WRAPPER = """
from flaskcompat import BasePipelineWrapper


class PipelineWrapper(BasePipelineWrapper):
    def run_chat_completion(self, model, messages, body):
        return "from the folder"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an app, ``shop.py``, beside one of pipelines, which is not the app's."""
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "pipelines" / "local").mkdir(parents=True)
    (tmp_path / "pipelines" / "local" / "pipeline_wrapper.py").write_text(WRAPPER)
    return tmp_path


def environment(**more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FLASK", "OPENAI_"))}
    return clean | {"HAYSTACK_TELEMETRY_ENABLED": "False"} | more


def run(cwd: Path, *command: str, **environ: str) -> tuple[int, str, str]:
    """The exit status of a command of this environment, and what it prints."""
    done = subprocess.run(
        [str(SCRIPTS / command[0]), *command[1:]],
        cwd=cwd,
        env=environment(**environ),
        capture_output=True,
        text=True,
        timeout=6 * TIMEOUT,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout, done.stderr


@contextmanager
def serving(cwd: Path, *command: str, **environ: str) -> Iterator[tuple[str, str]]:
    """Serves on a free port; gives the URL, without the path of the API, and the start screen."""
    process = subprocess.Popen(
        [str(SCRIPTS / command[0]), *command[1:], "serve", "--port", "0"],
        cwd=cwd,
        env=environment(**environ),
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stderr is not None
            screen = ""
            while "flaskcompat 0" not in screen or "Try it:" not in screen:
                line = process.stderr.readline()
                assert line, screen
                screen += line
            screen += process.stderr.readline()
            yield re.findall(r"http://127.0.0.1:\d+", screen)[0], screen
        finally:
            process.terminate()
            process.communicate(timeout=6 * TIMEOUT)


def write_dotenv(name: str, text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        pytest.importorskip("dotenv")
        (folder / name).write_text(text)

    return write


SPELLINGS = {
    "--app": (["flaskcompat", "--app", "shop"], {}, None),
    "-A": (["flaskcompat", "-A", "shop:app"], {}, None),
    "a file": (["flaskcompat", "--app", "./shop.py"], {}, None),
    "FLASK_APP": (["flaskcompat"], {"FLASK_APP": "shop"}, None),
    "a factory": (["flaskcompat", "--app", 'shop:create_app("till")'], {}, None),
    "--env-file": (["flaskcompat", "--env-file", "settings"], {}, write_dotenv("settings", "FLASK_APP=shop\n")),
    ".flaskenv": (["flaskcompat"], {}, write_dotenv(".flaskenv", "FLASK_APP=shop\n")),
    "python -m": (["python", "-m", "flaskcompat", "--app", "shop"], {}, None),
    "flask --app": (["flask", "--app", "shop", "flaskcompat"], {}, None),
    "doubled": (["flaskcompat", "--app", "shop", "flaskcompat"], {}, None),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_app_is_served_with_its_prefix_hooks_and_keys(name: str, folder: Path) -> None:
    command, environ, prepare = SPELLINGS[name]
    if prepare is not None:
        prepare(folder)
    with serving(folder, *command, **environ) as (url, screen), httpx.Client(base_url=url, timeout=TIMEOUT) as client:
        assert f"at {url}/ai/v1\n" in screen and "  till  chat\n" in screen and "local" not in screen
        assert f"curl {url}/ai/v1/chat/completions -H 'Authorization: Bearer KEY' " in screen
        assert client.post("/ai/v1/chat/completions", json=chat_body("till")).status_code == 401
        answer = client.post("/ai/v1/chat/completions", json=chat_body("till"), headers=KEY)
        assert answer.json()["choices"][0]["message"]["content"] == "paid"
        assert client.get("/ai/v1/models?tea=1", headers=KEY).status_code == 418
        # What this package's own app has is not there unless the settings of this one ask for it.
        for path in ("/v1/models", "/", "/ai/", "/ai/docs", "/healthz", "/ai/healthz"):
            assert client.get(path, headers=KEY).status_code == 404, path


def test_app_that_asks_for_the_page(folder: Path) -> None:
    with serving(folder, "flaskcompat", "--app", "shop:create_app(FLASKCOMPAT_PAGE=True)") as (url, screen):
        assert "/ai/v1/chat/completions" in screen
        assert "<html" in httpx.get(f"{url}/ai/", timeout=TIMEOUT).text


@pytest.mark.parametrize("command", [["flaskcompat"], ["flask", "--app", "flaskcompat"], ["flaskcompat", "--app", ""]])
def test_without_an_app_the_folder_is_served(command: list[str], folder: Path) -> None:
    with serving(folder, *command) as (url, screen):
        assert f"at {url}/v1\n" in screen and "  local  chat\n" in screen
        assert httpx.get(f"{url}/healthz", timeout=TIMEOUT).status_code == 200
        assert "<html" in httpx.get(f"{url}/", timeout=TIMEOUT).text


ON_THE_APP = [
    (["models"], "till  chat\n"),
    (["call", "till", "hi", "--key", "sesame"], "paid\n"),
    (["keys", "list"], "ann  *\n"),
    (["purge"], "0 records deleted\n"),
    (["check"], "1 model, 0 failed"),
    (["check", "pipelines"], "\nlocal  ok"),
    (["migrate", "pipelines"], "0 files changed"),
]
WITHOUT = [
    (["models"], "local  chat\n"),
    (["call", "local", "hi"], "from the folder\n"),
    (["keys", "list"], ""),
    (["purge"], "0 records deleted\n"),
    (["check"], "\nlocal  ok"),
    (["migrate", "pipelines"], "0 files changed"),
]


@pytest.mark.parametrize(("arguments", "says"), ON_THE_APP, ids=lambda value: " ".join(value) if value else "")
def test_command_works_on_the_app(arguments: list[str], says: str, folder: Path) -> None:
    status, printed, told = run(folder, "flaskcompat", "--app", "shop", *arguments)
    assert (status, told) == (0, "") and says in printed


@pytest.mark.parametrize("app", ["shop", "flaskcompat"])
@pytest.mark.parametrize("arguments", [["models"], ["keys", "list"]], ids=" ".join)
def test_spellings_of_flask_are_the_same(app: str, arguments: list[str], folder: Path) -> None:
    done = run(folder, "flaskcompat", "--app", app, *arguments)
    assert done == run(folder, "flask", "--app", app, "flaskcompat", *arguments) and done[0] == 0
    if app == "flaskcompat":
        assert done == run(folder, "flaskcompat", "flaskcompat", *arguments)


@pytest.mark.parametrize(("arguments", "says"), WITHOUT, ids=lambda value: " ".join(value) if value else "")
def test_command_without_an_app(arguments: list[str], says: str, folder: Path) -> None:
    status, printed, _ = run(folder, "flaskcompat", *arguments)
    assert status == 0 and says in printed


def test_app_in_the_folder_is_not_taken_without_being_named(folder: Path) -> None:
    (folder / "app.py").write_text(SHOP)
    status, printed, told = run(folder, "flaskcompat", "models")
    assert (status, printed) == (0, "local  chat\n")
    assert told == "app.py is not loaded. To work on its app: flaskcompat --app app.py ...\n"
    assert run(folder, "flaskcompat", "--app", "app.py", "models") == (0, "till  chat\n", "")
    (folder / "app.py").write_text("print('of something else')")
    assert run(folder, "flaskcompat", "models") == (0, "local  chat\n", "")


MODULES = {
    "absent": (None, "The app 'absent' is not found: Could not import 'absent'."),
    "plain": ("from flask import Flask\napp = Flask('plain')\n", "does not have the FlaskCompat extension"),
    "empty": ("", "The app 'empty' is not found: Failed to find Flask application or factory"),
    "shop:none": (None, "Failed to find attribute 'none' in 'shop'."),
    "missing": ("\nimport no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module' (missing.py:2)"),
    "raises": ("def f():\n    raise KeyError('x')\n\n\nf()\n", "failed to load: KeyError: 'x' (raises.py:2)"),
    "inside": ("import json\n\njson.loads('{')\n", "JSONDecodeError: "),
    "syntax": ("x = 1\ndef x(:\n", "SyntaxError: invalid syntax"),
    "exits": ("import sys\n\nsys.exit('no')\n", "failed to load: SystemExit: no (exits.py:3)"),
    "exits_well": ("import sys\n\nsys.exit(0)\n", "(exits_well.py:3)"),
    "setting": (
        "from shop import create_app\n\napp = create_app(FLASKCOMPAT_KEEP_ALIVE='fast')\n",
        "ValueError: FLASKCOMPAT_KEEP_ALIVE='fast': must be a number of seconds, 0 or more (shop.py:",
    ),
}


@pytest.mark.parametrize("name", MODULES)
def test_app_that_cannot_be_loaded_is_told_in_one_line(name: str, folder: Path) -> None:
    text, says = MODULES[name]
    if text is not None:
        (folder / f"{name}.py").write_text(text)
    status, printed, told = run(folder, "flaskcompat", "--app", name, "serve", "--port", "0")
    assert (status, printed, told.count("\n")) == (1, "", 1), told
    assert told.startswith("Error: The app ") and says in told
    if name == "inside":
        assert told.endswith(" (inside.py:3)\n")


def test_traceback_is_there_for_the_asking(folder: Path) -> None:
    (folder / "raises.py").write_text("def f():\n    raise KeyError('x')\n\n\nf()\n")
    status, _, told = run(folder, "flaskcompat", "--app", "raises", "--debug", "models")
    assert status == 1 and "Traceback" in told
    assert told.endswith("\nError: The app 'raises' failed to load: KeyError: 'x' (raises.py:2)\n")


def test_settings_of_the_environment_that_the_app_does_not_read_are_named(folder: Path) -> None:
    environ = {"FLASKCOMPAT_API_KEYS": "bob=other", "FLASKCOMPAT_MAX_BACKGROUND": "2", "FLASKCOMPAT_AUDIT": "0"}
    told = "The app 'shop' does not read its settings from the environment. Set them in app.config: "
    done = run(folder, "flaskcompat", "--app", "shop", "models", **environ)
    assert done == (0, "till  chat\n", f"{told}FLASKCOMPAT_MAX_BACKGROUND\n")
    (folder / "reads.py").write_text("from flaskcompat import create_app\n\napp = create_app()\n")
    assert run(folder, "flaskcompat", "--app", "reads", "models", **environ) == (0, "local  chat\n", "")


@contextmanager
def busy_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


COMMANDS: list[Sequence[str]] = [
    ["flaskcompat", "serve"],
    ["flaskcompat", "--app", "shop", "serve"],
    ["flask", "--app", "shop", "flaskcompat", "serve"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_address_that_cannot_be_had(command: Sequence[str], folder: Path) -> None:
    with busy_port() as port:
        status, _, told = run(folder, *command, "--port", str(port))
    in_use = "the port is in use; choose another one with --port"
    assert (status, told) == (1, f"Error: Cannot listen on 127.0.0.1, port {port}: {in_use}.\n")


@pytest.mark.parametrize("host", ["host.invalid", "192.0.2.1"])
def test_host_that_cannot_be_had(host: str, folder: Path) -> None:
    status, _, told = run(folder, "flaskcompat", "--app", "shop", "serve", "--host", host)
    assert status == 1 and told.count("\n") == 1 and told.startswith(f"Error: Cannot listen on {host}, port 1416: ")


URLS = ["sqlite:////no/such/folder/x.db", "postgresql://user:s3cret@127.0.0.1:1/x"]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["purge"]], ids=" ".join)
def test_database_that_cannot_be_opened(url: str, command: list[str], folder: Path) -> None:
    if url.startswith("postgresql"):
        pytest.importorskip("psycopg")
    status, _, told = run(folder, "flaskcompat", *command, FLASKCOMPAT_DATABASE_URL=url)
    assert status == 1 and told.count("\n") == 1 and told.startswith("Error: The database cannot be opened: ")
    assert "s3cret" not in told
    app = f"shop:create_app(FLASKCOMPAT_DATABASE_URL={url!r})"
    assert run(folder, "flaskcompat", "--app", app, *command) == (1, "", told)


def test_setting_that_cannot_be_read(folder: Path) -> None:
    done = run(folder, "flaskcompat", "serve", FLASKCOMPAT_CHUNK_TIMEOUT="1 s")
    assert done == (1, "", "Error: FLASKCOMPAT_CHUNK_TIMEOUT='1 s': must be a number of seconds, 0 or more\n")


def test_help_and_versions_load_no_app(folder: Path) -> None:
    (folder / "raises.py").write_text("raise KeyError\n")
    for options in ([], ["--app", "raises"]):
        status, shown, told = run(folder, "flaskcompat", *options, "--help")
        assert (status, told) == (0, "") and "Serve Haystack pipelines and agents to any OpenAI client." in shown
        listed = re.findall(r"^  (\w+)  ", shown.split("Commands:")[1], re.M)
        assert {"call", "check", "keys", "migrate", "models", "purge", "serve"} <= set(listed)
        assert "flaskcompat" not in listed
    status, shown, _ = run(folder, "flaskcompat", "--app", "raises", "--version")
    python = ".".join(map(str, sys.version_info[:3]))
    haystack, flask, own = (version(name) for name in ("haystack-ai", "flask", "flaskcompat"))
    assert (status, shown) == (0, f"flaskcompat {own}\nFlask {flask}\nHaystack {haystack}\nPython {python}\n")


def test_unknown_command_is_told(folder: Path) -> None:
    (folder / "raises.py").write_text("raise KeyError\n")
    status, _, told = run(folder, "flaskcompat", "modells")
    assert status == 2 and "No such command 'modells'" in told


def test_commands_of_the_app_are_there(folder: Path) -> None:
    with (folder / "shop.py").open("a") as file:
        file.write("\n\n@app.cli.command('greet')\ndef greet():\n    print('welcome')\n")
    assert run(folder, "flaskcompat", "--app", "shop", "greet") == (0, "welcome\n", "")
