from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import queue
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from haystack import component
from haystack.dataclasses import StreamingChunk

from flaskcompat import (
    APIError,
    AsyncPipeline,
    BasePipelineWrapper,
    Pipeline,
    Registry,
    async_streaming_generator,
    streaming_generator,
)
from flaskcompat.errors import UnsupportedEndpoint, WrapperContractError
from flaskcompat.protocol.deltas import Whole
from flaskcompat.runtime.abandon import Abandoned
from flaskcompat.runtime.admission import Admission, Places
from flaskcompat.runtime.bridge import bridge
from flaskcompat.runtime.invoke import invoke, method_of
from flaskcompat.runtime.registry import Model
from flaskcompat.runtime.wrapper import Headers

from ..support import MODES, RAISING_MODES, Raise, chat_body, eventually, make_app, post, returning, scripted

WHOLE = Whole("response", {"object": "response", "output": []}, ())
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def model(wrapper: BasePipelineWrapper) -> Model:
    return Registry().add("m", wrapper)


def call(registered: Model, surface: Any, stream: bool, body: Any = None, headers: Headers | None = None) -> Any:
    ticket = Admission().enter(registered.name, Places(None, 0), None, lambda: False)
    extras = {"headers": lambda: headers or Headers([]), "principal": lambda: "someone"}
    method = method_of(registered, surface)
    return invoke(registered, method, [], body or {"model": "m"}, extras, ticket, elsewhere=stream)


def start(wrapper: BasePipelineWrapper, stream: bool, headers: Headers | None = None) -> Any:
    return call(model(wrapper), "chat_completion", stream, headers=headers)


def read(run: Any) -> list[Any]:
    items = []
    while not run.ended:
        items += run.take()
    run.close()
    return items


@both_ways
@pytest.mark.parametrize("mode", MODES)
def test_items_of_every_kind_of_method(mode: str, stream: bool) -> None:
    run = start(scripted(["a", "b", "c"], mode), stream)
    assert read(run) == ["a", "b", "c"] and run.error is None
    assert run.label.startswith("m.run_chat_completion")


@both_ways
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("result", ["text", WHOLE.answer])
def test_whole_result_is_one_item(result: Any, asynchronous: bool, stream: bool) -> None:
    expected = [(WHOLE,)] if result == WHOLE.answer else [result]
    assert read(start(returning(result, asynchronous=asynchronous), stream)) == expected


@both_ways
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("result", [None, 3, {"llm": {}}, {"object": "response"}])
def test_what_is_no_answer_is_refused(result: Any, asynchronous: bool, stream: bool) -> None:
    with pytest.raises(WrapperContractError):
        run = start(returning(result, asynchronous=asynchronous), stream)
        assert read(run) == []
        raise run.error


@both_ways
@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), asyncio.CancelledError(), StopIteration("x")])
@pytest.mark.parametrize("mode", RAISING_MODES)
def test_error_of_any_class_comes_as_data_after_the_items(mode: str, error: BaseException, stream: bool) -> None:
    run = start(scripted(["a", Raise(error)], mode), stream)
    assert read(run) == ["a"]
    assert run.error is error or run.error.__cause__ is error or isinstance(run.error, RuntimeError)


def test_error_of_the_method_itself() -> None:
    def boom() -> None:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        start(returning(boom), False)
    for wrapper, stream in ((returning(boom), True), (returning(boom, asynchronous=True), False)):
        run = start(wrapper, stream)
        assert read(run) == [] and isinstance(run.error, ValueError)


def test_surface_that_is_missing() -> None:
    class ChatOnly(BasePipelineWrapper):
        def run_chat_completion(self, model: str, messages: Any, body: Any) -> str:
            return ""

    with pytest.raises(UnsupportedEndpoint, match="run_response"):
        call(model(ChatOnly()), "response", False)


