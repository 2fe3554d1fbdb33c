"""Every way in which a wrapper may run code: each calls ``work()`` at each place where code of its own runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from haystack import Pipeline, component
from haystack.dataclasses import StreamingChunk

from flaskcompat import BasePipelineWrapper, async_streaming_generator, streaming_generator

Work = Callable[[], Any]


def pipeline_of(work: Work) -> Pipeline:
    @component
    class Worker:
        @component.output_types(text=str)
        def run(self, text: str, streaming_callback: Any = None) -> dict[str, Any]:
            said = str(work())
            if streaming_callback is not None:
                streaming_callback(StreamingChunk(said))
            return {"text": said}

        @component.output_types(text=str)
        async def run_async(self, text: str, streaming_callback: Any = None) -> dict[str, Any]:
            said = str(work())
            if streaming_callback is not None:
                await streaming_callback(StreamingChunk(said))
            return {"text": said}

    pipeline = Pipeline()
    pipeline.add_component("worker", Worker())
    return pipeline


_ARGUMENTS = {"text": "hi"}


def _text(work: Work) -> Any:
    def method(self: Any, *_: Any) -> Any:
        return str(work())

    return method


def _generator(work: Work) -> Any:
    def method(self: Any, *_: Any) -> Iterator[Any]:
        yield f"{work()} "
        yield str(work())

    return method


def _iterator(work: Work) -> Any:
    def method(self: Any, *_: Any) -> Any:
        said = f"{work()} "
        return (text for text in (said, str(work())))

    return method


def _pipeline_run(work: Work) -> Any:
    pipeline = pipeline_of(work)

    def method(self: Any, *_: Any) -> Any:
        work()
        return streaming_generator(pipeline, pipeline_run_args=_ARGUMENTS)

    return method


def _wrapped_pipeline(work: Work) -> Any:
    pipeline = pipeline_of(work)

    def method(self: Any, *_: Any) -> Iterator[Any]:
        work()
        yield from streaming_generator(pipeline, pipeline_run_args=_ARGUMENTS)
        work()

    return method


def _coroutine(work: Work) -> Any:
    async def method(self: Any, *_: Any) -> Any:
        work()
        await asyncio.sleep(0)
        return str(work())

    return method


def _coroutine_with_call(work: Work) -> Any:
    async def method(self: Any, *_: Any) -> Any:
        work()
        await asyncio.gather(asyncio.to_thread(work), asyncio.to_thread(work))
        return str(await asyncio.to_thread(work))

    return method


def _async_generator(work: Work) -> Any:
    async def method(self: Any, *_: Any) -> AsyncIterator[Any]:
        yield f"{work()} "
        await asyncio.sleep(0)
        yield str(work())

    return method


def _async_pipeline(work: Work) -> Any:
    pipeline = pipeline_of(work)

    async def method(self: Any, *_: Any) -> Any:
        work()
        return async_streaming_generator(pipeline, pipeline_run_args=_ARGUMENTS)

    return method


def _shielded_pipeline(work: Work) -> Any:
    pipeline = pipeline_of(work)

    async def method(self: Any, *_: Any) -> Any:
        work()
        return async_streaming_generator(pipeline, pipeline_run_args=_ARGUMENTS, shield_pipeline_task=True)

    return method


def _coroutine_generator(work: Work) -> Any:
    async def method(self: Any, *_: Any) -> Any:
        work()
        return (str(work()) for _ in range(2))

    return method


def _late_async_generator(work: Work) -> Any:
    def method(self: Any, *_: Any) -> Any:
        work()

        async def items() -> AsyncIterator[str]:
            yield str(work())

        return items()

    return method


SHAPES: dict[str, Callable[[Work], Any]] = {
    "text": _text,
    "generator": _generator,
    "iterator": _iterator,
    "pipeline": _pipeline_run,
    "wrapped pipeline": _wrapped_pipeline,
    "coroutine": _coroutine,
    "coroutine that calls functions in threads": _coroutine_with_call,
    "async generator": _async_generator,
    "async pipeline": _async_pipeline,
    "shielded pipeline": _shielded_pipeline,
    "coroutine that returns a generator": _coroutine_generator,
    "function that returns an async generator": _late_async_generator,
}
_ASYNC = (
    "coroutine",
    "coroutine that calls functions in threads",
    "async generator",
    "async pipeline",
    "shielded pipeline",
    "coroutine that returns a generator",
)


def shaped(shape: str, work: Work) -> BasePipelineWrapper:
    """A wrapper whose methods, on both surfaces, are of that *shape*."""
    method = SHAPES[shape](work)
    suffix = "_async" if shape in _ASYNC else ""
    methods = {f"run_chat_completion{suffix}": method, f"run_response{suffix}": method}
    return type("PipelineWrapper", (BasePipelineWrapper,), methods)()
