"""Running a pipeline or an agent so that its chunks can be had one by one while it runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator, Iterator
from contextvars import copy_context
from types import TracebackType
from typing import Any

import haystack
from haystack.dataclasses import StreamingChunk

from flaskcompat.log import log
from flaskcompat.runtime.abandon import Abandoned, aclose_callers_upstreams, close_callers_upstreams, close_upstreams
from flaskcompat.runtime.buffer import Buffer, LoopBuffer
from flaskcompat.runtime.forwarding import Forwarder, forward_async
from flaskcompat.runtime.hooks import (
    Hooks,
    OnPipelineEnd,
    OnReasoning,
    OnToolCallEnd,
    OnToolCallStart,
    StreamItem,
)
from flaskcompat.runtime.plan import Plan, StreamingComponents, make_plan
from flaskcompat.runtime.run_context import RunContext, TaskContext, make_run_context
from flaskcompat.runtime.run_usage import run_usage

#: The pipeline whose ``run_async`` is awaited: Haystack 2 has a class of its own for it, 3 has one for both.
AsyncPipeline: Any = getattr(haystack, "AsyncPipeline", haystack.Pipeline)


def streaming_generator(
    pipeline: Any,
    *,
    pipeline_run_args: dict[str, Any] | None = None,
    on_tool_call_start: OnToolCallStart | None = None,
    on_tool_call_end: OnToolCallEnd | None = None,
    on_reasoning: OnReasoning | None = None,
    on_pipeline_end: OnPipelineEnd | None = None,
    streaming_components: StreamingComponents = None,
    include_outputs_from: set[str] | None = None,
    external_event_queue: Any = None,
) -> PipelineStream:
    """A generator of the chunks of a ``Pipeline`` or ``Agent``, each as soon as it is made.

    It yields ``StreamingChunk``, ``PipelineEvent``, ``str`` and ``dict`` items, so that a wrapper can filter them.
    Closing it ends the run at its next chunk.

    :param pipeline_run_args: what ``run`` takes: inputs by component or, where names are unique, by input; not changed.
    :param on_tool_call_start: called with ``(tool_name, arguments, tool_call_id)``; this and the other callbacks give
        an event, a text, a list of them, or None; what they give comes before the chunk. One that raises is logged.
    :param on_tool_call_end: called with ``(tool_name, arguments, result, error)``.
    :param on_reasoning: called with ``(text, extra)`` for each piece of reasoning.
    :param on_pipeline_end: called with the run's result; a text that it gives ends the answer.
    :param streaming_components: names of the components that stream, or ``"all"``; by default the last one alone.
    :param include_outputs_from: as ``Pipeline.run`` takes it.
    :param external_event_queue: a ``queue.Queue`` whose items are yielded as they come.
    :raises ValueError: if no component of the pipeline can stream, or *pipeline* is neither pipeline nor agent.
    """
    hooks = Hooks(on_tool_call_start, on_tool_call_end, on_reasoning, on_pipeline_end)
    plan = make_plan(pipeline, pipeline_run_args or {}, streaming_components, include_outputs_from)
    return PipelineStream(_Producer(plan, hooks, external_event_queue))


def async_streaming_generator(
    pipeline: Any,
    *,
    pipeline_run_args: dict[str, Any] | None = None,
    on_tool_call_start: OnToolCallStart | None = None,
    on_tool_call_end: OnToolCallEnd | None = None,
    on_reasoning: OnReasoning | None = None,
    on_pipeline_end: OnPipelineEnd | None = None,
    streaming_components: StreamingComponents = None,
    include_outputs_from: set[str] | None = None,
    allow_sync_streaming_callbacks: bool = False,
    external_event_queue: Any = None,
    shield_pipeline_task: bool = False,
) -> AsyncPipelineStream:
    """The same as :func:`streaming_generator`, on an event loop.

    :param allow_sync_streaming_callbacks: let components without ``run_async`` stream too, from a thread.
    :param external_event_queue: an ``asyncio.Queue`` (or ``queue.Queue``) whose items are yielded as they come.
    :param shield_pipeline_task: let the run go on to its end when the stream is closed.
    :raises ValueError: as :func:`streaming_generator`; and if a component that is to stream has no ``run_async``,
        unless *allow_sync_streaming_callbacks* is set.
    """
    hooks = Hooks(on_tool_call_start, on_tool_call_end, on_reasoning, on_pipeline_end)
    plan = make_plan(pipeline, pipeline_run_args or {}, streaming_components, include_outputs_from)
    if plan.has_run_async and not allow_sync_streaming_callbacks:
        sync_only = [name for name in plan.streaming if not plan.streams_async(name)]
        if sync_only:
            raise ValueError(
                f"Components without run_async cannot stream in an async pipeline: {', '.join(sync_only)}. "
                "Pass allow_sync_streaming_callbacks=True to run them in a thread."
            )
    return AsyncPipelineStream(_AsyncProducer(plan, hooks, external_event_queue, shield_pipeline_task))


class PipelineStream(Generator[StreamItem, None, None]):
    """What :func:`streaming_generator` gives; the run starts with the first ``next()``.

    Dropping it ends the run as closing does: a generator of the user's own that wraps it is closed, and then holds
    it no more. So what runs must hold no reference to it.
    """

    def __init__(self, producer: _Producer) -> None:
        self._producer = producer
        self._buffer: Buffer | None = None
        self._batch: Iterator[StreamItem] = iter(())
        self._closed = False

    def feed(self, buffer: Buffer) -> None:
        """Run to the end on this thread and put everything into *buffer*.

        :raises Abandoned: at the next chunk after the buffer's reader has left.
        """
        self._producer.feed(buffer)

    def __next__(self) -> StreamItem:
        while True:
            for item in self._batch:
                return item
            if self._closed:
                raise StopIteration
            if self._buffer is None:
                self._buffer = self._started()
            self._batch = iter(self._buffer.take())
            if self._buffer.ended:
                self._closed = True
                if self._buffer.error is not None:
                    self._batch = _then_raise(self._batch, self._buffer.error)

    def _started(self) -> Buffer:
        buffer, run = Buffer(), copy_context().run
        args = (self._producer.work, buffer, make_run_context("beside"))
        threading.Thread(target=run, args=args, name="flaskcompat-pipeline", daemon=True).start()
        return buffer

    def send(self, value: None) -> StreamItem:
        return self.__next__()

    def throw(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
        /,
    ) -> StreamItem:
        self.close()
        raise _thrown(typ, val)

    def close(self) -> None:
        """End the run at its next chunk; does not wait for that."""
        self._closed = True
        self._batch = iter(())
        if self._buffer is not None:
            self._buffer.abandon()

    def __del__(self) -> None:
        self.close()


class _Producer:
    """Runs a plan on a thread and puts what comes into a buffer."""

    def __init__(self, plan: Plan, hooks: Hooks, events: Any) -> None:
        self._plan = plan
        self._hooks = hooks
        self._events = events

    def feed(self, buffer: Buffer) -> None:
        put, hooks = buffer.put, self._hooks

        # A plain closure: a pipeline copies its inputs deeply, and chunks given to a copied object would be lost.
        def callback(chunk: StreamingChunk) -> None:
            if hooks.listening:
                for item in hooks.before(chunk):
                    put(item)
            put(chunk)

        forwarder = Forwarder(self._events, buffer) if self._events is not None else None
        try:
            result = self._plan.run(callback)
        finally:
            if forwarder:
                forwarder.stop()
        for item in hooks.after(result):
            put(item)
        for item in run_usage(result, self._plan.arguments):
            put(item)

    def work(self, buffer: Buffer, surroundings: RunContext) -> None:
        end: BaseException | None = None
        try:
            with surroundings:
                self.feed(buffer)
        except Abandoned as abandoned:
            close_upstreams(abandoned)
            end = None if buffer.abandoned else abandoned
        except BaseException as error:
            end = error
        buffer.finish(end)


class AsyncPipelineStream(AsyncGenerator[StreamItem, None]):
    """What :func:`async_streaming_generator` gives; the run starts with the first item asked for.

    Dropping it cancels the run as closing does (see :class:`PipelineStream`).
    """

    def __init__(self, producer: _AsyncProducer) -> None:
        self._producer = producer
        self._buffer: LoopBuffer | None = None
        self._task: asyncio.Task[None] | None = None
        self._batch: Iterator[StreamItem] = iter(())
        self._closed = False

    async def feed(self, buffer: Buffer) -> None:
        """Run to the end and put everything into *buffer*; cancelling this cancels the run, unless shielded."""
        await self._producer.feed(buffer)

    async def __anext__(self) -> StreamItem:
        while True:
            for item in self._batch:
                return item
            if self._closed:
                raise StopAsyncIteration
            if self._buffer is None:
                self._buffer = LoopBuffer()
                self._task = asyncio.create_task(self._producer.work(self._buffer))
            self._batch = iter(await self._buffer.take_async())
            if self._buffer.ended:
                self._closed = True
                if self._buffer.error is not None:
                    self._batch = _then_raise(self._batch, self._buffer.error)

    async def asend(self, value: None) -> StreamItem:
        return await self.__anext__()

    async def athrow(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
        /,
    ) -> StreamItem:
        await self.aclose()
        raise _thrown(typ, val)

    async def aclose(self) -> None:
        """Cancel the run and wait for it to end; a shielded one goes on."""
        self._closed = True
        self._batch = iter(())
        if self._buffer is None or self._task is None:
            return
        self._buffer.abandon()
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    def __del__(self) -> None:
        if self._buffer is None or self._task is None or self._task.done():
            return
        try:
            # Whoever drops it last may be another thread.
            self._buffer.loop.call_soon_threadsafe(self._task.cancel)
            self._buffer.abandon()
        except RuntimeError:  # its loop is closed, and the task with it
            pass


class _AsyncProducer:
    """Runs a plan on the loop and puts what comes into a buffer."""

    def __init__(self, plan: Plan, hooks: Hooks, events: Any, shield: bool) -> None:
        self._plan = plan
        self._hooks = hooks
        self._events = events
        self._shield = shield

    async def feed(self, buffer: Buffer) -> None:
        if not self._shield:
            await self._feed(buffer)
            return
        work = self._feed_apart(buffer, TaskContext(make_run_context("beside")))
        task = asyncio.create_task(work, context=copy_context())
        _shielded.add(task)
        task.add_done_callback(_shield_over)
        await asyncio.shield(task)

    async def _feed_apart(self, buffer: Buffer, surroundings: RunContext) -> None:
        """The same in a context of its own: the run goes on when what surrounds its stream has been left."""
        with surroundings:
            await self._feed(buffer)

    async def _feed(self, buffer: Buffer) -> None:
        put_async, put, hooks = buffer.put_async, buffer.put, self._hooks

        async def callback(chunk: StreamingChunk) -> None:
            try:
                if hooks.listening:
                    for item in hooks.before(chunk):
                        await put_async(item)
                await put_async(chunk)
            except Abandoned:
                if not self._shield:
                    await aclose_callers_upstreams()
                    raise

        def callback_in_thread(chunk: StreamingChunk) -> None:
            try:
                for item in hooks.before(chunk):
                    put(item)
                put(chunk)
            except Abandoned:
                if not self._shield:
                    close_callers_upstreams()
                    raise

        stop = forward_async(self._events, buffer)
        try:
            result = await self._plan.run_async(callback, callback_in_thread)
        finally:
            await stop()
        if buffer.abandoned:
            return
        for item in hooks.after(result):
            await put_async(item)
        for item in run_usage(result, self._plan.arguments):
            await put_async(item)

    async def work(self, buffer: Buffer) -> None:
        try:
            await self.feed(buffer)
            buffer.finish()
        except Abandoned as abandoned:
            buffer.finish(None if buffer.abandoned else abandoned)
        except asyncio.CancelledError as error:
            buffer.finish(error)
            raise
        except BaseException as error:
            buffer.finish(error)


def _thrown(typ: type[BaseException] | BaseException, val: BaseException | object) -> BaseException:
    """What ``throw()`` is to raise, given an exception or a class with a value."""
    if isinstance(typ, BaseException):
        return typ
    return val if isinstance(val, BaseException) else typ() if val is None else typ(val)


def _then_raise(items: Iterator[StreamItem], error: BaseException) -> Iterator[StreamItem]:
    yield from items
    raise error


# Tasks that outlive their stream: the loop itself holds tasks weakly.
_shielded: set[asyncio.Task[None]] = set()


def _shield_over(task: asyncio.Task[None]) -> None:
    _shielded.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None and not issubclass(type(error), Abandoned):
        log.opt(exception=error).error("a shielded pipeline run failed")
