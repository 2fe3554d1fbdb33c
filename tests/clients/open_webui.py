"""Open WebUI as a process, and a user of its API."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from ..browser import PATIENCE, answers, free_port
from ..support import eventually
from .environments import environment

HERE = Path(__file__).parent
WRAPPERS = HERE / "open_webui_pipelines"
#: The model, over a connection to Chat Completions and over one to Responses.
CHAT, RESPONSES = "teller", "responses.teller"
TOOL_SERVER = "flaskcompat"
USER = {"name": "Ada Lovelace", "email": "ada@example.com", "password": "as-secret-as-it-gets-1"}

#: Its first start makes a database.
_START_TIMEOUT = 120.0
#: What tells its own requests apart: a header of the connection, filled in by Open WebUI for each request.
_HEADERS = {"X-OpenWebUI-Task": "{{TASK}}", "X-OpenWebUI-Message-Id": "{{MESSAGE_ID}}"}
#: What the page asks for beside an answer.
_TASKS = ("title_generation", "tags_generation", "follow_up_generation")


@contextmanager
def _running(command: Sequence[str], health: str, folder: Path, settings: dict[str, str]) -> Iterator[None]:
    """A server in *folder*, until it is no longer needed; with no more of our environment than it must have."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", **settings}
    log = folder / "log.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environ,
            start_new_session=True,
        )
    try:
        started = eventually(lambda: process.poll() is not None or answers(health), _START_TIMEOUT)
        assert started and process.poll() is None, log.read_text(errors="replace")[-5000:]
        yield
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)


@contextmanager
def serving_models(folder: Path) -> Iterator[str]:
    """The wrappers of Open WebUI's tests on flaskcompat; gives the base URL, without ``/v1``."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "flaskcompat", "serve", "--port", str(port), "--data", str(folder / "data")]
    settings = {"FLASKCOMPAT_PIPELINES_DIR": str(WRAPPERS), "HAYSTACK_TELEMETRY_ENABLED": "False"}
    with _running(command, f"{url}/healthz", folder, settings):
        yield url


@contextmanager
def serving_open_webui(models: str, folder: Path) -> Iterator[str]:
    """Open WebUI with two connections to *models*: one speaks Chat Completions, the other Responses."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    place = environment("open-webui")
    connections = {
        "0": {"headers": _HEADERS},
        "1": {"headers": _HEADERS, "api_type": "responses", "prefix_id": RESPONSES.partition(".")[0]},
    }
    settings = {
        "DATA_DIR": str(folder / "data"),
        # As in its slim image: without models of its own, and the packages that run them.
        "USE_SLIM_DOCKER": "true",
        "BYPASS_EMBEDDING_AND_RETRIEVAL": "true",
        "OFFLINE_MODE": "true",
        "ENABLE_OLLAMA_API": "false",
        "ENABLE_FORWARD_USER_INFO_HEADERS": "true",
        "OPENAI_API_BASE_URLS": f"{models}/v1;{models}/v1",
        "OPENAI_API_KEYS": "sk-chat;sk-responses",
        "OPENAI_API_CONFIGS": json.dumps(connections),
        "TOOL_SERVER_CONNECTIONS": json.dumps([tool_server(models)]),
        "WEBUI_SECRET_KEY": "of-a-test",
    }
    command = [str(place / "bin" / "open-webui"), "serve", "--host", "127.0.0.1", "--port", str(port)]
    with _running(command, f"{url}/health", folder, settings):
        yield url


def tool_server(models: str) -> dict[str, Any]:
    """The same server once more, as one of tools: one of them is to ask a model."""
    return {
        "url": models,
        "path": "openapi.json",
        "auth_type": "none",
        "key": "",
        "config": {"enable": True, "function_name_filter_list": "create_response,list_models"},
        "info": {"id": TOOL_SERVER, "name": "flaskcompat"},
    }


