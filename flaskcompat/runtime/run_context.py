"""What the web side keeps around a run's code: the code goes on when the view that began it has returned.

Each thread and each task that runs a part of a run enters a context of its own and leaves it at the end of that part,
in the same place. This module only carries the function that makes them; it knows no web framework.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import Context, ContextVar
from functools import partial
from types import TracebackType
from typing import Any, Literal, TypeVar

T = TypeVar("T")

#: Surrounds one part of a run's code. Leaving it neither raises nor suppresses what the part raised.
RunContext = AbstractContextManager[None]
#: How a part of a run stands to the code that starts it: it runs ``after`` that code, or while that code waits for the
#: run's end; it runs ``beside`` that code; or it is a ``call`` in the executor, which that code mostly waits for.
Start = Literal["after", "beside", "call"]
MakeRunContext = Callable[[Start], RunContext]


def _no_context(start: Start) -> RunContext:
    return nullcontext()


_make: ContextVar[MakeRunContext] = ContextVar("flaskcompat_run_context", default=_no_context)


@contextmanager
def run_contexts(make: MakeRunContext) -> Iterator[None]:
    """Have the runs that begin below get their contexts from *make*.

    :param make: called for each part of a run, on the thread or in the task that starts the part.
    """
    token = _make.set(make)
    try:
        yield
    finally:
        _make.reset(token)


def make_run_context(start: Start = "after") -> RunContext:
    """A context for a part of the current run, to be entered by the thread or task that runs it."""
    return _make.get()(start)


def with_own_context(call: Callable[..., T]) -> tuple[Callable[..., T], Callable[[], None]] | None:
    """*call* in a run context of its own, for a thread of the executor, and what is to be called if it is not called.

    None if *call* is not one of :func:`asyncio.to_thread`, or is not made by a run: its context variables, in which the
    context has to be entered, cannot be told.
    """
    variables = getattr(getattr(call, "func", None), "__self__", None)
    if not isinstance(call, partial) or not isinstance(variables, Context) or _make.get() is _no_context:
        return None
    surroundings = make_run_context("call")
    inside = partial(variables.run, _call_in, surroundings, *call.args, **call.keywords)
    return inside, partial(variables.run, _call_in, surroundings, lambda: None)


def _call_in(surroundings: RunContext, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    with surroundings:
        return function(*args, **kwargs)


class TaskContext:
    """A run context for a task: left when the task and every call that shares its context have ended.

    A call in the executor cannot be cancelled with its task: it goes on in its thread, and may open something that only
    leaving the context closes. Calls that :func:`with_own_context` knows do not share the context.
    """

    def __init__(self, inner: RunContext) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self._users = 1
        # How to leave after the task: with what it raised, and in its context variables.
        self._error: BaseException | None = None
        self._variables: Context | None = None

    def __enter__(self) -> None:
        self._inner.__enter__()
        _task_context.set(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            task = asyncio.current_task() if self._users > 1 else None
            self._variables = variables_of(task)
            if self._variables is None:
                self._users = 0
        if task is None or self._variables is None:
            self._inner.__exit__(kind, error, traceback)
            return
        self._error = error
        task.add_done_callback(lambda _: self.release(), context=Context())  # its variables can be entered then

    def hold(self) -> bool:
        """Keep the context until :meth:`release`. Returns False if it has been left."""
        with self._lock:
            self._users += bool(self._users)
            return self._users > 0

    def release(self) -> None:
        """End what :meth:`hold` began; the last one leaves the context if its task is over."""
        with self._lock:
            self._users -= 1
            variables = self._variables if self._users == 0 else None
        if variables is not None:
            error = self._error
            variables.run(self._inner.__exit__, None if error is None else type(error), error, None)


_task_context: ContextVar[TaskContext | None] = ContextVar("flaskcompat_task_context", default=None)


def current_task_context() -> TaskContext | None:
    """The context of the current task, or of the one that made the current call in the executor."""
    return _task_context.get()


def variables_of(task: asyncio.Task[object] | None) -> Context | None:
    """The context variables of *task* itself; None where nobody can tell."""
    get_context = getattr(task, "get_context", None)  # from Python 3.12 on
    variables: Context | None = get_context() if get_context is not None else getattr(task, "variables", None)
    return variables
