"""Event loops on background threads: where async wrappers run while plain threads wait for them."""

from __future__ import annotations

import asyncio
import atexit
import sys
import threading
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context, ContextVar
from functools import partial
from math import inf
from queue import SimpleQueue
from time import monotonic
from typing import Any, NoReturn, TypeVar

from flaskcompat.fork import reset_in_child
from flaskcompat.log import log
from flaskcompat.runtime.abandon import Abandoned
from flaskcompat.runtime.run_context import current_task_context, with_own_context
from flaskcompat.runtime.watcher import watcher

T = TypeVar("T")

#: Threads for synchronous components inside async pipelines; the loop's own default is cpus + 4.
EXECUTOR_THREADS = 64
#: After this many seconds without a turn a loop counts as blocked.
BLOCKED_AFTER = 0.5
# How often a loop that has work is asked for a sign of life, in seconds.
_BEAT = 0.25
# Loops beside the first: each stands for a wrapper that blocks, so more than a few mean that moving on does not help.
_MOST_LOOPS = 16

_owner: ContextVar[str | None] = ContextVar("flaskcompat_job_owner", default=None)


class Job:
    """A coroutine on its way to a loop, and then its task there.

    :param owner: whose it is: the name of a model.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, None], context: Context, owner: str | None) -> None:
        self.owner = owner
        self._coroutine = coroutine
        self._context = context
        self._unclaimed = deque([True])  # popped by the loop that begins it: popping is atomic
        self._home: LoopThread | None = None
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False

    def begin_on(self, home: LoopThread) -> None:
        """Begin on *home*, on its own thread, unless another loop is faster."""
        # A copy each time: no two loops may be in one context.
        home.loop.create_task(self._work(home), context=self._context.copy())

    async def _work(self, home: LoopThread) -> None:
        # Not before its first step: in the loop's turn before that, another task may have blocked it.
        try:
            self._unclaimed.pop()
        except IndexError:
            home.waiting.discard(self)
            return
        task = asyncio.current_task()
        assert task is not None
        self._home, self._task = home, task
        home.tasks.add(task)
        task.add_done_callback(home.tasks.discard)
        home.waiting.discard(self)  # only now: it must never seem that there is nothing to do
        if self._cancelled:
            self._cancel()
        await self._coroutine

    @property
    def begun(self) -> bool:
        return not self._unclaimed

    def cancel(self) -> None:
        """Cancel it, from any thread; nothing happens to one that is over."""
        self._cancelled = True
        if self._task is not None and self._home is not None:
            try:
                self._home.loop.call_soon_threadsafe(self._cancel)
            except RuntimeError:  # the loop is closed, and the task with it
                pass

    def _cancel(self) -> None:
        task, self._task = self._task, None
        if task is not None:  # once: a second one would interrupt the cleaning up
            # After the task's first step, or what it was given would never be awaited.
            task.get_loop().call_soon(task.cancel)


class LoopThread:
    """One event loop on a thread of its own, watched for a task that blocks it."""

    def __init__(self, bridge: AsyncBridge) -> None:
        self._bridge = bridge
        # A loop keeps the context that it was made in, which would hold the application of the first request.
        self.loop = Context().run(asyncio.new_event_loop)
        self.loop.set_task_factory(_owned_task)
        self.loop.set_exception_handler(_told)
        self.tasks: set[asyncio.Task[Any]] = set()
        self.waiting: set[Job] = set()  # those that have not begun
        self._arrived: deque[Job] = deque()  # those that the loop has not heard of
        self._is_called = False  # it will look for them
        #: The model that blocked this loop and keeps it to itself.
        self.owner: str | None = None
        self.closing = False
        self._beat_sent: float | None = None  # None: answered
        self._reported = False
        self.watched = False  # under the bridge's lock
        self.thread = threading.Thread(target=self._serve, name="flaskcompat-loop", daemon=True)
        self.thread.start()

    def submit(self, job: Job) -> None:
        """Have *job* begin here; the bridge's lock is held."""
        if not self.watched:
            watcher.add(self, monotonic() + _BEAT)
            self.watched = True
        self.waiting.add(job)
        self._arrived.append(job)
        if self._is_called:
            return
        # Once for all that arrive until it gets there: each call lets go of the interpreter, under the lock.
        self._is_called = True
        try:
            self.loop.call_soon_threadsafe(self._begin_arrived)
        except BaseException:
            self._is_called = False
            self._arrived.remove(job)
            self.waiting.discard(job)
            raise

    def _begin_arrived(self) -> None:
        self._is_called = False
        while self._arrived:
            self.loop.call_soon(self._arrived.popleft().begin_on, self)

    @property
    def idle(self) -> bool:
        """Whether nothing runs or waits here."""
        return not self.waiting and not self.tasks

    def look(self, now: float) -> float:
        """Ask for a sign of life while there is work; see :class:`~flaskcompat.runtime.watcher.Watched`."""
        if self.idle and self._bridge._rests(self):
            return inf
        if self._beat_sent is None:
            self._beat_sent, self._reported = now, False
            try:
                self.loop.call_soon_threadsafe(self._alive)
            except RuntimeError:  # closed meanwhile
                return inf
        elif now - self._beat_sent >= BLOCKED_AFTER and not self._reported:
            self._reported = True
            self._bridge._blocked(self)
        return now + _BEAT

    def _alive(self) -> None:
        if self._reported and self._beat_sent is not None:
            log.warning("the event loop goes on after {:.1f} s", monotonic() - self._beat_sent)
        self._beat_sent = None

    def running(self) -> str | None:
        """The model whose task has the loop at this moment."""
        try:
            task = asyncio.current_task(self.loop)
        except RuntimeError:
            return None
        return task.owner if isinstance(task, _OwnedTask) else None

    def stack(self) -> str:
        """Where the thread is at this moment."""
        frame = sys._current_frames().get(self.thread.ident or 0)
        return "".join(traceback.format_stack(frame)) if frame is not None else ""

    def close(self, timeout: float) -> None:
        """Cancel all that runs, wait *timeout* seconds for it to end, stop the thread."""
        self.closing = True
        watcher.remove(self)
        if not self.thread.is_alive():
            return
        ended = asyncio.run_coroutine_threadsafe(_cancel_all(timeout), self.loop)
        try:
            ended.result(timeout + 1)
        except Exception as error:  # a wrapper that blocks the loop; the process ends all the same
            log.warning("an event loop did not end in {} s: {}", timeout, type(error).__name__)
            return
        self.stop()
        self.thread.join(1)

    def stop(self) -> None:
        self.closing = True
        self.loop.call_soon_threadsafe(self.loop.stop)

    def _serve(self) -> None:
        loop = self.loop
        asyncio.set_event_loop(loop)
        executor = _Executor(EXECUTOR_THREADS, thread_name_prefix="flaskcompat-executor")
        loop.set_default_executor(executor)
        while True:
            try:
                loop.run_forever()
            except BaseException as error:
                # SystemExit in a task that a wrapper started ends run_forever; the others must go on.
                log.opt(exception=error).error("a task on the event loop raised {}", type(error).__name__)
            if self.closing:
                break
        loop.run_until_complete(loop.shutdown_asyncgens())
        executor.shutdown(wait=False, cancel_futures=True)
        loop.close()


