"""``flask flaskcompat call``."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Any

import click
from flask import current_app
from flask.cli import with_appcontext
from werkzeug.routing import BuildError
from werkzeug.test import TestResponse

from flaskcompat.runtime.bridge import bridge
from flaskcompat.runtime.state import states_of

# Seconds that a wrapper has to end after Ctrl-C; one that blocks its thread cannot be ended.
_LAST_MOMENT = 3.0

_ENDPOINTS = {False: "create_chat_completion", True: "create_response"}


@click.command("call", short_help="Ask a model.")
@click.argument("model")
@click.argument("text")
@click.option("--stream", is_flag=True, help="Print the answer as it is made.")
@click.option("--responses", is_flag=True, help="By the Responses API rather than Chat Completions.")
@click.option("--key", envvar="FLASKCOMPAT_KEY", help="An API key, where the application asks for one.")
@with_appcontext
def call_command(model: str, text: str, stream: bool, responses: bool, key: str | None) -> None:
    """Ask MODEL for an answer to TEXT, in this process, by the way that a client's request takes.

    Reasoning and calls of tools are dimmed. Ctrl-C ends the run, with the exit status 130.
    """
    path = _path(model, _ENDPOINTS[responses])
    body = {"model": model, "stream": stream}
    body |= {"input": text, "store": False} if responses else {"messages": [{"role": "user", "content": text}]}
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    with _Interrupts() as interrupts:
        left = {"waitress.client_disconnected": interrupts.any}  # one of the ways in which a server tells it
        with _waiting_shown():
            answer = current_app.test_client().post(path, json=body, headers=headers, environ_overrides=left)
        try:
            if not interrupts.any():
                _print(answer)
        finally:
            answer.close()
        if interrupts.any():
            interrupts.wait_while(lambda: _works(model))
            raise SystemExit(130)


def _path(model: str, endpoint: str) -> str:
    """Where the API that has *model* is asked, else the first one.

    :raises ClickException: if the application has none that can be asked as it is.
    """
    mounted = [state for state in states_of(current_app.extensions) if state.prefixes]
    try:
        state = next((state for state in mounted if model in state.registry), mounted[0])
        return current_app.url_map.bind("").build(state.prefixes[0] + endpoint)
    except (IndexError, BuildError):
        raise click.ClickException("The API is below a blueprint that is not registered, or has variables.") from None


class _Interrupts:
    """Counts Ctrl-C in place of being interrupted: it stands for a client that leaves, which ends a run in order.

    On another thread than the main one, which alone may handle signals, there is nothing to count.
    """

    def __init__(self) -> None:
        self._times = 0
        self._handles = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> _Interrupts:
        if self._handles:
            self._before = signal.signal(signal.SIGINT, self._count)
        return self

    def __exit__(self, *error: object) -> None:
        if self._handles:
            signal.signal(signal.SIGINT, self._before)

    def _count(self, *signal_and_frame: object) -> None:
        self._times += 1
        if self._times > 2:  # something else than a run holds on to this thread
            raise KeyboardInterrupt

    def any(self) -> bool:
        return self._times > 0

    def wait_while(self, condition: Callable[[], bool]) -> None:
        """Wait as long as *condition* holds, for some seconds at the most, and not after a second Ctrl-C."""
        deadline = monotonic() + _LAST_MOMENT
        while self._times < 2 and condition() and monotonic() < deadline:
            sleep(0.02)


def _works(model: str) -> bool:
    """Whether a wrapper still runs: on a thread of its own, or on the loop."""
    names = (thread.name for thread in threading.enumerate())
    return bridge.active > 0 or any(name.startswith(f"flaskcompat-{model}.") for name in names)


@contextmanager
def _waiting_shown() -> Iterator[None]:
    """Count the seconds on the terminal, if it takes some; nothing is left of that."""
    if not sys.stderr.isatty():
        yield
        return
    over = threading.Event()

    def count() -> None:
        seconds = 0
        while not over.wait(1.0):
            seconds += 1
            click.echo(f"\r{seconds} s", nl=False, err=True)
        if seconds:
            click.echo(f"\r{' ' * len(f'{seconds} s')}\r", nl=False, err=True)

    thread = threading.Thread(target=count, name="flaskcompat-waiting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _print(answer: TestResponse) -> None:
    if answer.mimetype == "text/event-stream":
        pieces: Iterator[_Piece] = (piece for event in _events(answer.iter_encoded()) for piece in _streamed(event))
    elif answer.mimetype == "application/json":
        pieces = _whole(json.loads(answer.get_data()))
    else:
        raise click.ClickException(f"The application answers {answer.status}, and not as the API does.")
    for said, aside in pieces:
        click.echo(click.style(said, dim=True) if aside else said, nl=False)
    click.echo()


_Piece = tuple[str, bool]  # a text, and whether it stands beside the answer


def _events(chunks: Any) -> Iterator[dict[str, Any]]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data: {"):
                yield json.loads(line.removeprefix(b"data: "))


def _streamed(event: dict[str, Any]) -> Iterator[_Piece]:
    if error := event.get("error"):
        raise click.ClickException(error["message"])
    match event.get("type"):
        case None:
            for choice in event.get("choices", ()):
                delta = choice["delta"]
                yield delta.get("reasoning_content") or "", True
                yield delta.get("content") or "", False
                yield delta.get("refusal") or "", False
                for call in delta.get("tool_calls", ()):
                    yield f"{call['function'].get('name', '')}{call['function']['arguments']}", True
        case "response.output_text.delta" | "response.refusal.delta":
            yield event["delta"], False
        case "response.reasoning_summary_text.delta" | "response.function_call_arguments.delta":
            yield event["delta"], True
        case "response.output_item.added" if event["item"]["type"] == "function_call":
            yield event["item"]["name"], True


def _whole(answer: dict[str, Any]) -> Iterator[_Piece]:
    if error := answer.get("error"):
        raise click.ClickException(error["message"])
    for choice in answer.get("choices", ()):
        message = choice["message"]
        yield message.get("reasoning_content") or "", True
        yield message["content"] or "", False
        yield message.get("refusal") or "", False
        for call in message.get("tool_calls", ()):
            yield f"{call['function']['name']}{call['function']['arguments']}\n", True
    for item in answer.get("output", ()):
        match item["type"]:
            case "reasoning":
                yield "".join(part["text"] for part in item["summary"]), True
            case "message":
                yield "".join(part.get("text") or part.get("refusal") or "" for part in item["content"]), False
            case "function_call":
                yield f"{item['name']}{item['arguments']}\n", True
