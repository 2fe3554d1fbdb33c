"""Our runner, in this process, with clients and applications that are in its way."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import flask
import httpx
import pytest
from flask import Flask
from haystack import component
from haystack.dataclasses import StreamingChunk

from flaskcompat import BasePipelineWrapper, FlaskCompat, Pipeline, streaming_generator
from flaskcompat.errors import ShuttingDown
from flaskcompat.server import channel, make_server, memory, runner
from flaskcompat.server.detached import Writers
from flaskcompat.server.runner import Runner

from ..support import TIMEOUT, chat_body, eventually, response_body, returning

#: Far less than what a test waits for in vain without the rule that it is about.
SOON = 5.0


@contextmanager
def running(app: Flask, threads: int = 8, **options: Any) -> Iterator[Runner]:
    served = make_server(app, port=0, threads=threads)
    for name, value in options.items():
        setattr(served.adj, name, value)
    thread = threading.Thread(target=served.run, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        served.end()
        thread.join(TIMEOUT)
        served.close()


def make_app(wrapper: BasePipelineWrapper, **settings: Any) -> Flask:
    app = Flask("host", static_folder=None)
    app.config.update(settings)
    FlaskCompat(app).registry.add("m", wrapper)
    return app


def connect(served: Runner, room: int | None = None) -> socket.socket:
    """:param room: bytes that may wait unread on this side."""
    client = socket.socket()
    if room is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    client.settimeout(TIMEOUT)
    client.connect(("127.0.0.1", served.port))
    return client


def request(body: dict[str, Any], path: str = "/v1/chat/completions") -> bytes:
    data = json.dumps(body).encode()
    return (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    ).encode() + data


def ask(served: Runner, body: dict[str, Any] | None = None, timeout: float = SOON) -> httpx.Response:
    url = f"http://127.0.0.1:{served.port}/v1/chat/completions"
    return httpx.post(url, json=body or chat_body(), timeout=timeout)


def models(served: Runner) -> int:
    return httpx.get(f"http://127.0.0.1:{served.port}/v1/models", timeout=SOON).status_code


class Waits(BasePipelineWrapper):
    """Answers when it is let."""

    def setup(self) -> None:
        self.go = threading.Event()
        self.inside = 0

    def run_chat_completion(self, model: str, messages: Any, body: Any) -> str:
        if body.get("user") == "wait":
            self.inside += 1
            assert self.go.wait(TIMEOUT)
        return "done"

    def run_file_upload(self, *args: Any) -> dict[str, Any]:
        self.inside += 1
        assert self.go.wait(TIMEOUT)
        return {"id": "file-1"}


WAIT = chat_body(user="wait")

# -- clients that do not read ------------------------------------------------------------------------------


class LongAnswers(BasePipelineWrapper):
    """All at once, and much more than the buffers on the way hold: the end of a response repeats it."""

    def run_response(self, model: str, input_items: Any, body: Any) -> Iterator[str]:
        yield "a"
        time.sleep(0.2)  # until then the stream has left its thread
        yield from ["x" * 10_000] * 40

    async def run_chat_completion_async(self, model: str, messages: Any, body: Any) -> AsyncIterator[str]:
        for word in ("a ", "b "):
            await asyncio.sleep(0.01)
            yield word


class LongAsyncAnswers(LongAnswers):
    async def run_response_async(self, model: str, input_items: Any, body: Any) -> AsyncIterator[str]:
        yield "a"
        await asyncio.sleep(0.2)
        for _ in range(40):
            yield "x" * 10_000


@pytest.mark.parametrize("wrapper", [LongAnswers, LongAsyncAnswers])
def test_end_of_an_answer_that_is_not_read_waits_for_nobody(wrapper: type[BasePipelineWrapper]) -> None:
    with running(make_app(wrapper(), FLASKCOMPAT_STALL_TIMEOUT=60)) as served, ExitStack() as stack:
        for _ in range(3):
            client = stack.enter_context(connect(served, 4096))
            client.sendall(request(response_body(stream=True), "/v1/responses"))
        assert eventually(lambda: sum(c.total_outbufs_len > 300_000 for c in served._channels()) == 3)
        for stream in (True, False):
            begun = time.monotonic()
            assert ask(served, chat_body(stream=stream)).status_code == 200
            assert time.monotonic() - begun < SOON


class AllAtOnce(BasePipelineWrapper):
    def run_chat_completion(self, model: str, messages: Any, body: Any) -> Any:
        return ["x" * 15_000] * 60 if body["stream"] else "short"


def test_stream_that_is_there_at_once_and_not_read_holds_no_thread() -> None:
    app = make_app(AllAtOnce(), FLASKCOMPAT_STALL_TIMEOUT=60)
    with running(app, threads=2) as served, ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(connect(served, 4096)).sendall(request(chat_body(stream=True)))
        assert eventually(lambda: sum(c.total_outbufs_len > 300_000 for c in served._channels()) == 12)
        assert ask(served).status_code == 200


def test_slow_reader_is_no_client_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "STALL_WHILE_OTHERS_WAIT", 1.0)
    wrapper = returning(["x" * 15_000] * 100)
    with running(make_app(wrapper, FLASKCOMPAT_MAX_GENERATIONS=1)) as served, ExitStack() as stack:
        slow = stack.enter_context(connect(served, 4096))
        slow.sendall(request(chat_body(stream=True)))
        assert eventually(lambda: any(c.total_outbufs_len for c in served._channels()))
        stack.enter_context(connect(served)).sendall(request(chat_body(stream=True)))
        until = time.monotonic() + 3
        while time.monotonic() < until:
            time.sleep(0.2)
            assert slow.recv(5000)
        assert any(c.total_outbufs_len for c in served._channels())


def test_stray_line_after_a_request_does_not_cut_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "HEAD_TIMEOUT", 0.3)
    wrapper = Waits()
    with running(make_app(wrapper)) as served, connect(served) as client:
        client.sendall(request(WAIT) + b"\r\nGET /v1")
        assert eventually(lambda: wrapper.inside == 1)
        time.sleep(1)  # several rounds of looking after
        wrapper.go.set()
        assert client.recv(1000).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("length", [500_000, 5_000_000])
def test_complete_answer_that_is_not_read_is_cut(length: int) -> None:
    app = make_app(returning("x" * length), FLASKCOMPAT_STALL_TIMEOUT=0.5)
    with running(app) as served, connect(served, 4096) as client:
        client.sendall(request(chat_body()))
        assert eventually(lambda: any(c.total_outbufs_len for c in served._channels()))
        assert eventually(lambda: not served._channels(), SOON)


def test_client_that_takes_a_byte_now_and_then_counts_as_one_that_does_not_read() -> None:
    app = make_app(returning("x" * 1_000_000), FLASKCOMPAT_STALL_TIMEOUT=0.5)
    with running(app) as served, connect(served, 4096) as client:
        client.sendall(request(chat_body()))

        def is_cut() -> bool:
            client.recv(1)
            return not served._channels()

        assert eventually(is_cut, SOON)


# -- clients that leave, or do nothing ---------------------------------------------------------------------


def test_leaver_is_seen_behind_a_request_that_waits_on_the_same_connection() -> None:
    closed = threading.Event()

    class Endless(BasePipelineWrapper):
        def run_chat_completion(self, model: str, messages: Any, body: Any) -> Iterator[str]:
            try:
                while True:
                    time.sleep(0.05)
                    yield "a "
            finally:
                closed.set()

    with running(make_app(Endless())) as served:
        with connect(served) as client:
            client.sendall(request(chat_body(stream=True)) + request(chat_body(stream=True)))
            client.recv(100)
        assert closed.wait(SOON)


def test_thread_in_a_wrapper_whose_client_has_left_is_replaced() -> None:
    wrapper = Waits()
    with running(make_app(wrapper, FLASKCOMPAT_MAX_GENERATIONS=2), threads=2) as served:
        for number in (1, 2):
            with connect(served) as client:
                client.sendall(request(WAIT))
                assert eventually(lambda n=number: wrapper.inside == n)  # type: ignore[misc]
        assert ask(served).json()["choices"][0]["message"]["content"] == "done"
        assert served.lanes._answers.threads == 4
        # As many again cannot be replaced: what leavers leave behind is bounded.
        third = connect(served)
        third.sendall(request(WAIT))
        assert eventually(lambda: wrapper.inside == 3)
        third.close()
        wrapper.go.set()
        assert eventually(lambda: served.lanes._answers.threads == 2)
        assert ask(served).status_code == 200


def test_head_that_takes_too_long_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "HEAD_TIMEOUT", 0.3)
    with running(make_app(Waits())) as served, connect(served) as client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost:")
        assert client.recv(10) == b""


def test_idle_connection_is_closed() -> None:
    with running(make_app(Waits()), channel_timeout=0.3) as served, connect(served) as client:
        assert client.recv(10) == b""


def test_idle_connections_make_room_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_IDLE_BEFORE_CLOSED", 0.2)
    with running(make_app(Waits()), connection_limit=12) as served, ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connect(served))
        assert models(served) == 200


# -- threads for answers, and threads for the rest ---------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat//completions/", "/v1//chat/completions"])
def test_answers_leave_threads_for_short_requests(path: str) -> None:
    wrapper = Waits()
    with running(make_app(wrapper), threads=2) as served, ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(connect(served)).sendall(request(WAIT, path))
        assert eventually(lambda: wrapper.inside == 2)
        assert models(served) == 200
        wrapper.go.set()


def test_uploads_leave_threads_for_short_requests() -> None:
    wrapper = Waits()
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n'
    form += b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n--b--\r\n'
    head = "POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    with running(make_app(wrapper), threads=2) as served, ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(connect(served)).sendall(f"{head}Content-Length: {len(form)}\r\n\r\n".encode() + form)
        assert eventually(lambda: wrapper.inside == 2)
        assert models(served) == 200
        wrapper.go.set()


def test_pages_of_a_host_have_threads_of_their_own() -> None:
    wrapper, go = Waits(), threading.Event()
    app = make_app(wrapper)

    @app.get("/page")
    def page() -> str:
        go.wait(TIMEOUT)
        return "page"

    with running(app, threads=16) as served, ExitStack() as stack:
        for _ in range(16):
            stack.enter_context(connect(served)).sendall(b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n")
        assert models(served) == 200 and ask(served).status_code == 200
        go.set()


def test_place_is_free_when_the_answer_is_over_whatever_its_end_takes() -> None:
    app, go = make_app(returning(["a"]), FLASKCOMPAT_MAX_GENERATIONS=2), threading.Event()

    @app.get("/page")
    def page() -> str:
        go.wait(TIMEOUT)
        return "page"

    with running(app, threads=2) as served, ExitStack() as stack:
        for _ in range(12):  # all threads that could work off its end
            stack.enter_context(connect(served)).sendall(b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(6):
            client = stack.enter_context(connect(served))
            client.sendall(request(chat_body(stream=True)))
            answer = b""
            while b"[DONE]" not in answer:
                data = client.recv(1000)
                assert data, answer
                answer += data
        go.set()


# -- what an application may do ----------------------------------------------------------------------------


def _exit() -> None:
    if flask.request.headers.get("x-good") is None:
        raise SystemExit("s3cret")


def before(app: Flask) -> None:
    app.before_request(_exit)


def at_the_end(app: Flask) -> None:
    @app.after_request
    def add(response: Any) -> Any:
        response.call_on_close(flask.copy_current_request_context(_exit))
        return response


@pytest.mark.parametrize("spoil", [before, at_the_end])
@pytest.mark.parametrize("stream", [True, False])
def test_exit_in_a_host_s_hook_ends_its_own_request_alone(spoil: Callable[[Flask], None], stream: bool) -> None:
    app = make_app(returning("a"), FLASKCOMPAT_MAX_GENERATIONS=1)
    spoil(app)
    with running(app, threads=2) as served:
        for _ in range(3):
            with connect(served) as client:
                client.sendall(request(chat_body(stream=stream)))
                answer = client.recv(1000)
            assert answer.startswith((b"HTTP/1.1 500", b"HTTP/1.1 200")) and b"s3cret" not in answer
        assert eventually(lambda: not served.lanes._open)
        url = f"http://127.0.0.1:{served.port}/v1/chat/completions"
        assert httpx.post(url, json=chat_body(), headers={"x-good": "1"}, timeout=SOON).status_code == 200


@component
class OwnLoop:
    """Calls back from inside a loop of its own, which ends before it has another turn."""

    @component.output_types(text=str)
    def run(self, piece: str, streaming_callback: Any = None) -> dict[str, str]:
        async def make() -> None:
            for _ in range(5):
                streaming_callback(StreamingChunk(piece))

        time.sleep(0.1)  # until then the stream has left its thread
        asyncio.run(make())
        time.sleep(0.1)
        return {"text": ""}


@pytest.mark.parametrize("piece", ["a ", "x" * 20_000])
def test_loop_of_a_user_s_own_is_not_relied_on(piece: str) -> None:
    class Wrapper(BasePipelineWrapper):
        def run_chat_completion(self, model: str, messages: Any, body: Any) -> Any:
            pipeline = Pipeline()
            pipeline.add_component("own_loop", OwnLoop())
            return streaming_generator(pipeline, pipeline_run_args={"piece": piece})

    with running(make_app(Wrapper())) as served:
        answer = ask(served, chat_body(stream=True))
        assert answer.text.count(piece) == 5 and answer.text.endswith("data: [DONE]\n\n")


def test_stream_that_fails_at_once_says_that_its_connection_ends() -> None:
    class Fails(BasePipelineWrapper):
        def run_chat_completion(self, model: str, messages: Any, body: Any) -> Any:
            time.sleep(0.1)
            raise ValueError("s3cret")

    with running(make_app(Fails())) as served, connect(served) as client:
        client.sendall(request(chat_body(stream=True)))
        answer = b""
        while data := client.recv(1000):
            answer += data
        assert answer.startswith(b"HTTP/1.1 500") and b"Connection: close\r\n" in answer


def test_what_fails_in_one_turn_of_the_loop_does_not_end_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(make_app(Waits())) as served:
        failing = [RuntimeError("of one connection")]
        look_after = served.look_after

        def fail_once(channels: Any) -> None:
            if failing:
                raise failing.pop()
            look_after(channels)

        monkeypatch.setattr(served, "look_after", fail_once)
        assert eventually(lambda: not failing)
        assert models(served) == 200


def test_request_is_answered_once_when_the_process_stops() -> None:
    wrapper = Waits()
    with running(make_app(wrapper)) as served, connect(served) as client:
        client.sendall(request(WAIT))
        assert eventually(lambda: wrapper.inside == 1)
        [connection] = served._channels()
        connection.answer_stopped()
        connection.answer_stopped()
        wrapper.go.set()
        answer = b""
        while data := client.recv(1000):
            answer += data
        assert answer.count(b"HTTP/1.1 ") == 1 and ShuttingDown.message.encode() in answer


def test_bytes_go_to_a_connection_under_the_lock_that_closing_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """After that its descriptor may be another client's."""
    sent: list[bool] = []
    send = channel.Channel.send

    def watched(self: channel.Channel, data: bytes, do_close: bool = True) -> int:
        if threading.current_thread().name.startswith("flaskcompat-answers"):
            sent.append(self.outbuf_lock._is_owned())  # type: ignore[attr-defined]
        return send(self, data, do_close)

    monkeypatch.setattr(channel.Channel, "send", watched)
    with running(make_app(returning("a"))) as served:
        assert ask(served).status_code == 200
    assert sent and all(sent)


