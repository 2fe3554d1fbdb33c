"""Running a pipeline or an agent so that its chunks can be had one by one while it runs."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Iterator, Mapping
from contextvars import copy_context
from queue import Empty
from types import TracebackType
from typing import Any, Literal

import haystack
from haystack.core.pipeline.base import PipelineBase
from haystack.dataclasses import ChatMessage, ChatRole, StreamingChunk

from flaskcompat.log import log
from flaskcompat.open_webui import PipelineEvent
from flaskcompat.protocol.usage import RUN_USAGE, Usage, usage_of
from flaskcompat.runtime.buffer import Abandoned, Buffer, LoopBuffer

#: The pipeline whose ``run_async`` is awaited: Haystack 2 has a class of its own for it, 3 has one for both.
AsyncPipeline: Any = getattr(haystack, "AsyncPipeline", haystack.Pipeline)

StreamItem = StreamingChunk | PipelineEvent | str | dict[str, Any]
CallbackResult = PipelineEvent | str | None | list[PipelineEvent | str]
OnToolCallStart = Callable[[str, dict[str, Any], str | None], CallbackResult]
OnToolCallEnd = Callable[[str, dict[str, Any], str, bool], CallbackResult]
OnReasoning = Callable[[str, dict[str, Any] | None], CallbackResult]
OnPipelineEnd = Callable[[Any], CallbackResult]
StreamingComponents = list[str] | Literal["all"] | None

# How often the forwarder of a thread's event queue looks whether the run is over, in seconds.
_FORWARD_CHECK = 0.1


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
    hooks = _Hooks(on_tool_call_start, on_tool_call_end, on_reasoning, on_pipeline_end)
    plan = _plan(pipeline, pipeline_run_args or {}, streaming_components, include_outputs_from)
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
    hooks = _Hooks(on_tool_call_start, on_tool_call_end, on_reasoning, on_pipeline_end)
    plan = _plan(pipeline, pipeline_run_args or {}, streaming_components, include_outputs_from)
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
        args = (self._producer.work, buffer)
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

    def __init__(self, plan: _Plan, hooks: _Hooks, events: Any) -> None:
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

        forwarder = _Forwarder(self._events, buffer) if self._events is not None else None
        try:
            result = self._plan.run(callback)
        finally:
            if forwarder:
                forwarder.stop()
        for item in hooks.after(result):
            put(item)
        for item in _run_usage(result, self._plan.arguments):
            put(item)

    def work(self, buffer: Buffer) -> None:
        try:
            self.feed(buffer)
            buffer.finish()
        except Abandoned as abandoned:
            close_upstreams(abandoned)
            buffer.finish()
        except BaseException as error:
            buffer.finish(error)


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
        self._batch = iter(())
        if self._cancel() and self._task is not None:
            await asyncio.wait([self._task])

    def _cancel(self) -> bool:
        """Cancel the run; whether there was one to cancel."""
        self._closed = True
        if self._buffer is None or self._task is None or self._task.done():
            return False
        self._buffer.abandon()
        self._task.cancel()
        return True

    def __del__(self) -> None:
        try:
            self._cancel()
        except RuntimeError:  # its loop is closed, and the task with it
            pass


class _AsyncProducer:
    """Runs a plan on the loop and puts what comes into a buffer."""

    def __init__(self, plan: _Plan, hooks: _Hooks, events: Any, shield: bool) -> None:
        self._plan = plan
        self._hooks = hooks
        self._events = events
        self._shield = shield

    async def feed(self, buffer: Buffer) -> None:
        if not self._shield:
            await self._feed(buffer)
            return
        task = asyncio.create_task(self._feed(buffer))
        _shielded.add(task)
        task.add_done_callback(_shield_over)
        await asyncio.shield(task)

    async def _feed(self, buffer: Buffer) -> None:
        put_async, put, hooks = buffer.put_async, buffer.put, self._hooks

        async def callback(chunk: StreamingChunk) -> None:
            if self._shield and buffer.abandoned:
                return
            if hooks.listening:
                for item in hooks.before(chunk):
                    await put_async(item)
            await put_async(chunk)

        def callback_in_thread(chunk: StreamingChunk) -> None:
            if self._shield and buffer.abandoned:
                return
            for item in hooks.before(chunk):
                put(item)
            put(chunk)

        stop = _forward_async(self._events, buffer)
        try:
            result = await self._plan.run_async(callback, callback_in_thread)
        finally:
            await stop()
        if buffer.abandoned:
            return
        for item in hooks.after(result):
            await put_async(item)
        for item in _run_usage(result, self._plan.arguments):
            await put_async(item)

    async def work(self, buffer: Buffer) -> None:
        try:
            await self.feed(buffer)
            buffer.finish()
        except Abandoned:
            buffer.finish()
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
    if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, Abandoned):
        log.opt(exception=error).error("a shielded pipeline run failed")


# -- what runs, and with which inputs ----------------------------------------------------------------------


class _Plan:
    """A pipeline or an agent with its inputs; knows how to run it with a callback."""

    def __init__(self, target: Any, arguments: dict[str, Any], streaming: list[str], include: set[str] | None) -> None:
        self.target = target
        self.arguments = arguments
        self.streaming = streaming  # names of components; none for an agent
        self._include = {"include_outputs_from": include} if include is not None else {}

    @property
    def is_pipeline(self) -> bool:
        return isinstance(self.target, PipelineBase)

    @property
    def has_run_async(self) -> bool:
        return hasattr(self.target, "run_async")  # a synchronous pipeline of Haystack 2 has none

    def streams_async(self, name: str) -> bool:
        return hasattr(self.target.get_component(name), "run_async")

    def run(self, callback: Callable[[StreamingChunk], None]) -> Any:
        if self.is_pipeline:
            return self.target.run(self._with_callbacks(lambda _: callback), **self._include)
        return self.target.run(**{**self.arguments, "streaming_callback": callback})

    async def run_async(
        self,
        callback: Callable[[StreamingChunk], Awaitable[None]],
        callback_in_thread: Callable[[StreamingChunk], None],
    ) -> Any:
        if not self.has_run_async:
            return await asyncio.to_thread(self.run, callback_in_thread)
        if self.is_pipeline:
            data = self._with_callbacks(lambda name: callback if self.streams_async(name) else callback_in_thread)
            return await self.target.run_async(data, **self._include)
        return await self.target.run_async(**{**self.arguments, "streaming_callback": callback})

    def _with_callbacks(self, callback_for: Callable[[str], Any]) -> dict[str, Any]:
        data = {name: dict(inputs) for name, inputs in self.arguments.items()}
        for name in self.streaming:
            data.setdefault(name, {})["streaming_callback"] = callback_for(name)
        return data


def _plan(target: Any, arguments: dict[str, Any], components: StreamingComponents, include: set[str] | None) -> _Plan:
    from haystack.components.agents import Agent

    if isinstance(target, PipelineBase):
        return _Plan(target, _by_component(target, arguments), _to_stream(target, components), include)
    if isinstance(target, Agent):
        return _Plan(target, dict(arguments), [], include)
    raise ValueError(f"Unsupported pipeline type: {type(target).__name__}")


def _by_component(pipeline: PipelineBase, arguments: dict[str, Any]) -> dict[str, Any]:
    """Inputs in the form ``{component: {input: value}}``; flat ones are sorted as ``Pipeline.run`` does it."""
    if all(isinstance(value, dict) for value in arguments.values()):
        return dict(arguments)
    nested: dict[str, dict[str, Any]] = {}
    for component, sockets in pipeline.inputs().items():
        inputs = {name: arguments[name] for name in sockets if name in arguments}
        if inputs:
            nested[component] = inputs
    unknown = sorted(set(arguments) - {name for inputs in nested.values() for name in inputs})
    if unknown:
        log.warning("no component of the pipeline takes the inputs {}", ", ".join(unknown))
    return nested


def _to_stream(pipeline: PipelineBase, components: StreamingComponents) -> list[str]:
    able = [name for name in _in_order(pipeline) if _can_stream(pipeline.get_component(name))]
    if not able:
        raise ValueError("No streaming-capable components found in the pipeline")
    if components is None:
        return able[-1:]
    return able if components == "all" else [name for name in able if name in components]


def _in_order(pipeline: PipelineBase) -> list[str]:
    """Names of the components from first to last; as they were added where they form a loop."""
    import networkx

    names = list(pipeline.graph.nodes)
    try:
        return list(networkx.lexicographical_topological_sort(pipeline.graph, key=names.index))
    except networkx.NetworkXUnfeasible:
        return names


def _can_stream(component: Any) -> bool:
    sockets = getattr(getattr(component, "__haystack_input__", None), "_sockets_dict", {})
    return "streaming_callback" in sockets or "streaming_callback" in inspect.signature(component.run).parameters


# -- callbacks ---------------------------------------------------------------------------------------------


class _Hooks:
    """The user's callbacks; what they give, flattened. None of them can end the stream."""

    def __init__(
        self,
        on_tool_call_start: OnToolCallStart | None,
        on_tool_call_end: OnToolCallEnd | None,
        on_reasoning: OnReasoning | None,
        on_pipeline_end: OnPipelineEnd | None,
    ) -> None:
        self._tool_call_start = on_tool_call_start
        self._tool_call_end = on_tool_call_end
        self._reasoning = on_reasoning
        self._pipeline_end = on_pipeline_end
        #: Whether chunks need looking at.
        self.listening = any((on_tool_call_start, on_tool_call_end, on_reasoning))

    def before(self, chunk: StreamingChunk) -> Iterator[StreamItem]:
        """What comes before *chunk*."""
        if self._tool_call_start:
            for call in chunk.tool_calls or ():
                if call.tool_name:
                    arguments = _arguments(call.arguments)
                    yield from _called("on_tool_call_start", self._tool_call_start, call.tool_name, arguments, call.id)
        if self._tool_call_end and (result := chunk.tool_call_result) is not None:
            text = result.result if isinstance(result.result, str) else str(result.result)
            name, arguments = result.origin.tool_name, result.origin.arguments
            yield from _called("on_tool_call_end", self._tool_call_end, name, arguments, text, bool(result.error))
        if self._reasoning and (reasoning := chunk.reasoning) is not None:
            yield from _called("on_reasoning", self._reasoning, reasoning.reasoning_text, reasoning.extra)

    def after(self, result: Any) -> Iterator[StreamItem]:
        """What ends the answer."""
        if self._pipeline_end:
            for item in _called("on_pipeline_end", self._pipeline_end, result):
                yield StreamingChunk(content=item) if isinstance(item, str) else item


