"""Microseconds of each stage that a word or a request passes, the best of several repeats.

Everything is on: every check, the whole set of events, keep-alive, the watch over the client, admission.
"""

from __future__ import annotations

import json
import timeit
from collections.abc import Callable
from typing import Any

from haystack.dataclasses import StreamingChunk
from hot_path import BATCH, Connection, Stream

from flaskcompat import BasePipelineWrapper, create_app, get_last_user_message
from flaskcompat.extension import EXTENSION
from flaskcompat.protocol import sse
from flaskcompat.protocol.chat import ChatCompletionMachine
from flaskcompat.protocol.deltas import Text, deltas, plain_text
from flaskcompat.protocol.responses import ResponseMachine
from flaskcompat.runtime.buffer import Buffer
from flaskcompat.schemas import ChatCompletionRequest, ResponseRequest, load

Stages = dict[str, tuple[Callable[[], object], int]]


class Echo(BasePipelineWrapper):
    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> str:
        return get_last_user_message(messages) or ""

    def run_response(self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]) -> str:
        return "hello"


app = create_app()
app.extensions[EXTENSION].registry.add("echo", Echo())


def requests() -> Stages:
    found: Stages = {}
    for name, connection in {
        "chat": Connection(app, "/v1/chat/completions", model="echo", messages=[{"role": "user", "content": "hello"}]),
        "response": Connection(app, "/v1/responses", model="echo", input="hello", store=False),
    }.items():
        found[f"{name}: parsed"] = connection.parse, 1
        found[f"{name}: parsed, environ made"] = connection.environ, 1
        found[f"{name}: the same, application called"] = connection.call, 1
        found[f"{name}: the same, written"] = connection.answer, 1
    return found


def burst() -> None:
    """255 items through the buffer."""
    buffer = Buffer()
    for _ in range(255):
        buffer.put("word ")
    buffer.take_ready()


chat, response = ChatCompletionMachine(model="m", keep=False), ResponseMachine(model="m")
response.text_frame("open")
chunk, text = StreamingChunk("word "), Text("word ")
event = chat.feed(text)[0]
chat_schema, response_schema = ChatCompletionRequest(), ResponseRequest()
small = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": True}
large = {"model": "m", "messages": [{"role": "user", "content": "x" * 1000} for _ in range(1000)]}
large_text = json.dumps(large)
chat_stream = Stream(app, ChatCompletionMachine(model="m", keep=False))
response_stream = Stream(app, ResponseMachine(model="m"))

STAGES: Stages = {
    "StreamingChunk made (Haystack)": (lambda: StreamingChunk("word "), 1),
    "plain_text(chunk)": (lambda: plain_text(chunk), 1),
    "chat.text_frame": (lambda: chat.text_frame("word "), 1),
    "response.text_frame": (lambda: response.text_frame("word "), 1),
    "deltas + feed + encode": (lambda: [chat.encode(e) for d in deltas(chunk) for e in chat.feed(d)], 1),
    "json frame of a chunk": (lambda: sse.frame(event), 1),
    "buffer, put and taken": (burst, 255),
    "chat: chunk to bytes": (lambda: chat_stream.make(chunk), BATCH),
    "chat: chunk to socket": (lambda: chat_stream.write(chat_stream.make(chunk)), BATCH),
    "response: chunk to bytes": (lambda: response_stream.make(chunk), BATCH),
    "response: chunk to socket": (lambda: response_stream.write(response_stream.make(chunk)), BATCH),
    "schema, small chat request": (lambda: load(chat_schema, small), 1),
    "schema, small response request": (lambda: load(response_schema, {"model": "m", "input": "hello"}), 1),
    "schema, 1000 messages": (lambda: load(chat_schema, large), 1),
    "json.loads of these": (lambda: json.loads(large_text), 1),
    "chat machine made": (lambda: ChatCompletionMachine(model="m"), 1),
    "response machine made": (lambda: ResponseMachine(model="m"), 1),
    **requests(),
}


def main() -> None:
    for name, (stage, divisor) in STAGES.items():
        timer = timeit.Timer(stage)
        number = max(1, timer.autorange()[0] // 4)
        print(f"{name:42} {min(timer.repeat(5, number)) / number / divisor * 1e6:10.2f} us")


if __name__ == "__main__":
    main()
