from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from haystack.dataclasses import ReasoningContent, StreamingChunk, ToolCallDelta

from flaskcompat import PipelineEvent
from flaskcompat.errors import WrapperContractError
from flaskcompat.protocol.deltas import Event
from flaskcompat.runtime.abandon import Abandoned
from flaskcompat.runtime.buffer import AnswerBuffer, Buffer, LoopBuffer

from ..support import eventually


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, name="flaskcompat-test", daemon=True)
    thread.start()
    return thread


def drain(buffer: Buffer) -> list[str]:
    items = []
    while not buffer.ended:
        items += buffer.take()
    return items


def numbers(end: int) -> list[str]:
    return list(map(str, range(end)))


def test_takes_all_that_waits_at_once() -> None:
    buffer = Buffer()
    for i in range(5):
        buffer.put(str(i))
    assert buffer.take() == ["0", "1", "2", "3", "4"]
    buffer.beat()
    assert buffer.take() == [] and not buffer.ended


def test_end_comes_after_the_items_and_carries_the_error() -> None:
    buffer, error = Buffer(), ValueError()
    buffer.put("1")
    buffer.finish(error)
    assert buffer.take() == ["1"]
    assert buffer.ended and buffer.error is error
    assert buffer.take() == []


def test_reader_wakes_for_each_item() -> None:
    buffer, turn = Buffer(), threading.Semaphore(0)

    def write() -> None:
        for i in range(200):
            turn.acquire()
            buffer.put(str(i))
        buffer.finish()

    thread = in_thread(write)
    for i in range(200):
        turn.release()
        assert buffer.take() == [str(i)]
    assert buffer.take() == [] and buffer.ended
    thread.join()


@pytest.mark.parametrize("room", [1, 3, 256])
def test_nothing_is_lost_or_reordered_under_back_pressure(room: int) -> None:
    buffer = Buffer(room)

    def write() -> None:
        for i in range(5000):
            buffer.put(str(i))
        buffer.finish()

    thread = in_thread(write)
    assert drain(buffer) == numbers(5000)
    thread.join()


def test_several_writers() -> None:
    buffer = Buffer(8)

    def write(start: int) -> None:
        for i in range(start, start + 1000):
            buffer.put(str(i))

    threads = [in_thread(lambda s=s: write(s)) for s in range(0, 8000, 1000)]  # type: ignore[misc]
    items: list[int] = []
    while len(items) < 8000:
        items += buffer.take()
    assert sorted(items, key=int) == numbers(8000)
    for thread in threads:
        thread.join()


def test_writer_is_held_at_the_bound() -> None:
    buffer, written = Buffer(10), []

    def write() -> None:
        for i in range(30):
            buffer.put(str(i))
            written.append(i)

    thread = in_thread(write)
    assert eventually(lambda: buffer._full)
    assert len(written) == 9
    assert buffer.take() == numbers(10)
    while thread.is_alive():
        buffer.beat()
        buffer.take()


def test_leaving_reader_frees_a_writer_that_waits() -> None:
    buffer, seen = Buffer(1), []

    def write() -> None:
        try:
            buffer.put("1")
        except Abandoned as error:
            seen.append(error)

    thread = in_thread(write)
    assert eventually(lambda: buffer._full)
    buffer.abandon()
    thread.join(10)
    assert len(seen) == 1
    with pytest.raises(Abandoned):
        buffer.put("2")


def test_straggler_is_let_go_when_the_end_was_read() -> None:
    buffer, seen = Buffer(3), []

    def write() -> None:
        try:
            for i in range(9):
                buffer.put(str(i))
        except Abandoned as error:
            seen.append(error)

    buffer.finish(ValueError())
    thread = in_thread(write)
    assert eventually(lambda: buffer._full)
    buffer.take()
    thread.join(10)
    assert len(seen) == 1 and buffer.ended


def test_leaving_wakes_the_reader_itself() -> None:
    buffer, taken = Buffer(), []
    thread = in_thread(lambda: taken.append(buffer.take()))
    assert eventually(lambda: buffer._asleep)
    buffer.abandon()
    thread.join(10)
    assert taken == [[]]


