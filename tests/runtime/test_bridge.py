"""The bridge's promises, one by one."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from flaskcompat.runtime.abandon import Abandoned
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
    assert bridge.loops == 0

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


def test_context_is_a_copy_of_the_one_given(bridge: AsyncBridge) -> None:
    context = contextvars.copy_context()
    context.run(variable.set, "mine")

    async def read() -> str:
        before = variable.get()
        variable.set("changed")
        return before

    assert result_of(bridge, read(), context) == "mine"
    assert context[variable] == "mine" and variable.get() == "unset"


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
    assert bridge._current is not None
    thread = bridge._current.thread
    bridge.close()
    assert ended.is_set() and not thread.is_alive()
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
    assert bridge._current is not None
    thread = bridge._current.thread
    bridge.close(timeout=-0.9)
    assert "did not end" in caplog.text
    assert thread.is_alive()
    free.set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_forked_child_starts_a_loop_of_its_own() -> None:
    code = """
import contextvars, os, threading
from flaskcompat.runtime.abandon import Abandoned
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
from flaskcompat.runtime.abandon import Abandoned
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


def block(bridge: AsyncBridge, owner: str, free: threading.Event) -> threading.Event:
    """Have a task of *owner*'s block the loop until *free* is set; gives what is set when it does."""
    blocks = threading.Event()

    async def work() -> None:
        blocks.set()
        free.wait(20)

    bridge.submit(work(), contextvars.copy_context(), owner)
    assert blocks.wait(10)
    return blocks


async def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def loop_of(bridge: AsyncBridge, owner: str) -> asyncio.AbstractEventLoop:
    return bridge.run(_loop(), contextvars.copy_context(), owner)


def test_blocked_loop_is_left_to_the_model_that_blocks_it(
    bridge: AsyncBridge, caplog: pytest.LogCaptureFixture
) -> None:
    shared, free = loop_of(bridge, "good"), threading.Event()
    assert loop_of(bridge, "bad") is shared
    block(bridge, "bad", free)
    try:
        fresh = loop_of(bridge, "good")  # begun while the loop was blocked
        assert fresh is not shared and bridge.loops == 2
        assert "the model 'bad' blocks the event loop" in caplog.text and "free.wait(20)" in caplog.text
    finally:
        free.set()
    assert loop_of(bridge, "bad") is shared, "its connections are there"
    assert loop_of(bridge, "good") is fresh and loop_of(bridge, "other") is fresh
    assert eventually(lambda: "the event loop goes on after" in caplog.text)


def test_task_that_a_model_s_task_made_is_known_as_the_model_s(
    bridge: AsyncBridge, caplog: pytest.LogCaptureFixture
) -> None:
    free = threading.Event()

    async def child() -> None:
        await asyncio.sleep(0)
        free.wait(20)

    async def parent() -> None:
        await asyncio.gather(child())

    bridge.submit(parent(), contextvars.copy_context(), "bad")
    try:
        assert eventually(lambda: "the model 'bad' blocks the event loop" in caplog.text)
    finally:
        free.set()


def test_what_waits_behind_a_blocked_loop_begins_once(bridge: AsyncBridge) -> None:
    begun: list[int] = []
    free = threading.Event()

    async def work(number: int) -> None:
        begun.append(number)

    block(bridge, "bad", free)
    for number in range(50):
        bridge.submit(work(number), contextvars.copy_context(), "good" if number % 2 else "bad")
    assert eventually(lambda: len(begun) == 25)
    free.set()
    assert eventually(lambda: bridge.active == 0)
    assert sorted(begun) == list(range(50))


def test_what_came_in_the_same_turn_as_what_blocks_the_loop_begins_elsewhere(bridge: AsyncBridge) -> None:
    free, both_are_there = threading.Event(), threading.Event()
    shared = loop_of(bridge, "good")

    async def blocks() -> None:
        free.wait(20)

    shared.call_soon_threadsafe(both_are_there.wait, 20)
    bridge.submit(blocks(), contextvars.copy_context(), "bad")
    waiting = _loop()
    given: list[asyncio.AbstractEventLoop] = []

    async def good() -> None:
        given.append(await waiting)

    bridge.submit(good(), contextvars.copy_context(), "good")
    both_are_there.set()
    try:
        assert eventually(lambda: given, 10) and given[0] is not shared
    finally:
        free.set()


def test_job_cancelled_behind_a_blocked_loop_is_cancelled_where_it_begins(bridge: AsyncBridge) -> None:
    free, ended = threading.Event(), threading.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    block(bridge, "bad", free)
    bridge.submit(work(), contextvars.copy_context(), "good").cancel()
    assert ended.wait(10)
    free.set()


def test_loop_that_nobody_owns_is_given_up_when_it_is_done(bridge: AsyncBridge) -> None:
    free = threading.Event()
    first = loop_of(bridge, "good")
    first.call_soon_threadsafe(free.wait, 20)  # no task, so nobody's
    second = loop_of(bridge, "good")
    assert second is not first and bridge.loops == 2
    free.set()
    assert eventually(lambda: bridge.loops == 1) and eventually(first.is_closed)


def test_errors_that_nobody_waits_for_are_logged_unless_they_are_of_an_abandoned_run(
    bridge: AsyncBridge, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(error: BaseException) -> None:
        raise error

    async def main() -> None:
        for error in (Abandoned(), ValueError("lost")):
            await asyncio.wait([asyncio.create_task(fail(error))])
        gc.collect()

    result_of(bridge, main())
    assert eventually(lambda: "lost" in caplog.text) and "Abandoned" not in caplog.text
