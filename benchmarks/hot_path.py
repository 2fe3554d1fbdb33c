"""The path of a request and of a streamed word, driven by one thread, with every check that a server has on."""

from __future__ import annotations

import json
import socket
from typing import Any

from flask import Flask
from haystack.dataclasses import StreamingChunk

from flaskcompat.blueprints.event_stream import Body, EventStream
from flaskcompat.protocol.machine import Machine
from flaskcompat.runtime.admission import Admission, Places
from flaskcompat.runtime.invoke import Run
from flaskcompat.server import make_server
from flaskcompat.server.channel import Channel
from flaskcompat.server.detached import Task
from flaskcompat.server.parser import Parser

BATCH = 16  # words that are there when a stream is written


class Connection:
    """A connection of *app*'s server that brings one request again and again; the client's end is read here, too."""

    def __init__(self, app: Flask, path: str, **body: Any) -> None:
        self._app = app
        self._runner = make_server(app, port=0, threads=1)
        ours, self._theirs = socket.socketpair()
        self.channel = Channel(self._runner.servers[0], ours, ("127.0.0.1", 1), self._runner.adj, map=self._runner.map)
        self._body = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer x\r\n"
        self._head = f"{head}Content-Length: {len(self._body)}\r\n\r\n".encode()

    def parse(self) -> Parser:
        request = self.channel.parser_class(self._runner.adj)
        request.received(self._head)
        request.received(self._body)
        return request

    def environ(self) -> dict[str, Any]:
        return Task(self.channel, self.parse()).get_environment()

    def call(self) -> None:
        """As far as the application's answer."""
        b"".join(self._app.wsgi_app(self.environ(), lambda *_: None))

    def answer(self) -> None:
        """As far as the client."""
        self.channel.requests = [self.parse()]
        self.channel.service()
        assert self.read().startswith(b"HTTP/1.1 200")

    def read(self) -> bytes:
        return self._theirs.recv(65536)


class Stream:
    """A stream that nothing but :meth:`make` brings words to."""

    def __init__(self, app: Flask, machine: Machine) -> None:
        self._connection = Connection(app, "/")
        self._connection.channel.waits_for_client = False
        self._task = Task(self._connection.channel, self._connection.parse())
        self._run = Run("model", Admission().enter("model", Places(None, 0), None, lambda: False))
        with app.test_request_context():
            self._stream = EventStream(machine, self._run, lambda: None)
        self._task.body = Body(self._stream, lambda: None)
        self._task.response_headers = [("Content-Type", "text/event-stream")]
        self._task.complete = True

    def make(self, chunk: StreamingChunk) -> bytes:
        """The events of :data:`BATCH` chunks, from the callback to the bytes of one write."""
        for _ in range(BATCH):
            self._run._buffer.put(chunk)
        return self._stream.poll()

    def write(self, piece: bytes) -> None:
        self._task.write(piece)
        assert self._connection.read()
