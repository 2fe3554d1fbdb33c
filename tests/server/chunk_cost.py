"""What one word of a stream costs on its way from the pipeline's callback to the socket; run under callgrind.

``os.getpgid`` is where one part ends and the next one begins: callgrind is told to write down what it has counted
whenever that is called.
"""

import gc
import json
import os
import socket
import sys

from flask import Flask
from haystack.dataclasses import StreamingChunk

from flaskcompat import FlaskCompat
from flaskcompat.blueprints.event_stream import Body, EventStream
from flaskcompat.protocol.chat import ChatCompletionMachine
from flaskcompat.protocol.machine import Machine
from flaskcompat.protocol.responses import ResponseMachine
from flaskcompat.runtime.admission import Admission, Places
from flaskcompat.runtime.invoke import Run
from flaskcompat.server import make_server
from flaskcompat.server.channel import Channel
from flaskcompat.server.detached import Task
from flaskcompat.server.parser import Parser

COUNT = 1600
BATCH = 16  # words that are there when a stream is written
HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
EVENT = {
    "id": "chatcmpl-0123456789abcdef0123456789abcdef",
    "object": "chat.completion.chunk",
    "created": 1700000000,
    "model": "model",
    "choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None, "logprobs": None}],
}


def part_ends() -> None:
    os.getpgid(0)


class Stream:
    """A stream on a connection, driven by one thread; the other end of the connection is read."""

    def __init__(self, app: Flask, machine: Machine) -> None:
        runner = make_server(app, port=0, threads=1)
        ours, self.theirs = socket.socketpair()
        channel = Channel(runner.servers[0], ours, ("127.0.0.1", 1), runner.adj, map=runner.map)
        channel.waits_for_client = False
        request = Parser(runner.adj, runner.gate)
        request.received(HEAD)
        self.task = Task(channel, request)
        ticket = Admission().enter("model", Places(None, 0), None, lambda: False)
        self.run = Run("model", ticket)
        with app.test_request_context():
            self.stream = EventStream(machine, self.run, lambda: None)
        self.task.body = Body(self.stream, lambda: None)
        self.task.response_headers = [("Content-Type", "text/event-stream")]
        self.task.complete = True

    def make(self, chunk: StreamingChunk) -> bytes:
        """The events of a batch, for one write."""
        for _ in range(BATCH):
            self.run._buffer.put(chunk)
        return self.stream.poll()

    def write(self, piece: bytes) -> None:
        self.task.write(piece)
        assert self.theirs.recv(65536)


def main() -> None:
    gc.disable()
    app = Flask("app")
    FlaskCompat(app)
    streams = [
        Stream(app, ChatCompletionMachine(model="model", keep=False)),
        Stream(app, ResponseMachine(model="model")),
    ]
    chunk = StreamingChunk("word ")
    for stream in streams:
        for _ in range(20):
            stream.write(stream.make(chunk))
    json.dumps(EVENT)
    part_ends()
    for _ in range(COUNT):
        json.dumps(EVENT)
    part_ends()
    for stream in streams:
        pieces = [stream.make(chunk) for _ in range(COUNT // BATCH)]
        part_ends()
        for piece in pieces:
            stream.write(piece)
        part_ends()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
