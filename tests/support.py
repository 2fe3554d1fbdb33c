"""What several tests use: a live server, wrappers made from a list of items, readers of streams."""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from flask import Flask

from flaskcompat import BasePipelineWrapper, FlaskCompat
from flaskcompat.protocol.deltas import Delta
from flaskcompat.protocol.machine import Machine
from flaskcompat.server import make_server

TIMEOUT = 20.0


def counting_ids() -> Callable[[str], str]:
    """An id factory that counts: ``msg_1``, ``fc_2``..."""
    numbers = itertools.count(1)
    return lambda prefix: f"{prefix}{next(numbers)}"


def eventually(condition: Callable[[], Any], timeout: float = TIMEOUT) -> bool:
    """Whether *condition* becomes true; asked again and again, not after a guess."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


# -- wrappers ----------------------------------------------------------------------------------------------


class Raise:
    """Stands among the items of a script for the place where the wrapper raises."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _play(items: list[Any]) -> Iterator[Any]:
    for item in items:
        if isinstance(item, Raise):
            raise item.error
        yield item


async def _play_async(items: list[Any]) -> AsyncIterator[Any]:
    for item in _play(items):
        yield item


def _answers(mode: str, items: list[Any]) -> tuple[str, Callable[..., Any]]:
    """The suffix of the method and the method itself, for one way of giving several items."""

    def plain(self: Any, *args: Any) -> Any:
        return {"list": list, "iterator": iter, "generator": _play}[mode](items)

    def generator_function(self: Any, *args: Any) -> Iterator[Any]:
        yield from _play(items)

    async def coroutine(self: Any, *args: Any) -> Any:
        return {"coroutine list": list, "coroutine generator": _play, "async generator": _play_async}[mode](items)

    async def async_generator_function(self: Any, *args: Any) -> AsyncIterator[Any]:
        for item in _play(items):
            yield item

    if mode == "generator function":
        return "", generator_function
    if mode == "async generator function":
        return "_async", async_generator_function
    if mode in ("list", "iterator", "generator"):
        return "", plain
    return "_async", coroutine


#: Every way in which a wrapper may give several items.
MODES = (
    "list",
    "iterator",
    "generator",
    "generator function",
    "coroutine list",
    "coroutine generator",
    "async generator",
    "async generator function",
)
#: Those that may raise on the way.
RAISING_MODES = tuple(mode for mode in MODES if "generator" in mode)


def scripted(items: list[Any], mode: str = "generator") -> BasePipelineWrapper:
    """A wrapper that answers every request, on both surfaces, with *items*."""
    suffix, method = _answers(mode, items)
    methods = {f"run_chat_completion{suffix}": method, f"run_response{suffix}": method}
    return type("PipelineWrapper", (BasePipelineWrapper,), methods)()


def returning(result: Any, *, asynchronous: bool = False) -> BasePipelineWrapper:
    """A wrapper whose methods return *result*; called first if it is a function."""

    def give() -> Any:
        return result() if callable(result) else result

    def method(self: Any, *args: Any) -> Any:
        return give()

    async def coroutine(self: Any, *args: Any) -> Any:
        return give()

    if asynchronous:
        methods: dict[str, Any] = {"run_chat_completion_async": coroutine, "run_response_async": coroutine}
    else:
        methods = {"run_chat_completion": method, "run_response": method}
    return type("PipelineWrapper", (BasePipelineWrapper,), methods)()


def make_app(**wrappers: BasePipelineWrapper) -> Flask:
    """An application with these models; nothing of the standalone one."""
    app = Flask("host")
    app.json._app = app  # as long as an answer: Flask 2.2 asks it for what decodes JSON
    registry = FlaskCompat(app).registry
    for name, wrapper in wrappers.items():
        registry.add(name, wrapper)
    return app


# -- machines ----------------------------------------------------------------------------------------------


def run_events(machine: Machine, items: list[Delta]) -> list[dict[str, Any]]:
    """All events of a run that gives *items* and ends well."""
    events = machine.start()
    for item in items:
        events += machine.feed(item)
    return events + machine.end()


# -- servers and streams -----------------------------------------------------------------------------------


@contextmanager
def serving(app: Flask, threads: int = 16) -> Iterator[str]:
    """Serve *app* with our runner; gives the base URL, without ``/v1``."""
    server = make_server(app, port=0, threads=threads)
    thread = threading.Thread(target=server.run, name="waitress-under-test", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.end()
        thread.join(TIMEOUT)
        server.close()


def chat_body(model: str = "m", *, stream: bool = False, text: str = "hi", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream, **more}


def response_body(model: str = "m", *, stream: bool = False, text: str = "hi", **more: Any) -> dict[str, Any]:
    return {"model": model, "input": text, "stream": stream, **more}


def frames(text: str) -> list[tuple[str | None, Any]]:
    """The frames of an event stream as (event name, decoded data); comments are left out, ``[DONE]`` stays text."""
    found = []
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if not lines:
            continue
        name = next((line.removeprefix("event: ") for line in lines if line.startswith("event: ")), None)
        data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        assert len(data) == 1, f"a frame has one data line: {block!r}"
        found.append((name, data[0] if data[0] == "[DONE]" else json.loads(data[0])))
    return found


def events_of(text: str) -> list[Any]:
    """The decoded data of all frames but ``[DONE]``."""
    return [data for _, data in frames(text) if data != "[DONE]"]


def chat_text(events: list[dict[str, Any]], key: str = "content") -> str:
    """All text deltas of a chat stream in one."""
    return "".join(e["choices"][0]["delta"].get(key) or "" for e in events if e.get("choices"))


def post(app: Flask, path: str, body: Any, **kwargs: Any) -> Any:
    """POST to *app* in process; the response is read to its end."""
    response = app.test_client().post(path, json=body, **kwargs)
    response.get_data()
    return response


def raw_exchange(url: str, request: bytes) -> bytes:
    """What the server answers to these very bytes, until it closes."""
    parts = httpx.URL(url)
    with socket.create_connection((parts.host, parts.port), timeout=TIMEOUT) as connection:
        connection.sendall(request)
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return answer