def _called(name: str, callback: Callable[..., CallbackResult], *args: Any) -> Iterator[PipelineEvent | str]:
    try:
        result = callback(*args)
    except Exception as error:
        log.opt(exception=error).error("{} failed; the stream goes on", name)
        return
    if isinstance(result, list | tuple):
        yield from (item for item in result if item)
    elif result:
        yield result


def _arguments(arguments: Any) -> dict[str, Any]:
    """Arguments as far as the first piece of a call has them; a model often sends them later."""
    if isinstance(arguments, str) and arguments:
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return {}
    return dict(arguments) if isinstance(arguments, Mapping) else {}


# -- events from outside -----------------------------------------------------------------------------------


class _Forwarder:
    """Puts what comes into a thread's queue into the buffer, from a thread of its own, until stopped."""

    def __init__(self, events: Any, buffer: Buffer) -> None:
        self._events = events
        self._buffer = buffer
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._forward, name="flaskcompat-events", daemon=True)
        self._thread.start()

    def _forward(self) -> None:
        try:
            while not self._over.is_set():
                try:
                    self._buffer.put(self._events.get(timeout=_FORWARD_CHECK))
                except Empty:
                    pass
            for item in _waiting(self._events):
                self._buffer.put(item)
        except Abandoned:
            pass

    def stop(self) -> None:
        """Forward what still waits, and end."""
        self._over.set()
        self._thread.join()


