"""OpenAI's Codex for the command line, with the server as a provider of its own: prompts, and work in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .commands import Ran, run
from .conftest import serving
from .environments import environment

pytestmark = pytest.mark.clients

ROOT = Path(__file__).parents[2]
#: As its users write it, and no words to its maker. Where nothing is set, what fails is asked for five times again.
CONFIG = """
model_provider = "flaskcompat"
check_for_update_on_startup = false

[analytics]
enabled = false

[features]
plugins = false

[model_providers.flaskcompat]
name = "flaskcompat"
base_url = "{base_url}"
env_key = "FLASKCOMPAT_KEY"
wire_api = "responses"
stream_max_retries = 1
supports_websockets = {websockets}
"""
FAILED = "The pipeline failed to answer this request. Request id: req_"


class Codex:
    def __init__(self, home: Path, folder: Path) -> None:
        self._home, self.folder = home, folder
        self._program = str(environment("codex") / "node_modules" / ".bin" / "codex")

    def __call__(
        self, url: str, model: str, *arguments: str, websockets: bool = False, settings: str | None = None
    ) -> Ran:
        """``codex exec`` with these arguments. It may do anything: a sandbox of its own does not run everywhere."""
        text = settings or CONFIG.format(base_url=url, websockets=str(websockets).lower())
        (self._home / "config.toml").write_text(text, encoding="utf-8")
        options = ["--json", "--skip-git-repo-check", "--sandbox", "danger-full-access", "--model", model]
        environ = {
            "CODEX_HOME": str(self._home),
            "FLASKCOMPAT_KEY": "not-used",
            "RUST_LOG": "off,codex_otel.log_only=info",  # its requests, one by one
        }
        return run([self._program, "exec", *options, *arguments], self.folder, self._home, environ)


@pytest.fixture
def codex(tmp_path: Path) -> Codex:
    home, folder = tmp_path / "home", tmp_path / "project"
    home.mkdir()
    folder.mkdir()
    return Codex(home, folder)


def items(ran: Ran, kind: str) -> list[dict[str, Any]]:
    """The finished items of a type."""
    found = [event["item"] for event in ran.events if event["type"] == "item.completed"]
    return [item for item in found if item["type"] == kind]


def texts(ran: Ran) -> list[str]:
    return [item["text"] for item in items(ran, "agent_message")]


def statuses(ran: Ran, request: str) -> list[str]:
    """How requests of a kind were answered, in turn."""
    lines = [line for line in ran.err.splitlines() if f'event.name="codex.{request}"' in line]
    return [line.partition("http.response.status_code=")[2].partition(" ")[0] for line in lines]


def test_a_prompt_and_the_next_one(codex: Codex, base_url: str) -> None:
    # The first of the user's messages is Codex's own, about the folder.
    first = codex(base_url, "scripted", "hello there")
    assert (first.code, texts(first)) == (0, ["You said: hello there (turn 2)"]), first
    usage = first.events[-1]["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (11, 7)
    second = codex(base_url, "scripted_async", "resume", "--last", "and now?")
    assert (second.code, texts(second)) == (0, ["You said: and now? (turn 3)"]), second


def test_reasoning(codex: Codex, base_url: str) -> None:
    ran = codex(base_url, "scripted", "think about it please")
    assert [item["text"] for item in items(ran, "reasoning")] == ["There are 4 words."], ran
    assert texts(ran) == ["You said: think about it please (turn 2)"]


def test_an_answer_of_a_schema(codex: Codex, base_url: str) -> None:
    properties = {"city": {"type": "string"}, "degrees": {"type": "integer"}}
    schema = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    (codex.folder / "schema.json").write_text(json.dumps(schema), encoding="utf-8")
    ran = codex(base_url, "scripted", "--output-schema", "schema.json", "hello there")
    assert [json.loads(text) for text in texts(ran)] == [{"city": "Paris", "degrees": 21}], ran


def test_an_unknown_model_is_told_by_the_servers_message(codex: Codex, base_url: str) -> None:
    ran = codex(base_url, "no-such-model", "hello there")
    assert ran.code == 1
    last = ran.events[-1]
    assert last == {"type": "turn.failed", "error": {"message": "The model 'no-such-model' does not exist."}}
    assert statuses(ran, "api_request") == ["404"], ran.err  # not asked again


def test_a_failure_midway_is_an_error(codex: Codex, base_url: str) -> None:
    ran = codex(base_url, "scripted", "fail midway")
    assert ran.code == 1
    assert ran.events[-1]["type"] == "turn.failed" and FAILED in ran.events[-1]["error"]["message"], ran
    assert statuses(ran, "api_request") == ["200", "200"], ran.err  # and once again, as is set
    assert "secret" not in ran.out + ran.err


def test_commands_in_a_folder(codex: Codex, coder_url: str) -> None:
    (codex.folder / "note.txt").write_text("red is the colour\n", encoding="utf-8")
    ran = codex(coder_url, "coder", "run `cat note.txt`, then `wc -c < note.txt > count.txt` and `cat missing.txt`")
    assert ran.code == 0, ran
    commands = items(ran, "command_execution")
    assert [command["exit_code"] for command in commands] == [0, 0, 1], ran
    assert commands[0]["aggregated_output"] == "red is the colour\n"
    assert (codex.folder / "count.txt").read_text(encoding="utf-8").strip() == "18"
    (answer,) = texts(ran)
    assert "red is the colour" in answer and "missing.txt: No such file" in answer
    assert ran.events[-1]["usage"]["input_tokens"] == 4 * 11


def test_a_call_that_is_broken_off_is_not_run(codex: Codex, coder_url: str) -> None:
    ran = codex(coder_url, "coder", "break off `touch made.txt`")
    assert ran.code == 1
    assert ran.events[-1]["type"] == "turn.failed" and FAILED in ran.events[-1]["error"]["message"], ran
    assert not items(ran, "command_execution") and not [*codex.folder.iterdir()]
    assert "secret" not in ran.out + ran.err


def test_the_example(codex: Codex, tmp_path: Path) -> None:
    example = ROOT / "examples" / "codex"
    (codex.folder / "note.txt").write_text("red is the colour\n", encoding="utf-8")
    with serving(example / "pipelines", tmp_path / "state") as url:
        settings = (example / "config.toml").read_text(encoding="utf-8")
        assert settings.count("http://127.0.0.1:1416/v1") == 1
        settings = settings.replace("http://127.0.0.1:1416/v1", url)
        ran = codex(url, "coder", "run `cat note.txt`", settings=settings)
    assert ran.code == 0 and "red is the colour" in texts(ran)[-1], ran
    assert [command["exit_code"] for command in items(ran, "command_execution")] == [0]


def test_a_websocket_is_refused_once_and_the_prompt_is_posted(codex: Codex, base_url: str) -> None:
    ran = codex(base_url, "scripted", "hello there", websockets=True)
    assert (ran.code, texts(ran)) == (0, ["You said: hello there (turn 2)"]), ran
    assert statuses(ran, "websocket_connect") == ["426"], ran.err
    assert statuses(ran, "api_request") == ["200"], ran.err
    # None about connections, just that Codex knows nothing of this model.
    assert [item["message"].partition(" ")[0] for item in items(ran, "error")] == ["Model"], ran
