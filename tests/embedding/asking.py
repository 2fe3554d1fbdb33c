"""Asking the models of a host application by its test client or over a socket, in every way there is."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from ..support import TIMEOUT, chat_body, chat_text, events_of, eventually, response_body

#: How a model may be asked.
WAYS = ("chat", "chat stream", "response", "response stream", "background")


def ask(url: str, way: str, model: str = "m", **kwargs: Any) -> str:
    """What *model* answers when it is asked in that *way*; fails the test if it answers with an error."""
    with httpx.Client(base_url=url, timeout=TIMEOUT, **kwargs) as client:
        path, body = request_of(way, model)
        answer = client.post(f"/v1{path}", json=body)
        assert answer.status_code == 200, answer.text
        if way == "background":
            return _of_background(client, answer.json()["id"])
        if not way.endswith("stream"):
            return _of_whole(answer.json())
        events = events_of(answer.text)
        assert not [event for event in events if event.get("error") or event.get("type") == "error"], answer.text
        if way.startswith("chat"):
            return chat_text(events)
        return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


def request_of(way: str, model: str = "m") -> tuple[str, dict[str, Any]]:
    """The path, below ``/v1``, and the body of a request for *model*."""
    if way.startswith("chat"):
        return "/chat/completions", chat_body(model, stream=way.endswith("stream"))
    return "/responses", response_body(model, stream=way.endswith("stream"), background=way == "background")


def _of_whole(answer: dict[str, Any]) -> str:
    if "choices" in answer:
        return str(answer["choices"][0]["message"]["content"])
    return "".join(part["text"] for item in answer["output"] for part in item["content"])


def _of_background(client: httpx.Client, id: str) -> str:
    def retrieved() -> dict[str, Any]:
        answer: dict[str, Any] = client.get(f"/v1/responses/{id}").json()
        return answer

    assert eventually(lambda: retrieved()["status"] not in ("queued", "in_progress"))
    answer = retrieved()
    assert answer["status"] == "completed", answer
    return _of_whole(answer)


@contextmanager
def opened(url: str, way: str, model: str, cookies: httpx.Cookies) -> Iterator[socket.socket]:
    """The socket of a request whose answer nobody reads."""
    path, body = request_of(way, model)
    request = httpx.Request("POST", f"{url}/ai/v1{path}", json=body, cookies=cookies)
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    with socket.create_connection((request.url.host, request.url.port or 80), TIMEOUT) as connection:
        connection.sendall(f"POST {request.url.path} HTTP/1.1\r\n{head}\r\n".encode() + request.read())
        yield connection
