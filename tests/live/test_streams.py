"""Streams over a real waitress socket: bytes, headers, timing, failures, clients that leave."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from haystack.dataclasses import ReasoningContent, StreamingChunk, ToolCallDelta

from flaskcompat import BasePipelineWrapper, PipelineEvent

from ..support import (
    MODES,
    RAISING_MODES,
    TIMEOUT,
    Raise,
    chat_body,
    chat_text,
    events_of,
    eventually,
    frames,
    make_app,
    raw_exchange,
    response_body,
    returning,
    scripted,
    serving,
)

SURFACES = {"chat": ("/v1/chat/completions", chat_body), "responses": ("/v1/responses", response_body)}
surfaces = pytest.mark.parametrize("surface", list(SURFACES))


def ask(url: str, surface: str, **more: Any) -> httpx.Response:
    path, body = SURFACES[surface]
    return httpx.post(url + path, json=body(**more), timeout=TIMEOUT)


def text_of(surface: str, response: httpx.Response) -> str:
    if response.headers["content-type"] == "application/json":
        body = response.json()
        if surface == "chat":
            return str(body["choices"][0]["message"]["content"])
        return "".join(p["text"] for item in body["output"] for p in item.get("content", []))
    events = events_of(response.text)
    if surface == "chat":
        return chat_text(events)
    return "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")


ITEMS: list[Any] = [
    "Hello ",
    StreamingChunk("there"),
    PipelineEvent("status", {}),
    StreamingChunk("", finish_reason="stop"),
]


@surfaces
def test_four_combinations_in_every_mode(surface: str) -> None:
    wrappers = {mode.replace(" ", "_"): scripted(ITEMS, mode) for mode in MODES}
    wrappers |= {"str": returning("Hello there"), "str_async": returning("Hello there", asynchronous=True)}
    with serving(make_app(**wrappers)) as url:
        for name in wrappers:
            for stream in (False, True):
                response = ask(url, surface, model=name, stream=stream)
                assert response.status_code == 200 and text_of(surface, response) == "Hello there", (name, stream)


@surfaces
def test_headers_and_last_frame(surface: str) -> None:
    with serving(make_app(m=scripted(ITEMS))) as url:
        response = ask(url, surface, stream=True)
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["x-accel-buffering"] == "no"
        assert response.headers["transfer-encoding"] == "chunked"
        assert not {"content-length", "content-encoding"} & set(response.headers)
        assert response.headers["x-request-id"].startswith("req_")
        found = frames(response.text)
        assert found[-1] == (None, "[DONE]") and response.text.endswith("data: [DONE]\n\n")
        for name, data in found[:-1]:
            assert name == (None if surface == "chat" else data["type"])
        whole = ask(url, surface)
        assert whole.headers["content-type"] == "application/json"
        assert whole.headers["x-request-id"] != response.headers["x-request-id"]


TEXT = 'emoji 😀 \u2028 \u0085 \r\n \x00\x1f "quoted" \\ data: [DONE]\n\nevent: x\n\n'


@surfaces
def test_text_survives_exactly(surface: str) -> None:
    pieces = list(TEXT)
    with serving(make_app(m=scripted(pieces))) as url:
        for stream in (False, True):
            assert text_of(surface, ask(url, surface, stream=stream)) == TEXT


@surfaces
def test_lone_surrogates_are_replaced(surface: str) -> None:
    with serving(make_app(m=scripted(["a\ud800b"]))) as url:
        for stream in (False, True):
            assert text_of(surface, ask(url, surface, stream=stream)) == "a\ufffdb"


@surfaces
@pytest.mark.parametrize("mode", RAISING_MODES)
def test_failure_midway_is_an_error_and_a_clean_end(surface: str, mode: str) -> None:
    with serving(make_app(m=scripted(["a", "b", Raise(ValueError("s3cret"))], mode))) as url:
        response = ask(url, surface, stream=True)  # httpx raises if the body is cut
    assert response.status_code == 200 and "s3cret" not in response.text
    assert text_of(surface, response) == "ab" if surface == "responses" else '"content":"b"' in response.text
    found = frames(response.text)
    if surface == "chat":
        assert found[-1][1]["error"]["code"] == "pipeline_error"
        assert '"finish_reason":"stop"' not in response.text
    else:
        (_, failed), (_, error), (_, done) = found[-3:]
        assert (failed["type"], error["type"], done) == ("response.failed", "error", "[DONE]")
        assert [d["sequence_number"] for _, d in found[:-1]] == list(range(len(found) - 1))


@surfaces
def test_wrong_item_midway_keeps_what_came_before(surface: str) -> None:
    with serving(make_app(m=scripted(["a", None], "list"))) as url:
        response = ask(url, surface, stream=True)
    assert response.status_code == 200 and "pipeline_error" in response.text
    deltas = [d for _, d in frames(response.text) if '"a"' in json.dumps(d)]
    assert deltas


@surfaces
@pytest.mark.parametrize("last", [PipelineEvent("status", {"t": object()}), ToolCallDelta(0, None, "{}")])
def test_what_came_before_a_failure_is_sent(surface: str, last: Any) -> None:
    item = StreamingChunk("", index=0, tool_calls=[last]) if isinstance(last, ToolCallDelta) else last
    go = threading.Event()

    def play() -> Iterator[Any]:
        yield "a"
        go.wait(TIMEOUT)
        yield "lost?"
        yield item

    path, body = SURFACES[surface]
    with (
        serving(make_app(m=returning(play))) as url,
        httpx.stream("POST", url + path, json=body(stream=True), timeout=TIMEOUT) as response,
    ):
        text = ""
        for piece in response.iter_text():
            text += piece
            go.set()
    assert "lost?" in text and "pipeline_error" in text
    if surface == "responses":
        events = events_of(text)
        assert [e["sequence_number"] for e in events] == list(range(len(events)))
        said = "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")
        assert [e["text"] for e in events if e["type"] == "response.output_text.done"] == [said]


@surfaces
@pytest.mark.parametrize("kind", ["é", "x\n\ndata: [DONE]"])
def test_event_of_any_type_leaves_the_stream_whole(surface: str, kind: str) -> None:
    with serving(make_app(m=scripted(["a", PipelineEvent(kind, {}), "b"]))) as url:
        response = ask(url, surface, stream=True)
    assert text_of(surface, response) == "ab" and response.text.count("data: [DONE]\n\n") == 1
    [event] = [e["event"] for e in events_of(response.text) if "event" in e]
    assert event["type"] == kind


@surfaces
def test_empty_run_is_a_whole_stream(surface: str) -> None:
    with serving(make_app(m=scripted([]))) as url:
        response = ask(url, surface, stream=True)
    events = events_of(response.text)
    if surface == "chat":
        assert [e["choices"][0]["finish_reason"] for e in events] == [None, "stop"]
    else:
        assert [e["type"] for e in events][-1] == "response.completed"
    assert response.text.endswith("data: [DONE]\n\n")


class Paced(BasePipelineWrapper):
    """Gives an item each time it is let, and notes when it was closed."""

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.closed = threading.Event()

    def run_chat_completion(self, model: str, messages: Any, body: Any) -> Iterator[str]:
        try:
            for number in range(1000):
                assert self.go.acquire(timeout=TIMEOUT)
                yield f"w{number} "
        finally:
            self.closed.set()

    async def run_response_async(self, model: str, input_items: Any, body: Any) -> AsyncIterator[str]:
        try:
            for number in range(1000):
                while not self.go.acquire(blocking=False):
                    await asyncio.sleep(0.001)
                yield f"w{number} "
        finally:
            self.closed.set()


@surfaces
def test_each_item_leaves_when_it_was_made(surface: str) -> None:
    wrapper = Paced()
    path, body = SURFACES[surface]
    with serving(make_app(m=wrapper)) as url:
        wrapper.go.release()
        with httpx.stream("POST", url + path, json=body(stream=True), timeout=TIMEOUT) as response:
            text, number = "", 0
            for piece in response.iter_text():
                text += piece
                if f'"w{number} "' in text:
                    # The next one cannot exist yet: this one came alone.
                    assert f"w{number + 1} " not in text
                    number += 1
                    if number == 5:
                        break
                    wrapper.go.release()
            assert number == 5
    wrapper.go.release(2)
    assert wrapper.closed.wait(TIMEOUT)


@surfaces
def test_gaps_between_words_are_the_wrapper_s(surface: str) -> None:
    class Slow(BasePipelineWrapper):
        def run_chat_completion(self, model: str, messages: Any, body: Any) -> Iterator[str]:
            for number in range(5):
                time.sleep(0.2)
                yield f"w{number} "

        async def run_response_async(self, model: str, input_items: Any, body: Any) -> AsyncIterator[str]:
            for number in range(5):
                await asyncio.sleep(0.2)
                yield f"w{number} "

    path, body = SURFACES[surface]
    times: list[float] = []
    with (
        serving(make_app(m=Slow())) as url,
        httpx.stream("POST", url + path, json=body(stream=True), timeout=TIMEOUT) as response,
    ):
        text = ""
        for piece in response.iter_text():
            text += piece
            while f'"w{len(times)} "' in text:
                times.append(time.monotonic())
    gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
    assert len(gaps) == 4 and sum(gaps) > 0.6 and sum(gap > 0.1 for gap in gaps) >= 3


@contextmanager
def _request(url: str, path: str, body: dict[str, Any]) -> Iterator[socket.socket]:
    """Send a request over a socket of its own; leaving the block closes it."""
    data = json.dumps(body).encode()
    with socket.create_connection((httpx.URL(url).host, httpx.URL(url).port or 0), timeout=TIMEOUT) as connection:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        connection.sendall(head.encode() + data)
        yield connection


def _read_until(connection: socket.socket, mark: bytes) -> None:
    seen = b""
    while mark not in seen:
        seen += connection.recv(65536)


class Watched(BasePipelineWrapper):
    """Is silent for ever after *said*; async, so that leaving can be noticed at once."""

    def __init__(self, *said: str) -> None:
        self.said = said
        self.begun = threading.Event()
        self.closed = threading.Event()

    async def run_chat_completion_async(self, model: str, messages: Any, body: Any) -> AsyncIterator[str]:
        try:
            self.begun.set()
            for text in self.said:
                yield text
            await asyncio.Event().wait()
        finally:
            self.closed.set()

    run_response_async = run_chat_completion_async


@surfaces
@pytest.mark.parametrize("said", [(), ("hello",)], ids=["before the first token", "after it"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_client_that_leaves_a_silent_run_ends_it(surface: str, said: tuple[str, ...], stream: bool) -> None:
    wrapper = Watched(*said)
    path, body = SURFACES[surface]
    with serving(make_app(m=wrapper)) as url:
        with _request(url, path, body(stream=stream)) as connection:
            assert wrapper.begun.wait(TIMEOUT)
            if said and stream:
                _read_until(connection, b"hello")
        assert wrapper.closed.wait(TIMEOUT)


@surfaces
def test_client_that_leaves_a_talking_run_ends_it(surface: str) -> None:
    wrapper = Paced()
    path, body = SURFACES[surface]
    with serving(make_app(m=wrapper)) as url:
        wrapper.go.release()
        with _request(url, path, body(stream=True)) as connection:
            _read_until(connection, b"w0 ")
        assert eventually(lambda: wrapper.go.release() or wrapper.closed.is_set())  # type: ignore[func-returns-value]


@surfaces
def test_silence_gets_comments_and_a_late_failure_an_error_event(surface: str) -> None:
    go = threading.Event()

    def wait_and_fail() -> Iterator[Any]:
        go.wait(TIMEOUT)
        yield Raise
        raise AssertionError

    app = make_app(m=returning(wait_and_fail))
    app.config["FLASKCOMPAT_KEEP_ALIVE"] = 0.05
    path, body = SURFACES[surface]
    with (
        serving(app) as url,
        httpx.stream("POST", url + path, json=body(stream=True), timeout=TIMEOUT) as response,
    ):
        assert response.status_code == 200
        text = ""
        for piece in response.iter_text():
            text += piece
            if text.count(": keep-alive\n\n") == 3:
                go.set()
    first = events_of(text)[0]
    assert first.get("type") == "response.created" or first["choices"][0]["delta"] == {"role": "assistant"}
    assert "pipeline_error" in text


@surfaces
def test_keep_alive_can_be_switched_off(surface: str) -> None:
    go = threading.Event()

    def wait() -> Iterator[str]:
        go.wait(TIMEOUT)
        yield "a"

    app = make_app(m=returning(wait))
    app.config["FLASKCOMPAT_KEEP_ALIVE"] = 0.0
    with serving(app) as url:
        threading.Timer(0.7, go.set).start()  # longer than one look for a client that has left
        response = ask(url, surface, stream=True)
    assert "keep-alive" not in response.text and text_of(surface, response) == "a"


@surfaces
def test_burst_is_whole(surface: str) -> None:
    words = [f"w{i} " for i in range(20_000)]
    with serving(make_app(m=scripted(words), a=scripted(words, "async generator"))) as url:
        for name in ("m", "a"):
            assert text_of(surface, ask(url, surface, model=name, stream=True)) == "".join(words)
            assert text_of(surface, ask(url, surface, model=name)) == "".join(words)


@surfaces
def test_many_streams_at_once_never_mix(surface: str) -> None:
    class Numbered(BasePipelineWrapper):
        def run_chat_completion(self, model: str, messages: Any, body: Any) -> Iterator[str]:
            for i in range(20):
                time.sleep(0.005)
                yield f"{body['user']}:{i} "

        async def run_response_async(self, model: str, input_items: Any, body: Any) -> AsyncIterator[str]:
            for i in range(20):
                await asyncio.sleep(0.005)
                yield f"{body['user']}:{i} "

    answers: dict[int, str] = {}
    with serving(make_app(m=Numbered()), threads=40) as url:

        def client(number: int) -> None:
            answers[number] = text_of(surface, ask(url, surface, stream=True, user=str(number)))

        threads = [threading.Thread(target=client, args=(n,)) for n in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert answers == {n: "".join(f"{n}:{i} " for i in range(20)) for n in range(40)}


def test_asynchronous_wrappers_do_not_wait_for_each_other() -> None:
    together = threading.Barrier(10)

    class Meeting(BasePipelineWrapper):
        async def run_chat_completion_async(self, model: str, messages: Any, body: Any) -> AsyncIterator[str]:
            await asyncio.to_thread(together.wait, TIMEOUT)  # passes only if all ten run at the same time
            yield "met"

    answers = []
    with serving(make_app(m=Meeting())) as url:
        threads = [
            threading.Thread(target=lambda: answers.append(ask(url, "chat", stream=True).text)) for _ in range(10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(answers) == 10 and all("met" in answer for answer in answers)


def test_raw_bytes_of_a_stream() -> None:
    thought = StreamingChunk("", index=0, reasoning=ReasoningContent("hm"))
    call = StreamingChunk("", index=0, tool_calls=[ToolCallDelta(0, "f", "{}", id="c")])
    with serving(make_app(m=scripted([thought, "hi", call]))) as url:
        data = json.dumps(chat_body(stream=True)).encode()
        head = b"POST /chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
        answer = raw_exchange(url, head + b"Content-Length: %d\r\n\r\n" % len(data) + data)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"0\r\n\r\n")
    assert b"data: [DONE]\n\n" in answer and b"event:" not in answer


@surfaces
def test_megabyte_of_messages(surface: str) -> None:
    path, _ = SURFACES[surface]
    messages = [{"role": "user", "content": "x" * 1000} for _ in range(1000)]
    body = {"model": "m", "messages" if surface == "chat" else "input": messages}
    with serving(make_app(m=returning("ok"))) as url:
        assert text_of(surface, httpx.post(url + path, json=body, timeout=TIMEOUT)) == "ok"
