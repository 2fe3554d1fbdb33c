"""More streams than threads, under the runner: who waits for a stream's next event holds no thread."""

from __future__ import annotations

import json
import re
import time
from contextlib import ExitStack

import pytest

from ..support import chat_text, events_of, eventually
from .processes import read_all, serving

#: All of the server's own: those that begin answers, those for short requests, its loops and those that look after all.
THREADS = 4
STREAMS = 200
#: More than the buffers on the way can hold.
WORDS = 20_000


def words(answer: bytes) -> str:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), answer[:500]
    assert body.endswith(b"0\r\n\r\n"), "the stream was cut"
    text = re.sub(rb"(?m)^[0-9A-F]+\r\n(.*?)\r\n", rb"\1", body, flags=re.DOTALL).decode()
    assert "data: [DONE]\n\n" in text
    return chat_text(events_of(text))


@pytest.mark.parametrize(("model", "threads_each"), [("async_words", 0), ("words", 1)])
def test_open_streams_hold_no_thread_of_the_server(model: str, threads_each: int) -> None:
    with serving("runner", THREADS) as server:
        server.ask(model, stream=True)
        threads, _ = server.threads_and_descriptors
        with ExitStack() as streams:
            for _ in range(STREAMS):
                streams.enter_context(server.send(model, words=100_000, delay=0.5))
            assert eventually(lambda: server.open_runs().get(model) == STREAMS)
            more = server.threads_and_descriptors[0] - threads
            assert more <= threads_each * STREAMS + 2
        assert eventually(lambda: server.threads_and_descriptors[0] <= threads + 2)


@pytest.mark.parametrize("model", ["async_words", "words", "pipeline", "async_pipeline"])
def test_each_of_many_is_whole(model: str) -> None:
    with serving("runner", THREADS) as server:
        marks = [f"s{n}-" if "words" in model else "w" for n in range(STREAMS)]
        streams = [server.send(model, words=20, delay=0.02, mark=mark) for mark in marks]
        for mark, stream in zip(marks, streams, strict=True):
            assert words(read_all(stream)) == "".join(f"{mark}{n} " for n in range(20))


@pytest.mark.parametrize("model", ["async_words", "words"])
def test_streams_that_wait_for_their_first_word_hold_none_either(model: str) -> None:
    with serving("runner", THREADS) as server:
        waiting = [server.send(model, before=3, words=2, mark=f"s{n}-") for n in range(50)]
        assert eventually(lambda: server.open_runs().get(model) == 50)
        begun = time.monotonic()
        assert server.ask("plain").status_code == 200 and server.ask("async_plain", stream=True).status_code == 200
        assert time.monotonic() - begun < 2.5, "it did not wait for them"
        for number, stream in enumerate(waiting):
            assert words(read_all(stream)) == f"s{number}-0 s{number}-1 "


@pytest.mark.parametrize("model", ["async_raises", "raises"])
def test_first_step_that_fails_is_an_answer_with_that_status(model: str) -> None:
    with serving("runner", THREADS, FLASKCOMPAT_AUDIT="1") as server:
        answer = server.ask(model, stream=True, where="call", error="ValueError")
        assert answer.status_code == 500 and answer.headers["content-type"] == "application/json"
        assert answer.json()["error"]["code"] == "pipeline_error" and "cache-control" not in answer.headers
        assert answer.headers["x-request-id"] in answer.json()["error"]["message"]
        assert eventually(lambda: '"surface": "chat' in server.log)
        [line] = [line for line in server.log.splitlines() if '"surface": "chat' in line]
        record = json.loads(line[line.index("{") :])
        assert record["status"] == 500 and record["error"] == "pipeline_error"


def test_client_that_does_not_read_keeps_nobody_waiting() -> None:
    """All writing is done by one loop here: it must not wait for one client."""
    with serving("runner", THREADS, FLASKCOMPAT_STALL_TIMEOUT="60") as server:
        stalled = [server.send("async_words", words=WORDS, delay=0, mark="x" * 1000) for _ in range(8)]
        assert eventually(lambda: server.open_runs().get("async_words") == 8)
        for _ in range(20):
            begun = time.monotonic()
            assert server.ask("async_words", stream=True, words=5).text.endswith("data: [DONE]\n\n")
            assert time.monotonic() - begun < 2
        assert server.memory < 300
        for stream in stalled[:4]:
            stream.close()
        for stream in stalled[4:]:
            assert len(words(read_all(stream)).split()) == WORDS
        assert eventually(lambda: server.open_runs().get("async_words") == 0)
