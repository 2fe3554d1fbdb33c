"""What to compare with: bare Flask under waitress, prepared bytes, a queue between two threads for each stream."""

import json
import sys
import threading
from collections.abc import Iterator
from queue import SimpleQueue

import waitress
from flask import Flask, Response, request

ANSWER = json.dumps({"object": "chat.completion", "choices": [{"message": {"content": "hello"}}]}).encode()
app = Flask(__name__)


@app.get("/v1/models")
def models() -> dict[str, list[str]]:
    return {"data": []}


@app.post("/v1/chat/completions")
def complete() -> Response:
    body = json.loads(request.get_data())
    if not body.get("stream"):
        return Response(ANSWER, content_type="application/json")
    return Response(_words(int(body["messages"][-1]["content"])), content_type="text/event-stream")


def _words(count: int) -> Iterator[bytes]:
    queue: SimpleQueue[bytes | None] = SimpleQueue()

    def produce() -> None:
        for number in range(count):
            chunk = {"object": "chat.completion.chunk", "choices": [{"delta": {"content": f"w{number} "}}]}
            queue.put(f"data: {json.dumps(chunk)}\n\n".encode())
        queue.put(None)

    threading.Thread(target=produce, daemon=True).start()
    while (piece := queue.get()) is not None:
        yield piece


if __name__ == "__main__":
    waitress.serve(
        app, host="127.0.0.1", port=int(sys.argv[1]), threads=72, connection_limit=1000, asyncore_use_poll=True
    )