def _forward_async(events: Any, buffer: Buffer) -> Callable[[], Awaitable[None]]:
    """Start forwarding *events* into *buffer*; gives what stops it."""
    if events is None:
        return _nothing
    if not inspect.iscoroutinefunction(events.get):
        forwarder = _Forwarder(events, buffer)
        return lambda: asyncio.to_thread(forwarder.stop)

    async def forward() -> None:
        while True:
            await buffer.put_async(await events.get())

    task = asyncio.create_task(forward())

    async def stop() -> None:
        task.cancel()
        await asyncio.wait([task])
        if buffer.abandoned:
            return
        for item in _waiting(events):
            await buffer.put_async(item)

    return stop


async def _nothing() -> None:
    pass


def _waiting(events: Any) -> Iterable[Any]:
    while not events.empty():
        yield events.get_nowait()


# -- what the run's result tells ---------------------------------------------------------------------------


def _run_usage(result: Any, arguments: Mapping[str, Any]) -> Iterator[StreamingChunk]:
    """A chunk with the token counts of the whole run, where its result has any."""
    usage = _usage_in(result, arguments)
    if usage is not None:
        yield StreamingChunk(content="", meta={"usage": usage.to_response(), RUN_USAGE: True})


def _usage_in(result: Any, arguments: Mapping[str, Any]) -> Usage | None:
    if not isinstance(result, Mapping):
        return None
    if isinstance(result.get("messages"), list):  # an agent: its history holds what it was given, too
        given = arguments.get("messages") or ()
        return _sum(_usages(result["messages"]), _usages(given))
    outputs = [output for output in result.values() if isinstance(output, Mapping)]
    parts = [
        _usage_in(output, {}) if "messages" in output else _sum(_usages(output.get("replies")), [])
        for output in outputs
    ]
    return _sum([part for part in parts if part is not None], [])


def _usages(messages: Any) -> list[Usage]:
    found = [
        usage_of(message.meta.get("usage"))
        for message in (messages if isinstance(messages, list | tuple) else ())
        if isinstance(message, ChatMessage) and message.is_from(ChatRole.ASSISTANT)
    ]
    return [usage for usage in found if usage is not None]


def _sum(usages: list[Usage], given: list[Usage]) -> Usage | None:
    """The sum of *usages* without those at their head that were *given*."""
    own = usages[len(given) :]
    return sum(own, Usage()) if own else None


def close_upstreams(abandoned: BaseException) -> None:
    """Close the model streams that a run left open when it was abandoned.

    The client library's stream objects sit in reference cycles, so that tokens would keep coming, and being paid
    for, until the garbage collector runs. They are found in the frames that the exception passed through.
    """
    error: BaseException | None = abandoned
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback = error.__traceback__
        while traceback is not None:
            for value in list(traceback.tb_frame.f_locals.values()):
                kind = type(value)
                if id(value) not in seen and kind.__name__ == "Stream" and kind.__module__.startswith("openai"):
                    seen.add(id(value))
                    value.close()
            traceback = traceback.tb_next
        error = error.__cause__ or error.__context__
