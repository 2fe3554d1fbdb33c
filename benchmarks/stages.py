"""Microseconds of each stage that a chunk or a request passes, the best of several repeats."""

from __future__ import annotations

import json
import timeit
from collections.abc import Callable

from haystack.dataclasses import StreamingChunk

from flaskcompat.protocol import sse
from flaskcompat.protocol.chat import ChatCompletionMachine
from flaskcompat.protocol.deltas import Text, deltas, plain_text
from flaskcompat.protocol.responses import ResponseMachine
from flaskcompat.runtime.buffer import Buffer
from flaskcompat.schemas import ChatCompletionRequest, ResponseRequest, load

chat, response = ChatCompletionMachine(model="m", keep=False), ResponseMachine(model="m")
response.text_frame("open")
chunk, text = StreamingChunk("word "), Text("word ")
event = chat.feed(text)[0]
chat_schema, response_schema = ChatCompletionRequest(), ResponseRequest()
small = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": True}
large = {"model": "m", "messages": [{"role": "user", "content": "x" * 1000} for _ in range(1000)]}
large_text = json.dumps(large)


def burst() -> None:
    """256 items through the buffer."""
    buffer = Buffer()
    for _ in range(255):
        buffer.put(chunk)
    buffer.take(0)


STAGES: dict[str, tuple[Callable[[], object], int]] = {
    "StreamingChunk made (Haystack)": (lambda: StreamingChunk("word "), 1),
    "plain_text(chunk)": (lambda: plain_text(chunk), 1),
    "chat.text_frame": (lambda: chat.text_frame("word "), 1),
    "response.text_frame": (lambda: response.text_frame("word "), 1),
    "deltas + feed + encode": (lambda: [chat.encode(e) for d in deltas(chunk) for e in chat.feed(d)], 1),
    "json frame of a chunk": (lambda: sse.frame(event), 1),
    "buffer, put and taken, each": (burst, 255),
    "schema, small chat request": (lambda: load(chat_schema, small), 1),
    "schema, small response request": (lambda: load(response_schema, {"model": "m", "input": "hello"}), 1),
    "schema, 1000 messages": (lambda: load(chat_schema, large), 1),
    "json.loads of these": (lambda: json.loads(large_text), 1),
    "chat machine made": (lambda: ChatCompletionMachine(model="m"), 1),
    "response machine made": (lambda: ResponseMachine(model="m"), 1),
}


def main() -> None:
    for name, (stage, divisor) in STAGES.items():
        timer = timeit.Timer(stage)
        number = max(1, timer.autorange()[0] // 4)
        print(f"{name:34} {min(timer.repeat(5, number)) / number / divisor * 1e6:10.2f} us")


if __name__ == "__main__":
    main()
