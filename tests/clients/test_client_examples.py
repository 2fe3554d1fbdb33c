"""The examples that are programs of a client, each with the client's own package."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from .environments import environment, python_of

pytestmark = pytest.mark.clients

EXAMPLES = Path(__file__).parents[2] / "examples"
TIMEOUT = 60.0
SAID = "You said: Who are you? (turn 1)"


def command_of(example: str) -> list[str]:
    if example == "langchain_client.py":
        return [str(python_of(environment("langchain"))), str(EXAMPLES / example)]
    # What a program of Node's imports is looked for beside it.
    return ["node", shutil.copy(EXAMPLES / example, environment("ai-sdk"))]


@pytest.mark.parametrize("example", ["langchain_client.py", "ai_sdk_client.mjs"])
def test_example(base_url: str, example: str) -> None:
    command = [*command_of(example), base_url, "scripted", "scripted_async"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    assert (ran.returncode, ran.stdout) == (0, f"Chat: {SAID}\nResponses: {SAID}\n"), ran.stderr
