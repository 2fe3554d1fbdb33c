"""One event loop on a background thread: where async wrappers run while a plain thread waits for them."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from functools import partial
from queue import SimpleQueue
from typing import Any, NoReturn, TypeVar

from flaskcompat.log import log

T = TypeVar("T")

#: Threads for synchronous components inside async pipelines; the loop's own default is cpus + 4.
EXECUTOR_THREADS = 64


class Job:
    """A coroutine on the bridge's loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """Cancel it, from any thread; nothing happens to one that is over."""
        try:
            # Calls are carried out in order, so the task has been made by then.
            self._loop.call_soon_threadsafe(self._cancel)
        except RuntimeError:  # the loop is closed, and the task with it
            pass

    def _cancel(self) -> None:
        task, self._task = self._task, None
        if task is not None:  # once: a second one would interrupt the cleaning up
            # After the task's first step, or what it was given would never be awaited.
            self._loop.call_soon(task.cancel)


class AsyncBridge:
    """Runs coroutines for threads.

    The loop's thread starts with the first coroutine, and anew in a forked child. One task owns a coroutine from
    its first step to its last, so that context variables and cancel scopes inside it hold. Closing cancels what
    runs and waits for it.
    """

    def __init__(self) -> None:
        self._reset()
        if hasattr(os, "register_at_fork"):  # not on Windows
            os.register_at_fork(after_in_child=self._reset)
        atexit.register(self.close)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._jobs: set[asyncio.Task[None]] = set()

    def submit(self, coroutine: Coroutine[Any, Any, None], context: Context) -> Job:
        """Run *coroutine* in *context*; does not wait. The coroutine must handle its own errors."""
        loop = self._started()
        job = Job(loop)

        def begin() -> None:
            job._task = task = loop.create_task(coroutine, context=context)
            self._jobs.add(task)
            task.add_done_callback(self._jobs.discard)

        loop.call_soon_threadsafe(begin)
        return job

    def run(self, awaitable: Awaitable[T], context: Context) -> T:
        """Wait for *awaitable*, run in *context*; gives what it gives and raises what it raises.

        :raises RuntimeError: on the loop's own thread.
        """
        self.refuse_loop_thread()
        outcome: SimpleQueue[Callable[[], T]] = SimpleQueue()

        async def work() -> None:
            try:
                result = await awaitable
            except BaseException as error:
                outcome.put(partial(_raise, error))
            else:
                outcome.put(lambda: result)

        self.submit(work(), context)
        return outcome.get()()

    @property
    def active(self) -> int:
        """How many coroutines are running."""
        return len(self._jobs)

    def refuse_loop_thread(self) -> None:
        """Guard of everything that blocks on the bridge.

        :raises RuntimeError: on the loop's own thread, where waiting would stop what is waited for.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                "a blocking call was made on the event loop's own thread: an async wrapper must not wait for "
                "another request of this process; await it, or make it from a synchronous wrapper"
            )

    def close(self, timeout: float = 3.0) -> None:
        """Cancel all that runs, wait *timeout* seconds for it to end, stop the thread. A later submit starts anew."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None or not thread.is_alive():
            return
        ended = asyncio.run_coroutine_threadsafe(_cancel_all(timeout), loop)
        try:
            ended.result(timeout + 1)
        except Exception as error:  # a wrapper that blocks the loop; the process ends all the same
            log.warning("the event loop did not end in {} s: {}", timeout, type(error).__name__)
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join(1)

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._serve, args=(self._loop,), name="flaskcompat-loop", daemon=True
                )
                self._thread.start()
            return self._loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        executor = ThreadPoolExecutor(EXECUTOR_THREADS, thread_name_prefix="flaskcompat-executor")
        loop.set_default_executor(executor)
        while True:
            try:
                loop.run_forever()
            except BaseException as error:
                # SystemExit in a task that a wrapper started ends run_forever; the others must go on.
                log.opt(exception=error).error("a task on the event loop raised {}", type(error).__name__)
            if self._loop is not loop:  # close() has let go of it
                break
        loop.run_until_complete(loop.shutdown_asyncgens())
        executor.shutdown(wait=False, cancel_futures=True)
        loop.close()


def _raise(error: BaseException) -> NoReturn:
    raise error


async def _cancel_all(timeout: float) -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=timeout)


#: The bridge of this process, shared by all applications in it.
bridge = AsyncBridge()