def test_headers_go_where_they_are_declared() -> None:
    class Asking(BasePipelineWrapper):
        def run_chat_completion(self, model: str, messages: Any, body: Any, headers: Any = None) -> str:
            return str(headers["X-A"])

    assert read(start(Asking(), False, Headers([("x-a", "1")]))) == ["1"]


class Blocking(BasePipelineWrapper):
    """Answers when it is let go; says when it was closed."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.closed = threading.Event()


@both_ways
def test_closing_ends_a_generator_at_its_next_item(stream: bool) -> None:
    class Wrapper(Blocking):
        def run_chat_completion(self, model: str, messages: Any, body: Any) -> Iterator[str]:
            try:
                yield "a"
                self.go.wait(20)
                yield "b"
                yield "never"
            finally:
                self.closed.set()

    wrapper = Wrapper()
    run = start(wrapper, stream)
    assert run.take() == ["a"]
    run.close()
    assert not wrapper.closed.is_set()
    wrapper.go.set()
    assert wrapper.closed.wait(20)


@both_ways
def test_closing_cancels_what_is_asynchronous_at_once(stream: bool) -> None:
    class Wrapper(Blocking):
        async def run_chat_completion_async(self, model: str, messages: Any, body: Any) -> AsyncIterator[str]:
            try:
                yield "a"
                await asyncio.Event().wait()
            finally:
                self.closed.set()

    wrapper = Wrapper()
    run = start(wrapper, stream)
    assert run.take() == ["a"]
    run.close()
    assert wrapper.closed.wait(20)
    run.close()


def test_closing_twice_lets_the_cleaning_up_end() -> None:
    cleaned = threading.Event()

    class Wrapper(BasePipelineWrapper):
        async def run_chat_completion_async(self, model: str, messages: Any, body: Any) -> AsyncIterator[str]:
            try:
                yield "a"
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.05)
                cleaned.set()

    run = start(Wrapper(), True)
    assert run.take() == ["a"]
    run.close()
    run.close()
    assert cleaned.wait(20)


@pytest.mark.parametrize("mode", ["coroutine list", "async generator", "async generator function"])
def test_closing_at_once_leaves_nothing_unawaited(mode: str) -> None:
    for _ in range(50):
        start(scripted(["a"], mode), True).close()
    assert eventually(lambda: bridge.active == 0)
    gc.collect()


def test_leaving_that_nobody_asked_for_is_a_failure() -> None:
    run = start(scripted(["a", Raise(Abandoned())]), True)
    assert read(run) == ["a"] and isinstance(run.error, Abandoned)
    run = start(scripted(["a", Raise(Abandoned())], "async generator"), True)
    assert read(run) == ["a"] and isinstance(run.error, Abandoned)


def test_closing_that_fails_is_logged_alone(caplog: pytest.LogCaptureFixture) -> None:
    class Wrapper(BasePipelineWrapper):
        def run_chat_completion(self, model: str, messages: Any, body: Any) -> Iterator[str]:
            try:
                yield from "ab"
            finally:
                raise ValueError("closing")

        async def run_response_async(self, model: str, input_items: Any, body: Any) -> AsyncIterator[str]:
            try:
                yield "a"
                await asyncio.Event().wait()
            finally:
                raise ValueError("closing")

    registered = model(Wrapper())
    run = call(registered, "chat_completion", True)
    run.take()
    run.close()
    run = call(registered, "response", True)
    assert run.take() == ["a"]
    run.close()
    assert eventually(lambda: bridge.active == 0)


def test_close_methods_that_raise() -> None:
    class Rude:
        def __iter__(self) -> Any:
            return self

        def __next__(self) -> str:
            raise StopIteration

        def close(self) -> None:
            raise SystemExit

    class RudeAsync:
        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> str:
            raise StopAsyncIteration

        async def aclose(self) -> None:
            raise SystemExit

    for result in (Rude(), RudeAsync()):
        run = start(returning(lambda r=result: r), True)
        assert read(run) == [] and run.error is None


def test_context_is_a_copy_that_lasts_over_the_run() -> None:
    seen = []

    class Wrapper(BasePipelineWrapper):
        def run_chat_completion(self, model: str, messages: Any, body: Any) -> Iterator[str]:
            def items() -> Iterator[str]:
                seen.append(variable.get())
                variable.set("from items")
                yield "a"
                seen.append(variable.get())

            seen.append(variable.get())
            variable.set("from method")
            return items()

        async def run_response_async(self, model: str, input_items: Any, body: Any) -> AsyncIterator[str]:
            seen.append(variable.get())
            variable.set("from async")
            yield "a"
            seen.append(variable.get())

    registered = model(Wrapper())
    token = variable.set("request")
    try:
        for stream in (False, True):
            read(call(registered, "chat_completion", stream))
            assert seen == ["request", "from method", "from items"]
            seen.clear()
        read(call(registered, "response", True))
        assert seen == ["request", "from async"]
        assert variable.get() == "request"
    finally:
        variable.reset(token)


def test_one_task_owns_an_async_generator_to_its_end() -> None:
    tasks = []

    class Wrapper(BasePipelineWrapper):
        async def run_chat_completion_async(self, model: str, messages: Any, body: Any) -> AsyncIterator[str]:
            async with asyncio.timeout(20):  # refuses to be left in another task than it was entered in
                try:
                    for text in "abc":
                        tasks.append(asyncio.current_task())
                        await asyncio.sleep(0)
                        yield text
                finally:
                    tasks.append(asyncio.current_task())

    assert read(start(Wrapper(), True)) == ["a", "b", "c"]
    assert len(tasks) == 4 and len(set(tasks)) == 1


def test_blocking_on_the_loop_s_thread_is_refused() -> None:
    class Wrapper(BasePipelineWrapper):
        async def run_chat_completion_async(self, model: str, messages: Any, body: Any) -> str:
            start(scripted(["x"], "async generator"), False)
            return "never"

    run = start(Wrapper(), False)
    assert read(run) == [] and "event loop's own thread" in str(run.error)


def test_500_asynchronous_streams_at_once_stay_apart() -> None:
    class Wrapper(BasePipelineWrapper):
        async def run_chat_completion_async(self, model: str, messages: Any, body: Any) -> AsyncIterator[str]:
            for i in range(20):
                await asyncio.sleep(0.001)
                yield f"{body['number']}:{i}"

    registered = model(Wrapper())
    answers: dict[int, list[str]] = {}

    def client(number: int) -> None:
        body = {"number": number}
        answers[number] = read(call(registered, "chat_completion", True, body))

    threads = [threading.Thread(target=client, args=(n,)) for n in range(500)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == {n: [f"{n}:{i}" for i in range(20)] for n in range(500)}


def test_run_closed_before_its_task_began() -> None:
    class Wrapper(BasePipelineWrapper):
        def run_chat_completion(self, model: str, messages: Any, body: Any) -> Any:
            entered.set()
            go.wait(20)

            async def never() -> AsyncIterator[str]:
                yield "a"
                await asyncio.Event().wait()

            return never()

    entered, go = threading.Event(), threading.Event()
    run = start(Wrapper(), True)
    assert entered.wait(20)
    run.close()
    go.set()
    assert eventually(lambda: run._job is not None)
    assert issubclass(Abandoned, BaseException) and not issubclass(Abandoned, Exception)


class _Fails(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise ValueError("s3cret")


@both_ways
@pytest.mark.parametrize("asynchronous", [False, True])
def test_log_that_fails_is_not_what_fails(asynchronous: bool, stream: bool) -> None:
    handler = _Fails()
    logging.getLogger("flaskcompat").addHandler(handler)
    app = make_app(m=scripted(["a", Raise(ValueError("x"))], "async generator" if asynchronous else "generator"))
    try:
        answer = post(app, "/v1/chat/completions", chat_body(stream=stream))
    finally:
        logging.getLogger("flaskcompat").removeHandler(handler)
    assert "pipeline_error" in answer.text


@both_ways
@pytest.mark.parametrize("surface", ["chat/completions", "responses"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_outside_event_that_is_none_is_told(asynchronous: bool, surface: str, stream: bool) -> None:
    class Wrapper(BasePipelineWrapper):
        def run_chat_completion(self, model: str, messages: Any, body: Any) -> Any:
            events: queue.Queue[Any] = queue.Queue()
            events.put(object())
            return streaming_generator(talker(Pipeline), external_event_queue=events)

        run_response = run_chat_completion

    class AsyncWrapper(Wrapper):
        async def run_chat_completion_async(self, model: str, messages: Any, body: Any) -> Any:
            events: asyncio.Queue[Any] = asyncio.Queue()
            events.put_nowait(object())
            return async_streaming_generator(talker(AsyncPipeline), external_event_queue=events)

        run_response_async = run_chat_completion_async

    body = {**chat_body(stream=stream), "input": "hi"}
    if surface == "responses":
        del body["messages"]
    answer = post(make_app(m=(AsyncWrapper if asynchronous else Wrapper)()), f"/v1/{surface}", body)
    assert "pipeline_error" in answer.text


@component
class Stubborn:
    """Goes on with something else when a callback raises, as a fallback generator does."""

    @component.output_types(text=str)
    def run(self, streaming_callback: Any = None) -> dict[str, str]:
        try:
            streaming_callback(StreamingChunk("first "))
            streaming_callback(StreamingChunk("", meta={"type": "response.failed"}))
        except Exception:
            streaming_callback(StreamingChunk("second "))
        return {"text": ""}

    @component.output_types(text=str)
    async def run_async(self, streaming_callback: Any = None) -> dict[str, str]:
        try:
            await streaming_callback(StreamingChunk("first "))
            await streaming_callback(StreamingChunk("", meta={"type": "response.failed"}))
        except Exception:
            await streaming_callback(StreamingChunk("second "))
        return {"text": ""}


def talker(kind: Any) -> Any:
    pipeline = kind()
    pipeline.add_component("talker", Stubborn())
    return pipeline


def test_failure_that_a_chunk_reports_is_no_exception_in_the_pipeline() -> None:
    class Wrapper(BasePipelineWrapper):
        def run_chat_completion(self, model: str, messages: Any, body: Any) -> Any:
            return streaming_generator(talker(Pipeline))

    class AsyncWrapper(Wrapper):
        async def run_chat_completion_async(self, model: str, messages: Any, body: Any) -> Any:
            return async_streaming_generator(talker(AsyncPipeline))

    for wrapper in (Wrapper(), AsyncWrapper()):
        answer = post(make_app(m=wrapper), "/v1/chat/completions", chat_body(stream=True)).text
        assert "first " in answer and "second " not in answer and "pipeline_error" in answer


class _Changed(APIError):
    """Fails when it is told."""

    def __init__(self) -> None:
        super().__init__("busy")
        self.status = "429"  # type: ignore[assignment]


@both_ways
@pytest.mark.parametrize("surface", ["chat/completions", "responses"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_error_that_cannot_be_told_is_told_in_fixed_words(asynchronous: bool, surface: str, stream: bool) -> None:
    app = make_app(m=scripted(["a", Raise(_Changed())], "async generator" if asynchronous else "generator"))
    body = {**chat_body(stream=stream), "input": "hi"}
    if surface == "responses":
        del body["messages"]
    assert "pipeline_error" in post(app, f"/v1/{surface}", body).text


def test_error_that_is_raised_again_and_again_keeps_no_frames() -> None:
    shared = APIError("no", status=400)
    app = make_app(m=scripted([Raise(shared)]))
    for stream in (False, True):
        assert post(app, "/v1/chat/completions", chat_body(stream=stream)).status_code == 400
        assert shared.__traceback__ is None
