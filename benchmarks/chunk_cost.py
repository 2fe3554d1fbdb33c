"""What one word of a stream costs on its way from the pipeline's callback to the socket; run under callgrind.

``os.getpgid`` is where one part ends and the next one begins: callgrind is told to write down what it has counted
whenever that is called (``--dump-before=getpgid``). The parts: the start; ``json.dumps`` of one event; the words of a
chat made into bytes, and written; those of a response.
"""

import gc
import json
import os

from flask import Flask
from haystack.dataclasses import StreamingChunk
from hot_path import BATCH, Stream

from flaskcompat import FlaskCompat
from flaskcompat.protocol.chat import ChatCompletionMachine
from flaskcompat.protocol.responses import ResponseMachine

COUNT = 1600
EVENT = {
    "id": "chatcmpl-0123456789abcdef0123456789abcdef",
    "object": "chat.completion.chunk",
    "created": 1700000000,
    "model": "model",
    "choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None, "logprobs": None}],
}


def part_ends() -> None:
    os.getpgid(0)


def main() -> None:
    gc.disable()
    app = Flask("app")
    FlaskCompat(app)
    chunk = StreamingChunk("word ")
    machines = ChatCompletionMachine(model="model", keep=False), ResponseMachine(model="model")
    streams = [Stream(app, machine) for machine in machines]
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
    os._exit(0)


if __name__ == "__main__":
    main()