def test_what_is_refused_before_the_application_has_an_audit_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="flaskcompat.audit")
    with running(make_app(returning("a"), FLASKCOMPAT_AUDIT=True, FLASKCOMPAT_API_KEYS="ann=key")) as served:
        answer = ask(served)
    [record] = [json.loads(r.getMessage()) for r in caplog.records if r.name == "flaskcompat.audit"]
    assert answer.status_code == record["status"] == 401 and record["error"] == "invalid_api_key"
    assert record["request_id"] == answer.headers["x-request-id"] and record["path"] == "/v1/chat/completions"


def test_what_haystack_imports_at_a_first_run_is_there_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = threading.Event()
    monkeypatch.setattr("flaskcompat.runtime.plan.prepare", prepared.set)
    with running(make_app(returning("x"))):
        assert prepared.wait(TIMEOUT)


@pytest.mark.parametrize(("chunked", "largest"), [(True, 16 * 1024), (False, 256 * 1024)])
def test_large_pieces_are_read_of_bodies_with_a_length_alone(
    chunked: bool, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    recv = channel.HTTPChannel.recv

    def watched(self: channel.Channel, size: int) -> bytes:
        asked.append(size)
        return bytes(recv(self, size))

    monkeypatch.setattr(channel.HTTPChannel, "recv", watched)
    body = json.dumps(chat_body(text="x" * 400_000)).encode()
    with running(make_app(returning("x"))) as served:
        url = f"http://127.0.0.1:{served.port}/v1/chat/completions"
        content = iter([body[:5], body[5:]]) if chunked else body
        answer = httpx.post(url, content=content, headers={"Content-Type": "application/json"}, timeout=TIMEOUT)
        assert answer.status_code == 200
    assert max(asked) == largest


@pytest.mark.parametrize(("few", "files"), [(channel.FEW, 0), (0, 1)])
def test_long_conversation_goes_through_a_file_only_among_many_connections(
    few: int, files: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    make = tempfile.TemporaryFile

    def watched(*args: Any, **kwargs: Any) -> Any:
        made.append(args)
        return make(*args, **kwargs)

    monkeypatch.setattr(tempfile, "TemporaryFile", watched)
    monkeypatch.setattr(channel, "FEW", few)
    with running(make_app(returning("x"))) as served:
        assert ask(served, chat_body(text="x" * 1_000_000)).status_code == 200
    assert len(made) == files


def test_many_threads_ask_less_often_for_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    before, few = sys.getswitchinterval(), threading.active_count()
    with running(make_app(returning("x"))):
        monkeypatch.setattr(runner, "_MANY_THREADS", few)
        assert eventually(lambda: sys.getswitchinterval() == pytest.approx(0.02))
        monkeypatch.setattr(runner, "_MANY_THREADS", few + 1000)
        assert eventually(lambda: sys.getswitchinterval() == before)
        monkeypatch.setattr(runner, "_MANY_THREADS", few)
        assert eventually(lambda: sys.getswitchinterval() != before)
    assert sys.getswitchinterval() == before


@pytest.mark.parametrize(("environ", "calls"), [({}, [(-3, 4 << 20), (-1, 8 << 20)]), ({"GLIBC_TUNABLES": "x"}, [])])
def test_freed_memory_is_kept_unless_the_environment_says_otherwise(
    environ: dict[str, str], calls: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    library = SimpleNamespace(gnu_get_libc_version=None, mallopt=lambda *call: seen.append(call))
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: library)
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    memory.keep_freed_memory()
    assert seen == calls
    del library.mallopt
    memory.keep_freed_memory()


def test_what_is_to_be_written_after_the_end_is_not_lost() -> None:
    writers, done = Writers(), [threading.Event() for _ in range(3)]
    writers.start()
    writers.add(done[0].set)
    assert done[0].wait(TIMEOUT)
    writers.stop()
    writers.add(done[1].set)  # before the thread has ended, or after
    assert done[1].wait(TIMEOUT)
    assert eventually(lambda: not any(thread.name == "flaskcompat-writer" for thread in threading.enumerate()))
    writers.add(done[2].set)
    assert done[2].is_set()
