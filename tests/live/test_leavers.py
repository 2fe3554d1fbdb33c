"""How each server is asked whether a client has left."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask
from werkzeug.serving import make_server

from flaskcompat import BasePipelineWrapper
from flaskcompat.blueprints.servers import client_probe

from ..support import TIMEOUT, chat_body, eventually, make_app
from .test_streams import _request


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("key", ["gunicorn.socket", "werkzeug.socket"])
def test_closed_socket_is_seen(key: str, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    left = client_probe({key: ours})
    assert left() is False
    theirs.send(b"the next request")
    assert left() is False
    assert ours.recv(100) == b"the next request", "looking takes nothing"
    theirs.close()
    assert eventually(left)
    ours.close()
    assert left() is False


def test_reset_connection_is_seen() -> None:
    class Reset(socket.socket):
        def recv(self, *_: Any) -> bytes:
            raise ConnectionResetError

    ours, theirs = socket.socketpair()
    with theirs, Reset(fileno=ours.detach()) as reset:
        left = client_probe({"gunicorn.socket": reset})
        theirs.send(b"x")
        assert eventually(left)


def test_server_s_own_answer_is_taken() -> None:
    assert client_probe({"waitress.client_disconnected": lambda: True})() is True
    assert client_probe({})() is False


@contextmanager
def werkzeug_server(app: Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(TIMEOUT)
        server.server_close()


@pytest.mark.parametrize("stream", [False, True])
def test_client_that_leaves_the_development_server(stream: bool) -> None:
    begun, closed = threading.Event(), threading.Event()

    class Silent(BasePipelineWrapper):
        async def run_chat_completion_async(self, model: str, messages: Any, body: Any) -> AsyncIterator[str]:
            try:
                begun.set()
                await asyncio.Event().wait()
                yield "never"
            finally:
                closed.set()

    with werkzeug_server(make_app(m=Silent())) as url:
        with _request(url, "/v1/chat/completions", chat_body(stream=stream)):
            assert begun.wait(TIMEOUT)
        assert closed.wait(TIMEOUT)
