"""The bridge's promises, one by one."""

from __future__ import annotations

import asyncio
import contextvars
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from flaskcompat.runtime.bridge import EXECUTOR_THREADS, AsyncBridge

from ..support import eventually

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.fixture
def bridge() -> Iterator[AsyncBridge]:
    made = AsyncBridge()
    yield made
    made.close()


def result_of(bridge: AsyncBridge, coroutine: Any, context: contextvars.Context | None = None) -> Any:
    done, box = threading.Event(), []

    async def run() -> None:
        try:
            box.append(await coroutine)
        except BaseException as error:
            box.append(error)
        finally:
            done.set()

    bridge.submit(run(), context or contextvars.copy_context())
    assert done.wait(10)
    return box[0]


def test_no_thread_before_the_first_coroutine(bridge: AsyncBridge) -> None:
    assert bridge._thread is None

    async def where() -> str:
        return threading.current_thread().name

    assert result_of(bridge, where()) == "flaskcompat-loop"


def test_run_gives_what_the_coroutine_gives_or_raises(bridge: AsyncBridge) -> None:
    async def give() -> str:
        return variable.get()

    async def boom() -> None:
        raise SystemExit(3)

    async def nested() -> Any:
        inner = give()
        try:
            return bridge.run(inner, contextvars.copy_context())
        finally:
            inner.close()

    context = contextvars.copy_context()
    context.run(variable.set, "mine")
    assert bridge.run(give(), context) == "mine"
    with pytest.raises(SystemExit):
        bridge.run(boom(), context)
    with pytest.raises(RuntimeError, match="event loop's own thread"):
        bridge.run(nested(), context)
    assert eventually(lambda: bridge.active == 0)


def test_all_coroutines_share_one_loop(bridge: AsyncBridge) -> None:
    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert result_of(bridge, loop()) is result_of(bridge, loop())


def test_context_is_the_one_given(bridge: AsyncBridge) -> None:
    context = contextvars.copy_context()
    context.run(variable.set, "mine")

    async def read() -> str:
        before = variable.get()
        variable.set("changed")
        return before

    assert result_of(bridge, read(), context) == "mine"
    assert context[variable] == "changed" and variable.get() == "unset"


def test_cancel_reaches_the_coroutine_even_before_it_began(bridge: AsyncBridge) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    async def wait() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    job = bridge.submit(wait(), contextvars.copy_context())
    assert begun.wait(10)
    job.cancel()
    assert cancelled.wait(10)
    assert eventually(lambda: bridge.active == 0)
    job.cancel()


def test_blocking_call_on_the_loop_s_own_thread_is_refused(bridge: AsyncBridge) -> None:
    async def block() -> None:
        bridge.refuse_loop_thread()

    error = result_of(bridge, block())
    assert isinstance(error, RuntimeError) and "event loop's own thread" in str(error)
    bridge.refuse_loop_thread()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_exit_in_a_task_of_the_user_s_leaves_the_others_alone(bridge: AsyncBridge) -> None:
    async def leave() -> None:
        raise SystemExit(3)

    async def main() -> str:
        task = asyncio.create_task(leave())
        await asyncio.wait([task])
        await asyncio.sleep(0)
        return "still here"

    assert result_of(bridge, main()) == "still here"


def test_blocking_work_has_many_threads(bridge: AsyncBridge) -> None:
    barrier = threading.Barrier(EXECUTOR_THREADS)

    async def main() -> int:
        return len(await asyncio.gather(*(asyncio.to_thread(barrier.wait, 20) for _ in range(EXECUTOR_THREADS))))

    assert result_of(bridge, main()) == EXECUTOR_THREADS


def test_close_cancels_waits_and_allows_a_new_start(bridge: AsyncBridge) -> None:
    begun, ended = threading.Event(), threading.Event()

    async def wait() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.set()

    job = bridge.submit(wait(), contextvars.copy_context())
    assert begun.wait(10)
    thread = bridge._thread
    bridge.close()
    assert ended.is_set() and thread is not None and not thread.is_alive()
    job.cancel()
    bridge.close()

    async def again() -> str:
        return "again"

    assert result_of(bridge, again()) == "again"


def test_close_does_not_wait_for_ever(bridge: AsyncBridge, caplog: pytest.LogCaptureFixture) -> None:
    begun, free = threading.Event(), threading.Event()

    async def block() -> None:
        begun.set()
        free.wait(20)

    bridge.submit(block(), contextvars.copy_context())
    assert begun.wait(10)
    thread = bridge._thread
    bridge.close(timeout=-0.9)
    assert "did not end" in caplog.text
    free.set()
    assert thread is not None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_forked_child_starts_a_loop_of_its_own() -> None:
    code = """
import contextvars, os, threading
from flaskcompat.runtime.bridge import bridge

def run():
    done = threading.Event()
    async def work():
        done.set()
    bridge.submit(work(), contextvars.copy_context())
    return done.wait(10)

assert run()
child = os.fork()
if child == 0:
    os._exit(0 if run() and bridge.active <= 1 else 1)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert run()
print("both ran")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "both ran", done.stderr


def test_generators_are_closed_at_exit() -> None:
    code = """
import asyncio, contextvars, threading
from flaskcompat.runtime.bridge import bridge

begun = threading.Event()
async def work():
    try:
        begun.set()
        await asyncio.Event().wait()
    finally:
        print("closed")
bridge.submit(work(), contextvars.copy_context())
begun.wait(10)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "closed", done.stderr
