"""What the tests of the recipes share: servers as they are started there, and a model that says what a test lets it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..support import TIMEOUT, eventually

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "examples" / "deploy"
#: Where the commands of this environment are.
SCRIPTS = Path(sys.executable).parent
#: The folder of the model that :class:`Gate` lets speak.
PIPELINES = Path(__file__).parent / "pipelines"
#: Seconds that a server may take to start on a machine that is busy.
START = 60.0
KEY = "sk-alice"
KEYS = {"FLASKCOMPAT_API_KEYS": f"alice={KEY}"}
HEADERS = {"Authorization": f"Bearer {KEY}"}


def program(name: str, package: str) -> str:
    """The path of a program; skips the test where there is none.

    :param package: Debian's package that has it.
    """
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: {package})")
    return found


def free_ports(number: int) -> list[int]:
    """So many ports that nobody listens on."""
    probes = [socket.socket() for _ in range(number)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def replaced(text: str, changes: Mapping[str, str]) -> str:
    """*text* with each key of *changes* as its value; a key that it does not have is a mistake of the test's."""
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def clean_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without settings of its own, and with *settings*."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FLASK", "HAYHOOKS_", "OPENAI_"))}
    kept.pop("HAYSTACK_TELEMETRY_ENABLED", None)
    return kept | {"PYTHONPATH": str(ROOT)} | settings


@dataclass
class Process:
    """A process that a test started."""

    popen: subprocess.Popen[bytes]
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    @property
    def children(self) -> set[int]:
        pid = self.popen.pid
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


@contextmanager
def running(
    command: Sequence[str], log_file: Path, *, is_ready: Callable[[], bool], cwd: Path = ROOT, **settings: str
) -> Iterator[Process]:
    """Run *command* until the end of the block, which begins when it *is_ready*; SIGTERM ends it."""
    with log_file.open("wb") as out:
        popen = subprocess.Popen(
            command, cwd=cwd, stdout=out, stderr=subprocess.STDOUT, env=clean_environment(settings)
        )
    process = Process(popen, log_file)
    try:
        assert eventually(lambda: popen.poll() is not None or is_ready(), START), process.log
        assert popen.poll() is None, process.log
        yield process
    finally:
        popen.terminate()
        try:
            popen.wait(START)
        finally:
            popen.kill()
            popen.wait(TIMEOUT)


def answers(url: str) -> Callable[[], bool]:
    """A function that tells whether a server behind *url* is alive."""

    def ask() -> bool:
        try:
            return httpx.get(f"{url}/healthz", timeout=TIMEOUT).status_code == 200
        except httpx.TransportError:
            return False

    return ask


