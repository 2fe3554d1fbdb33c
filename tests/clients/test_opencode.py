"""opencode, with the server as a provider of its own on either surface: prompts, and work in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .commands import Ran, run
from .environments import environment

pytestmark = pytest.mark.clients

#: The packages, of those it brings, that speak Chat Completions and Responses.
SURFACES = {"chat": "@ai-sdk/openai-compatible", "responses": "@ai-sdk/openai"}
surfaces = pytest.mark.parametrize("surface", SURFACES)
#: No words to its maker, nor to a registry of packages.
QUIET = {
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "npm_config_offline": "true",
}
FAILED = "The pipeline failed to answer this request. Request id: req_"


class OpenCode:
    def __init__(self, home: Path, folder: Path) -> None:
        self._home, self.folder = home, folder
        self._program = str(environment("opencode") / "node_modules" / ".bin" / "opencode")

    def __call__(self, surface: str, url: str, model: str, prompt: str, **ending: Any) -> Ran:
        """``opencode run`` with this prompt."""
        options = {"baseURL": url, "apiKey": "not-used"}
        provider = {"npm": SURFACES[surface], "name": "flaskcompat", "options": options, "models": {model: {}}}
        name = f"flaskcompat/{model}"
        config = {
            "autoupdate": False,
            "share": "disabled",
            "permission": "allow",
            "model": name,
            "small_model": name,  # for the title of the conversation
            "provider": {"flaskcompat": provider},
        }
        place = self._home / "opencode.json"
        place.write_text(json.dumps(config), encoding="utf-8")
        command = [self._program, "run", "--pure", "--print-logs", "--log-level", "ERROR", "--format", "json"]
        command += ["--", *prompt.split()]  # an argument with a space in it would be put in quotes
        return run(command, self.folder, self._home, QUIET | {"OPENCODE_CONFIG": str(place)}, **ending)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all: its first start makes a database."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def opencode(home: Path, tmp_path: Path) -> OpenCode:
    return OpenCode(home, tmp_path)


def parts(ran: Ran, kind: str) -> list[dict[str, Any]]:
    return [event["part"] for event in ran.events if event["type"] == kind]


def test_a_prompt(opencode: OpenCode, base_url: str) -> None:
    ran = opencode("chat", base_url, "scripted", "hello there")
    assert (ran.code, [part["text"] for part in parts(ran, "text")]) == (0, ["You said: hello there (turn 1)"]), ran
    (end,) = parts(ran, "step_finish")
    assert (end["reason"], end["tokens"]["input"], end["tokens"]["output"]) == ("stop", 11, 7)


@surfaces
def test_commands_in_a_folder(opencode: OpenCode, coder_url: str, surface: str) -> None:
    (opencode.folder / "note.txt").write_text("red is the colour\n", encoding="utf-8")
    ran = opencode(surface, coder_url, "coder", "run `cat note.txt`, then `wc -c < note.txt > count.txt`")
    assert ran.code == 0, ran
    states = [part["state"] for part in parts(ran, "tool_use")]
    assert [(state["status"], state["metadata"]["exit"]) for state in states] == [("completed", 0)] * 2, ran
    assert (opencode.folder / "count.txt").read_text(encoding="utf-8").strip() == "18"
    (answer,) = parts(ran, "text")
    assert "red is the colour" in answer["text"]
    assert [part["reason"] for part in parts(ran, "step_finish")] == ["tool-calls", "tool-calls", "stop"]


def test_an_unknown_model_is_told_by_the_servers_message(opencode: OpenCode, base_url: str) -> None:
    ran = opencode("responses", base_url, "no-such-model", "hello there")
    (told,) = [event["error"] for event in ran.events if event["type"] == "error"]
    assert (ran.code, told["data"]["message"]) == (1, "The model 'no-such-model' does not exist."), ran
    assert not told["data"]["isRetryable"]


@surfaces
def test_a_failure_midway_is_an_error(opencode: OpenCode, base_url: str, surface: str) -> None:
    """It asks again and again, with pauses that grow, for ever: seen till its second error."""

    def asked_again(ran: Ran) -> bool:
        told = [line for line in ran.err.splitlines() if '"stream error"' in line and FAILED in line]
        return len({line.partition(FAILED)[2].partition('"')[0] for line in told}) == 2

    ran = opencode(surface, base_url, "scripted", "fail midway", until=asked_again)
    assert asked_again(ran) and ran.code is None, ran
    assert not parts(ran, "step_finish")
    assert "secret" not in ran.out + ran.err