class Teller:
    """The wrapper behind the models, asked directly: what it saw, and to go on."""

    def __init__(self, url: str) -> None:
        self._url = url

    def tell(self, word: str) -> str:
        body = {"model": CHAT, "messages": [{"role": "user", "content": word}]}
        answer = httpx.post(f"{self._url}/v1/chat/completions", json=body, timeout=PATIENCE)
        return str(answer.json()["choices"][0]["message"]["content"])

    @property
    def seen(self) -> list[dict[str, Any]]:
        """The requests since it was told to forget: ``surface``, ``prompt``, ``body`` and ``headers``."""
        return list(json.loads(self.tell("recall")))


class User:
    """The administrator of an Open WebUI, who signs up with it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(base_url=url, timeout=PATIENCE)
        signed_up = self.http.post("/api/v1/auths/signup", json=USER)
        assert signed_up.status_code == 200, signed_up.text
        self.id = signed_up.json()["id"]
        self.http.headers["Authorization"] = f"Bearer {signed_up.json()['token']}"

    def post(self, model: str, question: str, **more: Any) -> httpx.Response:
        """Ask as a program does: nothing is kept."""
        body = {"model": model, "messages": [{"role": "user", "content": question}], **more}
        return self.http.post("/api/chat/completions", json=body)

    def upload(self, name: str, content: bytes, kind: str) -> dict[str, Any]:
        """A file of this user, as it is attached to a message."""
        file = self.http.post("/api/v1/files/", files={"file": (name, content, kind)}).json()
        return {"type": "file", "id": file["id"], "url": file["id"], "name": name, "file": file}

    def chat(self, model: str) -> Chat:
        return Chat(self, model)


class Chat:
    """A chat that is kept, with the requests of the page: it is asked, and what came of it is read from the chat."""

    def __init__(self, user: User, model: str) -> None:
        self._user = user
        self._model = model
        self._id: str | None = None
        self._last: str | None = None

    def ask(self, question: str, **more: Any) -> dict[str, Any]:
        """Ask as :meth:`begin` does, and wait for the answer."""
        self.begin(question, **more)
        return self.answer()

    def begin(
        self,
        question: str,
        *,
        stream: bool = True,
        tasks: bool = False,
        files: Sequence[Any] = (),
        tools: Sequence[str] = (),
    ) -> str:
        """Ask, and leave the answer to be read by :meth:`answer`; gives the name by which it may be stopped.

        :param tasks: whether title, tags and follow-ups are wanted, too.
        :param tools: names of tools, or of servers of tools, that may be used.
        """
        before, asked, self._last = self._last, str(uuid.uuid4()), str(uuid.uuid4())
        said = {"role": "user", "content": question}
        place: dict[str, Any] = {"id": asked, "parentId": before, "childrenIds": [], "timestamp": int(time.time())}
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [said],
            "stream": stream,
            "user_message": {**said, **place, "models": [self._model], "files": list(files)},
            "files": list(files),
            "tool_ids": list(tools),
            "parent_id": before,
            "id": self._last,
            "session_id": "a-page",
            "background_tasks": dict.fromkeys(_TASKS, True) if tasks else {},
        }
        if self._id:
            body["chat_id"] = self._id
        begun = self._user.http.post("/api/chat/completions", json=body)
        assert begun.status_code == 200 and begun.json()["status"], begun.text
        self._id = begun.json()["chat_id"]
        return str(begun.json()["task_ids"][0])

    def answer(self) -> dict[str, Any]:
        """The last answer's message, once it is whole or has failed."""
        assert eventually(lambda: self.last.get("done"), PATIENCE), self.last
        return self.last

    @property
    def last(self) -> dict[str, Any]:
        """The last answer's message, as it is kept and shown; while it is made, as far as it is."""
        return self.messages[self._last or ""]

    @property
    def kept(self) -> dict[str, Any]:
        return dict(self._user.http.get(f"/api/v1/chats/{self._id}").json())

    @property
    def messages(self) -> dict[str, dict[str, Any]]:
        return dict(self.kept["chat"]["history"]["messages"])