class AsyncBridge:
    """Runs coroutines for threads.

    A loop's thread starts with the first coroutine, and anew in a forked child. One task owns a coroutine from its
    first step to its last, so that context variables and cancel scopes inside it hold. Closing cancels what runs
    and waits for it.

    All share one loop, on which a client library may keep connections. If a model's task blocks it, the loop is
    left to that model: what has not begun yet, and all other models from then on, go to a fresh one.
    """

    def __init__(self) -> None:
        self.reset_after_fork()
        reset_in_child(self)
        atexit.register(self.close)

    def reset_after_fork(self) -> None:
        self._lock = threading.Lock()
        self._current: LoopThread | None = None
        self._all: list[LoopThread] = []
        self._of_owner: dict[str, LoopThread] = {}
        self._idents: set[int] = set()

    def submit(self, coroutine: Coroutine[Any, Any, None], context: Context, owner: str | None = None) -> Job:
        """Run *coroutine* in *context*; does not wait. The coroutine must handle its own errors.

        :param owner: the model that it belongs to.
        """
        if owner is not None:
            context.run(_owner.set, owner)
        job = Job(coroutine, context, owner)
        with self._lock:
            self._home_of(owner).submit(job)
        return job

    def run(self, awaitable: Awaitable[T], context: Context, owner: str | None = None) -> T:
        """Wait for *awaitable*, run in *context*; gives what it gives and raises what it raises.

        :raises RuntimeError: on a loop's own thread.
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

        self.submit(work(), context, owner)
        return outcome.get()()

    @property
    def active(self) -> int:
        """How many coroutines are running, or about to."""
        return sum(len(thread.tasks) + len(thread.waiting) for thread in self._all)

    @property
    def loops(self) -> int:
        """How many loops there are: more than one where a model has blocked one."""
        return len(self._all)

    @property
    def on_loop_thread(self) -> bool:
        """Whether the caller is on the thread of one of these loops."""
        return threading.get_ident() in self._idents

    def refuse_loop_thread(self) -> None:
        """Guard of everything that blocks on the bridge.

        :raises RuntimeError: on a loop's own thread, where waiting would stop what is waited for.
        """
        if self.on_loop_thread:
            raise RuntimeError(
                "a blocking call was made on the event loop's own thread: an async wrapper must not wait for "
                "another request of this process; await it, or make it from a synchronous wrapper"
            )

    def close(self, timeout: float = 3.0) -> None:
        """Cancel all that runs, wait *timeout* seconds for it to end, stop the threads. A later submit starts anew."""
        with self._lock:
            threads, self._all, self._current = self._all, [], None
            self._of_owner.clear()
            self._idents.clear()
        deadline = monotonic() + timeout
        for thread in threads:
            thread.close(max(0.1, deadline - monotonic()))

    def _home_of(self, owner: str | None) -> LoopThread:
        """The loop for a job of *owner*; the lock is held."""
        if owner is not None and (own := self._of_owner.get(owner)) is not None:
            return own
        if self._current is None:
            self._current = LoopThread(self)
            self._all.append(self._current)
            self._idents.add(self._current.thread.ident or 0)
        return self._current

    def _blocked(self, blocked: LoopThread) -> None:
        """*blocked* has had no turn for a while; called by the watcher."""
        owner = blocked.running()
        log.warning(
            "{} blocks the event loop: async methods must await, or leave slow work to a thread; it stands at\n{}",
            f"the model '{owner}'" if owner else "something",
            blocked.stack(),
        )
        with self._lock:
            if blocked is not self._current or len(self._all) > _MOST_LOOPS:
                return
            self._current = None
            if owner is not None:
                blocked.owner = owner
                self._of_owner[owner] = blocked
            stuck = [job for job in list(blocked.waiting) if job.owner is None or job.owner != owner]
            fresh = self._home_of(None)
            for job in stuck:
                blocked.waiting.discard(job)
                if not job.begun:
                    fresh.submit(job)
        log.warning(
            "{} requests move to a fresh event loop, and so will all others{}; connections that they keep open stay "
            "behind",
            len(stuck),
            f" but those of '{owner}'" if owner else "",
        )

    def _rests(self, thread: LoopThread) -> bool:
        """Look after *thread* no more, if it has nothing to do; one that nobody will use again is stopped."""
        with self._lock:
            if not thread.idle:  # something came just now
                return False
            thread.watched = False
            watcher.remove(thread)
            if thread is self._current or thread.owner is not None or thread not in self._all:
                return True
            self._all.remove(thread)
            self._idents.discard(thread.thread.ident or 0)
        thread.stop()
        return True


class _Executor(ThreadPoolExecutor):
    """Calls functions in contexts of their own where that is possible; else keeps that of the run until they end."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        if (apart := with_own_context(fn)) is not None:
            call, skip = apart
            future = super().submit(call, *args, **kwargs)
            # Cancelled while it waited for a thread: its context still has to be left.
            future.add_done_callback(lambda done: skip() if done.cancelled() else None)
            return future
        context = current_task_context()
        if context is None or not context.hold():
            return super().submit(fn, *args, **kwargs)
        try:
            future = super().submit(fn, *args, **kwargs)
        except BaseException:
            context.release()
            raise
        future.add_done_callback(lambda _: context.release())
        return future


class _OwnedTask(asyncio.Task[Any]):
    """A task that knows the model it belongs to.

    :ivar variables: its context variables, if it was given some of its own.
    """

    owner: str | None = None
    variables: Context | None = None


def _owned_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **kwargs: Any) -> _OwnedTask:
    """The task of a model is its owner's, and so are all tasks that it makes: their contexts are copies of its own."""
    context: Context | None = kwargs.get("context")
    task = _OwnedTask(coroutine, loop=loop, **kwargs)
    task.owner = context.get(_owner) if context is not None else _owner.get()
    task.variables = context
    return task


def _told(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What asyncio has to say of an error that nobody waited for; a run that was abandoned is none."""
    error = context.get("exception")
    if not issubclass(type(error), Abandoned):
        log.opt(exception=error).error("on the event loop: {}", context.get("message"))


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