def start_of_nginx(recipe: Path, nginx: str, folder: Path, front: int, back: int) -> list[str]:
    """The command that starts nginx in *folder*, on the port *front*, before the port *back*, as the *recipe* says."""
    ports = {"127.0.0.1:8080": f"127.0.0.1:{front}", "127.0.0.1:1416": f"127.0.0.1:{back}"}
    (folder / "flaskcompat.conf").write_text(replaced((recipe / "flaskcompat.conf").read_text(), ports))
    (folder / "nginx.conf").write_text((recipe / "nginx.conf").read_text())
    command = [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    # Started by root, its processes would be another user's, to whom the folder of a test is closed.
    return [*command, "-g", "user root;"] if os.geteuid() == 0 else command


# -- streams -----------------------------------------------------------------------------------------------


class Run:
    """One run of the model ``gated``."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        connection.settimeout(TIMEOUT)

    def say(self, word: str) -> None:
        """Have the model say *word* now."""
        self._connection.sendall(f"{word}\n".encode())

    def finish(self) -> None:
        self._connection.shutdown(socket.SHUT_WR)

    @property
    def is_over(self) -> bool:
        """Whether the model has stopped; waits for that."""
        try:
            return self._connection.recv(1) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self._connection.close()


class Gate:
    """Takes the connections of runs of the model ``gated``."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(TIMEOUT)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    @contextmanager
    def run(self) -> Iterator[Run]:
        """The run that begins next."""
        run = Run(self._listener.accept()[0])
        try:
            yield run
        finally:
            run.close()

    def close(self) -> None:
        self._listener.close()


@contextmanager
def gate() -> Iterator[Gate]:
    made = Gate()
    try:
        yield made
    finally:
        made.close()


class Asker:
    """Asks the model ``gated`` for a stream, and reads it word by word; leaves at the end of its block."""

    def __init__(self, url: str, gate: Gate, **headers: str) -> None:
        parts = httpx.URL(url)
        self._connection = http.client.HTTPConnection(parts.host, parts.port, timeout=TIMEOUT)
        question = [{"role": "user", "content": gate.address}]
        body = json.dumps({"model": "gated", "stream": True, "messages": question})
        more = {"Content-Type": "application/json", "X-Request-Id": "asked-by-me", **headers}
        self._connection.request("POST", "/v1/chat/completions", body, more | HEADERS)
        self._answer: Any = None

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    @property
    def answer(self) -> http.client.HTTPResponse:
        """The head has come; before the first word there is none."""
        if self._answer is None:
            self._answer = self._connection.getresponse()
        return self._answer

    def next_word(self) -> str | None:
        """The next word that arrives, None at the end of a stream that is complete."""
        deadline = time.monotonic() + TIMEOUT  # comments may come for ever
        while (line := self.answer.readline()) and time.monotonic() < deadline:
            data = line.decode().strip().removeprefix("data: ")
            if data == "[DONE]":
                assert self.answer.read().strip() == b""
                return None
            if line.startswith(b"data: ") and (choices := json.loads(data)["choices"]):
                if word := choices[0]["delta"].get("content"):
                    return word
        raise AssertionError("the stream was cut, or says nothing any more")

    def leave(self) -> None:
        """Close the connection, wherever the stream is."""
        if self._answer is not None:
            self._answer.close()
        self._connection.close()


def assert_streams_live(url: str) -> None:
    """Each word of a stream arrives before the next one is made."""
    with gate() as own, Asker(url, own) as asker, own.run() as run:
        for word in ("one ", "two ", "three "):
            run.say(word)
            assert asker.next_word() == word
        assert asker.answer.getheader("Content-Type", "").startswith("text/event-stream")
        assert asker.answer.getheader("X-Request-Id") == "asked-by-me"
        run.finish()
        assert asker.next_word() is None
        assert run.is_over


def assert_leaver_ends_the_run(url: str) -> None:
    """A client that leaves in the middle of a stream ends its run, though the model says no further word."""
    with gate() as own, Asker(url, own) as asker, own.run() as run:
        run.say("one ")
        assert asker.next_word() == "one "
        asker.leave()
        assert run.is_over


def assert_keys_are_asked(url: str) -> None:
    """Requests without a key, or with a wrong one, are told so in the API's own shape; the right one comes in."""
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        refused = httpx.get(f"{url}/v1/models", headers=headers, timeout=TIMEOUT)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    allowed = httpx.get(f"{url}/v1/models", headers=HEADERS, timeout=TIMEOUT)
    assert [model["id"] for model in allowed.json()["data"]] == ["gated"]


def assert_file_is_kept(url: str, content: bytes) -> None:
    """An upload arrives whole, and comes back as it was."""
    fields = {"purpose": "user_data"}
    sent = httpx.post(
        f"{url}/v1/files", data=fields, files={"file": ("a.bin", content)}, headers=HEADERS, timeout=TIMEOUT
    )
    assert sent.status_code == 200, sent.text
    assert sent.json()["bytes"] == len(content)
    # Asked for more than once: every process has to know it.
    for _ in range(4):
        back = httpx.get(f"{url}/v1/files/{sent.json()['id']}/content", headers=HEADERS, timeout=TIMEOUT)
        assert back.content == content


def exchange(url: str, head: str) -> tuple[int, Any]:
    """Status of the answer to a request of this head alone, and the JSON in it."""
    parts = httpx.URL(url)
    with socket.create_connection((parts.host, parts.port), timeout=TIMEOUT) as connection:
        connection.sendall(head.encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, json.loads(answer.read())
