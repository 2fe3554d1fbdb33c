"""What to compare with: bare Flask under waitress, prepared bytes, a thread and a queue for each stream."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from queue import SimpleQueue

import waitress
from flask import Flask, Response, request
from wish import wish

CHAT = {"object": "chat.completion", "choices": [{"message": {"role": "assistant", "content": "hello"}}]}
RESPONSE = {
    "object": "response",
    "output": [{"type": "message", "content": [{"type": "output_text", "text": "hello"}]}],
}
FILE = {"id": "file-1", "object": "file", "bytes": 0, "filename": "big.bin", "purpose": "user_data"}
app = Flask(__name__)


@app.get("/v1/models")
def models() -> dict[str, list[str]]:
    return {"data": []}


@app.post("/v1/files")
def files() -> dict[str, object]:
    request.files["file"].read()
    return FILE


@app.post("/v1/chat/completions")
def complete() -> Response:
    body = json.loads(request.get_data())
    if not body.get("stream"):
        return Response(json.dumps(CHAT), content_type="application/json")
    return _stream("chat.completion.chunk", body["messages"][-1]["content"])


@app.post("/v1/responses")
def respond() -> Response:
    body = json.loads(request.get_data())
    if not body.get("stream"):
        return Response(json.dumps(RESPONSE), content_type="application/json")
    return _stream("response.output_text.delta", body["input"])


def _stream(kind: str, text: str) -> Response:
    return Response(_pieces(kind, *wish(text)), content_type="text/event-stream")


def _pieces(kind: str, words: list[str], delay: float) -> Iterator[bytes]:
    before, after = b'data: {"object": "%b", "delta": {"content": "' % kind.encode(), b'"}}\n\n'
    queue: SimpleQueue[bytes | None] = SimpleQueue()

    def produce() -> None:
        for word in words:
            if delay:
                time.sleep(delay)
            queue.put(before + word.encode() + after)
        queue.put(None)

    threading.Thread(target=produce, daemon=True).start()
    while (piece := queue.get()) is not None:
        yield piece


if __name__ == "__main__":
    waitress.serve(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        threads=1100,
        connection_limit=2000,
        backlog=2048,
        channel_request_lookahead=1,
        asyncore_use_poll=True,
    )
