"""Calls a wrapper's method and hands what it gives to one reader; the only place that knows sync from async.

A synchronous method of a stream runs on one worker thread, which then also runs the pipeline or iterates the
generator; a method that answers at once is called where the request is. A coroutine or an async generator is one
task on the bridge's loop. All of it runs in a copy of the request's context variables, so that nothing that it sets
leaks into the thread's next request, and each part of it in a :class:`~flaskcompat.runtime.run_context.RunContext` of
its own, which is closed before the reader learns that the run is over.
"""

from __future__ import annotations

import asyncio
import atexit
import inspect
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import Context, copy_context
from time import monotonic
from typing import Any

from flaskcompat.errors import UnsupportedEndpoint
from flaskcompat.log import log, logged_as, request_id
from flaskcompat.protocol.deltas import check_whole, read
from flaskcompat.runtime.abandon import Abandoned, close_upstreams
from flaskcompat.runtime.admission import Ticket
from flaskcompat.runtime.bridge import Job, bridge
from flaskcompat.runtime.buffer import AnswerBuffer
from flaskcompat.runtime.registry import Model
from flaskcompat.runtime.run_context import RunContext, TaskContext, make_run_context
from flaskcompat.runtime.streaming import AsyncPipelineStream, PipelineStream
from flaskcompat.runtime.wrapper import Surface

#: Makes what a reader gets of an error.
Tell = Callable[[BaseException], BaseException]
#: Functions that return the arguments which a method may declare, by their names.
Extras = Mapping[str, Callable[[], Any]]


def _as_it_is(error: BaseException) -> BaseException:
    return error


class Run:
    """One call of a wrapper, as its reader sees it: items that come in batches, and an end.

    :param label: model and method, for the log.
    :param ticket: the place that this run takes, until its reader and its work are done.
    :param tell: makes what the reader gets of an error; called where the error was raised, since it looks at it.
    """

    def __init__(self, label: str, ticket: Ticket, tell: Tell = _as_it_is) -> None:
        self.label = label
        #: Since when (``time.monotonic()``) the reader waits; None while it does not.
        self.waiting_since: float | None = None
        #: Since when the server writes what it was handed; None while the reader waits.
        self.writing_since: float | None = None
        #: When the reader last got something.
        self.silent_since = monotonic()
        #: Whether the client has left.
        self.left = False
        self._buffer = AnswerBuffer(tell)
        self._job: Job | None = None
        self._ticket = ticket
        self._request_id = request_id.get()
        ticket.run = self

    def take(self) -> list[Any]:
        """What waits, as :func:`~flaskcompat.protocol.deltas.read` gives it.

        An empty list is a beat, or the end where :attr:`ended` or :attr:`left` is set.
        """
        self.waiting_since, self.writing_since = monotonic(), None
        batch = self._buffer.take()
        self.waiting_since = None
        if batch:
            self.silent_since = monotonic()
        return batch

    def writes(self) -> None:
        """The reader hands what it got to the server now, or the next part of it."""
        self.writing_since = monotonic()

    def take_ready(self) -> list[Any] | None:
        """What :meth:`take` gives; None where it would wait."""
        batch = self._buffer.take_ready()
        if batch is not None:
            self.waiting_since = None
            if batch:
                self.silent_since = monotonic()
        return batch

    def listen(self, listener: Callable[[], None]) -> None:
        """Have *listener* called, on any thread and perhaps more than once, as soon as there is something to take."""
        self.waiting_since = monotonic()
        self._buffer.listen(listener)

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
        self._ticket.reader_done()

    # -- for whoever watches over it, on any thread ----------------------------------------------------------

    def beat(self) -> None:
        """Wake a reader that waits; it has something to write of its own."""
        self._buffer.beat()

    def leave(self) -> None:
        """The client has left: the reader need not wait any more."""
        self.left = True
        self._buffer.abandon()

    def fail(self, error: BaseException) -> None:
        """End the run with *error*, after what waits."""
        self._buffer.finish(error)

    def log_warning(self, message: str, *args: Any) -> None:
        """Log under the id of the request that the run belongs to."""
        with logged_as(self._request_id):
            log.warning(message, *args)

    # -- the side that makes the items ---------------------------------------------------------------------

    def start_thread(self, make: Callable[[], Any], context: Context | None = None) -> None:
        """Feed what *make* returns, on a worker thread in *context* (a copy of the current one)."""
        context = context or copy_context()
        args = (self._work, make, context.run(make_run_context))
        worker = threading.Thread(target=context.run, args=args, name=f"flaskcompat-{self.label}", daemon=True)
        self._ticket.work_begins()
        try:
            worker.start()
        except BaseException:  # no thread can be had
            self._ticket.work_done()
            raise

    def start_task(self, make: Callable[[], Any], context: Context | None = None) -> None:
        """Feed what *make* returns, as a task on the loop in *context* (a copy of the current one)."""
        context = context or copy_context()
        self._ticket.work_begins()
        try:
            work = self._work_async(make, TaskContext(context.run(make_run_context)))
            try:
                self._job = bridge.submit(work, context, self._ticket.model)
            except BaseException:  # no loop can be had
                work.close()
                raise
        except BaseException:
            self._ticket.work_done()
            raise
        if self._buffer.abandoned:  # closed while this was on its way
            self._job.cancel()

    def _work(self, make: Callable[[], Any], surroundings: RunContext) -> None:
        told, is_last = None, True
        here = threading.current_thread()
        _workers[here] = self
        try:
            with surroundings:
                try:
                    is_last = self._feed(make())
                except BaseException as error:
                    if issubclass(type(error), Abandoned):
                        close_upstreams(error)
                    told = self._told(error)
                    raise
        except BaseException as error:
            if told is None:  # it may be of entering the context itself
                told = self._told(error)
        finally:
            _workers.pop(here, None)
            self._end_part(told, is_last)

    async def _work_async(self, make: Callable[[], Any], surroundings: RunContext) -> None:
        told, is_last = None, True
        try:
            with surroundings:
                try:
                    is_last = await self._feed_async(make())
                except BaseException as error:
                    told = self._told(error)
                    raise
        except BaseException as error:
            if told is None:
                told = self._told(error)
        finally:
            self._end_part(told, is_last)

    def _told(self, error: BaseException) -> BaseException | None:
        """What the reader is told of *error*; None if it has left, or has been told of another end."""
        # By type: an object may say of itself that it is of another class, or fail when it is asked.
        if self._buffer.abandoned and issubclass(type(error), Abandoned | asyncio.CancelledError):
            return None
        return self._buffer.told(error)

    def _end_part(self, told: BaseException | None, is_last: bool) -> None:
        if told is not None:
            self._buffer.fail(told)
        elif is_last:
            self._buffer.finish()
        self._ticket.work_done()

    def _feed(self, result: Any) -> bool:
        """Feed *result* on this thread. Returns whether this is the end of the run: False if a task goes on with it."""
        if _is_async(result):
            self.start_task(lambda: result)
            return False
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
        return True

    async def _feed_async(self, result: Any) -> bool:
        """The same in a task; a thread goes on with an iterator, which would block the loop."""
        buffer = self._buffer
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
            self.start_thread(lambda: result)
            return False
        else:
            check_whole(result)
            for item in result if isinstance(result, list | tuple) else (result,):
                await buffer.put_async(item)
        return True


