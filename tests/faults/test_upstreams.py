"""The model behind a pipeline: its stream is closed when the client leaves."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from ..support import TIMEOUT, eventually
from .processes import SLACK, kinds, serving


class Model:
    """An OpenAI server that streams words for ever, to one client after the other, and counts those it talks to."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self.talking = 0
        self.over = False
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self.over:
            client, _ = self._listener.accept()
            with client:
                client.recv(100_000)
                self.talking += 1
                try:
                    self._talk(client)
                except OSError:
                    pass
                self.talking -= 1

    def _talk(self, client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        choice = {"index": 0, "delta": {"role": "assistant", "content": "word "}, "finish_reason": None}
        frame = f"data: {json.dumps({**chunk, 'choices': [choice]})}\n\n".encode()
        while not self.over:
            client.sendall(frame)
            time.sleep(0.05)

    def close(self) -> None:
        self.over = True
        with socket.create_connection(self._listener.getsockname(), TIMEOUT):
            pass
        self._thread.join(TIMEOUT)
        self._listener.close()


@pytest.fixture
def model() -> Iterator[Model]:
    made = Model()
    yield made
    made.close()


@kinds
def test_stream_of_the_model_is_closed_when_the_client_leaves(kind: str, model: Model) -> None:
    with serving(kind, 8) as server:
        for name in ("upstream", "async_upstream"):
            for stream in (True, False):
                with server.send(name, stream=stream, upstream=model.url) as connection:
                    if stream:
                        connection.recv(100)
                    assert eventually(lambda: model.talking == 1), server.log
                left = time.monotonic()
                assert eventually(lambda: model.talking == 0)
                assert time.monotonic() - left < 2 + SLACK, (name, stream)
