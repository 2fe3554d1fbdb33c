"""Calls a wrapper's method and hands what it gives to one reader; the only place that knows sync from async.

A synchronous method of a stream runs on one worker thread, which then also runs the pipeline or iterates the
generator; a method that answers at once is called where the request is. A coroutine or an async generator is one
task on the bridge's loop. All of it runs in a copy of the request's context, so ``flask.request`` and ``g`` work in
user code and nothing that it sets leaks into the thread's next request.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from contextvars import Context, copy_context
from typing import Any

from flaskcompat.errors import UnsupportedEndpoint
from flaskcompat.log import log
from flaskcompat.protocol.deltas import check_whole
from flaskcompat.runtime.abandon import Abandoned, close_upstreams
from flaskcompat.runtime.bridge import Job, bridge
from flaskcompat.runtime.buffer import Buffer
from flaskcompat.runtime.registry import Model
from flaskcompat.runtime.streaming import AsyncPipelineStream, PipelineStream
from flaskcompat.runtime.wrapper import Surface, method_for


class Run:
    """One call of a wrapper, as its reader sees it: items that come in batches, and an end.

    :param label: model and method, for the log.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self._buffer = Buffer()
        self._job: Job | None = None

    def take(self, timeout: float | None) -> list[Any]:
        """The items that wait, at least one unless *timeout* seconds pass or :attr:`ended` is set."""
        return self._buffer.take(timeout)

    @property
    def ended(self) -> bool:
        return self._buffer.ended

    @property
    def error(self) -> BaseException | None:
        """Why the run ended, if it failed."""
        return self._buffer.error

    def close(self) -> None:
        """End the run: at its next item, or at once where it is asynchronous. May be called at any time, and again."""
        self._buffer.abandon()
        if self._job is not None:
            self._job.cancel()

    # -- the side that makes the items ---------------------------------------------------------------------

    def start_thread(self, make: Callable[[], Any], context: Context | None = None) -> None:
        """Feed what *make* gives, on a worker thread in *context* (a copy of the current one)."""
        run = (context or copy_context()).run
        threading.Thread(target=run, args=(self._work, make), name=f"flaskcompat-{self.label}", daemon=True).start()

    def start_task(self, result: Any, context: Context | None = None) -> None:
        """Feed an awaitable or async iterable, as a task on the loop in *context* (a copy of the current one)."""
        self._job = bridge.submit(self._feed_async(result), context or copy_context())
        if self._buffer.abandoned:  # closed while this was on its way
            self._job.cancel()

    def _work(self, make: Callable[[], Any]) -> None:
        try:
            self._feed(make())
        except Abandoned as abandoned:
            close_upstreams(abandoned)
            self._buffer.finish(None if self._buffer.abandoned else abandoned)
        except BaseException as error:
            self._buffer.finish(error)

    def _feed(self, result: Any) -> None:
        if _is_async(result):
            self.start_task(result)
            return
        if isinstance(result, PipelineStream):
            result.feed(self._buffer)
        elif is_many(result):
            try:
                for item in result:
                    self._buffer.put(item)
            finally:
                _close(result, self.label)
        else:
            check_whole(result)
            self._buffer.put(result)
        self._buffer.finish()

    async def _feed_async(self, result: Any) -> None:
        buffer = self._buffer
        try:
            if inspect.isawaitable(result):
                result = await result
            if isinstance(result, AsyncPipelineStream):
                await result.feed(buffer)
            elif hasattr(result, "__aiter__"):
                try:
                    async for item in result:
                        await buffer.put_async(item)
                finally:
                    await _aclose(result, self.label)
            elif is_many(result) and not isinstance(result, list | tuple):
                self.start_thread(lambda: result)  # iterating it here would block the loop
                return
            else:
                check_whole(result)
                for item in result if isinstance(result, list | tuple) else (result,):
                    await buffer.put_async(item)
            buffer.finish()
        except Abandoned as abandoned:
            buffer.finish(None if buffer.abandoned else abandoned)
        except BaseException as error:
            # Cancelled by the reader who left: nobody is to be told. Everything else is handed over as data.
            buffer.finish(None if buffer.abandoned and isinstance(error, asyncio.CancelledError) else error)


class Ready:
    """A run that was over when the method returned; has the reader's half of :class:`Run`."""

    ended = False
    error: BaseException | None = None

    def __init__(self, label: str, items: list[Any]) -> None:
        self.label = label
        self._items = items

    def take(self, timeout: float | None) -> list[Any]:
        self.ended = True
        return self._items

    def close(self) -> None:
        pass


def invoke(
    model: Model,
    surface: Surface,
    payload: list[dict[str, Any]],
    body: dict[str, Any],
    headers: Mapping[str, str],
    *,
    stream: bool,
) -> Run | Ready:
    """Call *model*'s method for *surface* and give its run.

    What the method itself raises is raised here or, where it runs elsewhere, is the run's error.

    :raises UnsupportedEndpoint: if the wrapper has no such method.
    """
    name = method_for(model.wrapper, surface)
    if name is None:
        raise UnsupportedEndpoint(model.name, f"run_{surface}")
    bridge.refuse_loop_thread()
    method = getattr(model.wrapper, name)
    kwargs = {"headers": headers} if name in model.with_headers else {}
    label = f"{model.name}.{name}"

    def call() -> Any:
        return method(model.name, payload, body, **kwargs)

    if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
        run = Run(label)
        run.start_task(call())
        return run
    if stream:
        run = Run(label)
        run.start_thread(call)
        return run
    return _called_here(call, label)


def _called_here(call: Callable[[], Any], label: str) -> Run | Ready:
    """Call where the request is: nothing needs to be sent before the answer is whole."""
    context = copy_context()
    result = context.run(call)
    if isinstance(result, list | tuple):
        return Ready(label, list(result))
    run = Run(label)
    if _is_async(result):
        run.start_task(result, context)
    elif is_many(result):
        run.start_thread(lambda: result, context)
    else:
        check_whole(result)
        return Ready(label, [result])
    return run


def is_many(result: Any) -> bool:
    """Whether *result* is several items rather than a whole answer."""
    return isinstance(result, Iterator | list | tuple)


def _is_async(result: Any) -> bool:
    return inspect.isawaitable(result) or hasattr(result, "__aiter__")


def _close(result: Any, label: str) -> None:
    close = getattr(result, "close", None)
    if callable(close):
        try:
            close()
        except BaseException as error:  # the answer is out, or nobody waits for it
            log.opt(exception=error).warning("{}: closing its generator failed", label)


async def _aclose(result: Any, label: str) -> None:
    aclose = getattr(result, "aclose", None)
    if callable(aclose):
        try:
            await aclose()
        except BaseException as error:
            log.opt(exception=error).warning("{}: closing its async generator failed", label)