# The threads that run a part of a run, and whose it is.
_workers: dict[threading.Thread, Run] = {}


def _end_workers(timeout: float = 0.3) -> None:
    """Let all worker threads leave their contexts: they are daemons, which the end of the process stops anywhere.

    :param timeout: seconds to wait; a wrapper that blocks its thread cannot be ended.
    """
    running = list(_workers.items())
    for _, run in running:
        run.close()
    deadline = monotonic() + timeout
    for thread, _ in running:
        thread.join(max(0.0, deadline - monotonic()))


atexit.register(_end_workers)


class Ready:
    """A run that was over when the method returned; has the reader's half of :class:`Run`."""

    ended = False
    left = False
    error: BaseException | None = None

    def __init__(self, label: str, items: Iterable[Any], ticket: Ticket) -> None:
        self.label = label
        self._items: list[Any] = [read(item) for item in items]
        self._ticket = ticket

    def take(self) -> list[Any]:
        self.ended = True
        return self._items

    def close(self) -> None:
        self._ticket.reader_done()


def method_of(model: Model, surface: Surface) -> str:
    """The name of *model*'s method for *surface*.

    :raises UnsupportedEndpoint: if it has none.
    """
    name = model.methods[surface]
    if name is None:
        raise UnsupportedEndpoint(model.name, f"run_{surface}")
    return name


def invoke(
    model: Model,
    name: str,
    payload: list[dict[str, Any]],
    body: dict[str, Any],
    extras: Extras,
    ticket: Ticket,
    *,
    elsewhere: bool,
    tell: Tell = _as_it_is,
) -> Run | Ready:
    """Call *model*'s method *name* and give its run.

    What the method itself raises is raised here or, where it runs elsewhere, is the run's error.

    :param extras: by the name of an argument that methods may declare, such as ``headers``: a function that returns
        it, called where the method runs.
    :param ticket: the run's place, given back by its ``close()``; by the caller if this raises.
    :param elsewhere: call a synchronous method on a thread of its own, so that this does not wait for it.
    :param tell: see :class:`Run`.
    """
    bridge.refuse_loop_thread()
    method = getattr(model.wrapper, name)
    declared = model.extras[name]
    label = f"{model.name}.{name}"

    def call() -> Any:
        return method(model.name, payload, body, **{extra: extras[extra]() for extra in declared})

    if name in model.asynchronous:
        run = Run(label, ticket, tell)
        run.start_task(call)
        return run
    if elsewhere:
        run = Run(label, ticket, tell)
        run.start_thread(call)
        return run
    return _called_here(call, label, ticket, tell)


def _called_here(call: Callable[[], Any], label: str, ticket: Ticket, tell: Tell) -> Run | Ready:
    """Call where the request is: nothing needs to be sent before the answer is whole."""
    context = copy_context()
    ticket.work_begins()
    try:
        result = context.run(call)
    finally:
        ticket.work_done()
    if isinstance(result, str | list | tuple):
        return Ready(label, [result] if isinstance(result, str) else result, ticket)
    run = Run(label, ticket, tell)
    if _is_async(result):
        run.start_task(lambda: result, context)
    elif is_many(result):
        run.start_thread(lambda: result, context)
    else:
        check_whole(result)
        return Ready(label, [result], ticket)
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
