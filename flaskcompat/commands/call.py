"""``flask flaskcompat call``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click
from flask import current_app
from flask.cli import with_appcontext

from flaskcompat.runtime.state import states_of

_ENDPOINTS = {False: "chat_completions.create_chat_completion", True: "responses.create_response"}


@click.command("call", short_help="Ask a model.")
@click.argument("model")
@click.argument("text")
@click.option("--stream", is_flag=True, help="Print the answer as it is made.")
@click.option("--responses", is_flag=True, help="By the Responses API rather than Chat Completions.")
@click.option("--key", envvar="FLASKCOMPAT_KEY", help="An API key, where the application asks for one.")
@with_appcontext
def call_command(model: str, text: str, stream: bool, responses: bool, key: str | None) -> None:
    """Ask MODEL for an answer to TEXT, in this process, by the way that a client's request takes.

    Reasoning and calls of tools are dimmed. Ctrl-C ends the run.
    """
    states = states_of(current_app.extensions)
    state = next((state for state in states if model in state.registry), states[0])
    path = current_app.url_map.bind("").build(state.prefixes[0] + _ENDPOINTS[responses])
    body = {"model": model, "stream": stream}
    body |= {"input": text, "store": False} if responses else {"messages": [{"role": "user", "content": text}]}
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    answer = current_app.test_client().post(path, json=body, headers=headers)
    try:
        if answer.mimetype == "text/event-stream":
            pieces: Iterator[_Piece] = (piece for event in _events(answer.iter_encoded()) for piece in _streamed(event))
        else:
            pieces = _whole(json.loads(answer.get_data()))
        for said, aside in pieces:
            click.echo(click.style(said, dim=True) if aside else said, nl=False)
        click.echo()
    finally:
        answer.close()


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
                for call in delta.get("tool_calls", ()):
                    yield f"{call['function'].get('name', '')}{call['function']['arguments']}", True
        case "response.output_text.delta":
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