def test_coroutine_writes_under_back_pressure() -> None:
    buffer = Buffer(4)

    async def write() -> None:
        for i in range(1000):
            await buffer.put_async(str(i))
        buffer.finish()

    thread = in_thread(lambda: asyncio.run(write()))
    assert drain(buffer) == numbers(1000)
    thread.join()


def test_coroutine_that_waits_learns_that_the_reader_left() -> None:
    buffer, seen = Buffer(1), []

    async def write() -> None:
        for _ in range(2):
            try:
                await buffer.put_async("1")
            except Abandoned as error:
                seen.append(error)

    thread = in_thread(lambda: asyncio.run(write()))
    assert eventually(lambda: buffer._full)
    buffer.abandon()
    thread.join(10)
    assert len(seen) == 2


def test_reader_on_the_loop_with_writers_on_loop_and_thread() -> None:
    async def main() -> list[str]:
        buffer = LoopBuffer(8)

        def write() -> None:
            for i in range(500):
                buffer.put(str(i))

        async def write_async() -> None:
            for i in range(500, 1000):
                await buffer.put_async(str(i))

        writers = [asyncio.create_task(write_async()), asyncio.create_task(asyncio.to_thread(write))]
        items: list[int] = []
        while len(items) < 1000:
            items += await buffer.take_async()
        await asyncio.gather(*writers)
        buffer.finish()
        assert await buffer.take_async() == [] and buffer.ended
        return items

    assert sorted(asyncio.run(main()), key=int) == numbers(1000)


def test_room_made_after_the_loop_is_closed() -> None:
    buffer = Buffer(1)

    async def write() -> None:
        task = asyncio.create_task(buffer.put_async("1"))
        while not buffer._full:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(write())
    assert buffer.take() == ["1"]


def answer_buffer() -> AnswerBuffer:
    return AnswerBuffer(lambda error: error)


class Told(PipelineEvent):
    """An event of the user's, whose code says what it is."""

    def __init__(self, size: int = 1) -> None:
        self.told_on: list[threading.Thread] = []
        self._size = size

    def to_event_dict(self) -> dict[str, Any]:
        self.told_on.append(threading.current_thread())
        return {"type": "status", "data": "x" * self._size}


def test_what_an_item_says_is_found_out_where_it_is_brought() -> None:
    buffer, event = answer_buffer(), Told()
    thread = in_thread(lambda: buffer.put(event))
    assert eventually(lambda: buffer.take_ready() == [(Event({"type": "status", "data": "x"}),)])
    thread.join(10)
    assert event.told_on == [thread]
    in_thread(lambda: [buffer.put(item) for item in ("a", StreamingChunk("b"))])  # type: ignore[func-returns-value]
    assert eventually(lambda: buffer.take_ready() in (["a", "b"], ["b"]))


def test_what_is_no_part_of_an_answer_ends_the_run_where_it_stands() -> None:
    buffer = answer_buffer()
    buffer.put("a")
    with pytest.raises(Abandoned):
        buffer.put(object())
    with pytest.raises(Abandoned):
        buffer.put("b")
    assert buffer.take() == ["a"] and buffer.ended and isinstance(buffer.error, WrapperContractError)


@pytest.mark.parametrize(
    "item",
    [
        "x" * 20_000,
        StreamingChunk("x" * 20_000),
        StreamingChunk("", reasoning=ReasoningContent("x" * 20_000), index=0),
        StreamingChunk("", tool_calls=[ToolCallDelta(0, "f", "x" * 20_000)], index=0),
        Told(20_000),
    ],
)
@pytest.mark.parametrize("kind", [Buffer, answer_buffer])
def test_large_item_fills_the_buffer(kind: Callable[[], Buffer], item: Any) -> None:
    buffer, put = kind(), []

    def write() -> None:
        for _ in range(5):
            buffer.put(item)
            put.append(1)

    thread = in_thread(write)
    for taken in range(1, 6):
        assert len(buffer.take()) == 1
        assert eventually(lambda n=taken: len(put) == n)  # type: ignore[misc]
    thread.join(10)


def test_listener_that_could_not_be_called_is_called_by_the_next_who_brings_something() -> None:
    buffer, calls = Buffer(), []

    def listener() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise RecursionError

    buffer.listen(listener)
    with pytest.raises(RecursionError):
        buffer.put("a")
    buffer.put("b")
    assert len(calls) == 2 and buffer.take_ready() == ["a", "b"]
