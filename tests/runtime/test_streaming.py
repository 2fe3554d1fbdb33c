import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import haystack
import pytest
from haystack import Pipeline, component
from haystack.components.agents import Agent
from haystack.dataclasses import ChatMessage, ReasoningContent, StreamingChunk, ToolCall, ToolCallDelta
from haystack.tools import create_tool_from_function

from flaskcompat import AsyncPipeline, PipelineEvent, async_streaming_generator, streaming_generator
from flaskcompat.protocol.usage import RUN_USAGE, usage_of
from flaskcompat.runtime.abandon import Abandoned, close_upstreams
from flaskcompat.runtime.streaming import PipelineStream

context_variable: contextvars.ContextVar[str] = contextvars.ContextVar("context_variable", default="unset")


def _usage(words: int) -> dict[str, int]:
    return {"prompt_tokens": 1, "completion_tokens": words, "total_tokens": 1 + words}


class Script:
    """What a generator says: words, or whole chunks; and hooks to hold it up or make it fail."""

    def __init__(self, *chunks: Any, before: Callable[[int], None] | None = None) -> None:
        self.chunks = [StreamingChunk(c) if isinstance(c, str) else c for c in chunks]
        self.before = before
        self.sent = 0

    def __iter__(self) -> Iterator[StreamingChunk]:
        for number, chunk in enumerate(self.chunks):
            if self.before:
                self.before(number)
            self.sent = number + 1
            yield chunk

    def replies(self) -> dict[str, Any]:
        text = "".join(chunk.content for chunk in self.chunks)
        return {"replies": [ChatMessage.from_assistant(text, meta={"usage": _usage(len(self.chunks))})]}


@component
class Generator:
    """Streams its script, synchronously or not."""

    def __init__(self, script: Script) -> None:
        self.script = script

    @component.output_types(replies=list[ChatMessage])
    def run(self, messages: list[ChatMessage], streaming_callback: Any = None) -> dict[str, Any]:
        for chunk in self.script:
            if streaming_callback:
                streaming_callback(chunk)
        return self.script.replies()

    @component.output_types(replies=list[ChatMessage])
    async def run_async(self, messages: list[ChatMessage], streaming_callback: Any = None) -> dict[str, Any]:
        for chunk in self.script:
            await asyncio.sleep(0)
            if streaming_callback:
                await streaming_callback(chunk)
        return self.script.replies()


@component
class SyncGenerator:
    """Has no run_async."""

    def __init__(self, script: Script) -> None:
        self.script = script

    @component.output_types(replies=list[ChatMessage])
    def run(self, messages: list[ChatMessage], streaming_callback: Any = None) -> dict[str, Any]:
        for chunk in self.script:
            if streaming_callback:
                streaming_callback(chunk)
        return self.script.replies()


@component
class Silent:
    @component.output_types(messages=list[ChatMessage])
    def run(self, messages: list[ChatMessage]) -> dict[str, Any]:
        return {"messages": messages}


USER = [ChatMessage.from_user("hi")]
ARGS = {"llm": {"messages": USER}}
in_both = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])


def pipeline(script: Script, kind: Any = Generator, *, asynchronous: bool = False) -> Any:
    made = (AsyncPipeline if asynchronous else Pipeline)()
    made.add_component("llm", kind(script))
    return made


def collect(target: Any, asynchronous: bool, **kwargs: Any) -> list[Any]:
    """All items of a stream but the count of the whole run."""
    if not asynchronous:
        items = list(streaming_generator(target, **kwargs))
    else:

        async def main() -> list[Any]:
            return [item async for item in async_streaming_generator(target, **kwargs)]

        items = asyncio.run(main())
    return [item for item in items if not is_run_usage(item)]


def is_run_usage(item: Any) -> bool:
    return isinstance(item, StreamingChunk) and bool(item.meta.get(RUN_USAGE))


def texts(items: list[Any]) -> list[str]:
    return [item.content if isinstance(item, StreamingChunk) else item for item in items]


@in_both
@pytest.mark.parametrize("args", [ARGS, {"messages": USER}], ids=["nested", "flat"])
def test_pipeline_streams_with_nested_and_flat_arguments(asynchronous: bool, args: dict[str, Any]) -> None:
    before = {key: dict(value) if isinstance(value, dict) else value for key, value in args.items()}
    made = pipeline(Script("a ", "b"), asynchronous=asynchronous)
    assert texts(collect(made, asynchronous, pipeline_run_args=args)) == ["a ", "b"]
    assert args == before


@in_both
def test_flat_argument_that_nobody_takes_is_named_in_the_log(asynchronous: bool, caplog: Any) -> None:
    made = pipeline(Script("a"), asynchronous=asynchronous)
    assert texts(collect(made, asynchronous, pipeline_run_args={"messages": USER, "nonsense": 1})) == ["a"]
    assert "nonsense" in caplog.text


def two_generators(asynchronous: bool) -> Any:
    made = (AsyncPipeline if asynchronous else Pipeline)()
    # Added in the wrong order on purpose: the last one is the last to run.
    made.add_component("second", Generator(Script("2a", "2b")))
    made.add_component("first", Generator(Script("1a", "1b")))
    made.connect("first.replies", "second.messages")
    return made


@in_both
@pytest.mark.parametrize(
    ("components", "expected"),
    [
        (None, ["2a", "2b"]),
        ("all", ["1a", "1b", "2a", "2b"]),
        (["first"], ["1a", "1b"]),
        (["first", "second"], ["1a", "1b", "2a", "2b"]),
    ],
)
def test_last_component_streams_unless_told_otherwise(asynchronous: bool, components: Any, expected: list[str]) -> None:
    args = {"first": {"messages": USER}}
    made = two_generators(asynchronous)
    assert texts(collect(made, asynchronous, pipeline_run_args=args, streaming_components=components)) == expected


def test_pipeline_with_a_loop_streams() -> None:
    from haystack.components.joiners import BranchJoiner

    made = Pipeline()
    made.add_component("joiner", BranchJoiner(list[ChatMessage]))
    made.add_component("llm", Generator(Script("a")))
    made.add_component("back", Silent())
    made.connect("joiner.value", "llm.messages")
    made.connect("llm.replies", "back.messages")
    made.connect("back.messages", "joiner.value")
    assert streaming_generator(made)._producer._plan.streaming == ["llm"]


@in_both
def test_nothing_that_streams(asynchronous: bool) -> None:
    make = async_streaming_generator if asynchronous else streaming_generator
    empty = Pipeline()
    with pytest.raises(ValueError, match="^No streaming-capable components found in the pipeline$"):
        make(empty)
    silent = Pipeline()
    silent.add_component("silent", Silent())
    with pytest.raises(ValueError, match="^No streaming-capable components found in the pipeline$"):
        make(silent)
    with pytest.raises(ValueError, match="Unsupported pipeline type: str"):
        make("pipeline")


def test_chunks_come_while_the_pipeline_runs() -> None:
    turn = threading.Semaphore(1)
    script = Script("a", "b", "c", before=lambda _: turn.acquire(timeout=10))  # type: ignore[arg-type,return-value]
    stream = streaming_generator(pipeline(script), pipeline_run_args=ARGS)
    for number, text in enumerate("abc"):
        assert next(stream) == StreamingChunk(text)
        assert script.sent == number + 1, "the next chunk is not made before this one was taken"
        turn.release()
    assert is_run_usage(next(stream)) and list(stream) == []


@in_both
def test_reasoning_callback(asynchronous: bool) -> None:
    thought = StreamingChunk("", index=0, reasoning=ReasoningContent("hm", extra={"k": 1}))
    seen = []

    def on_reasoning(text: str, extra: dict[str, Any] | None) -> Any:
        seen.append((text, extra))
        return PipelineEvent("status", {"text": text})

    made = pipeline(Script(thought, "a"), asynchronous=asynchronous)
    items = collect(made, asynchronous, pipeline_run_args=ARGS, on_reasoning=on_reasoning)
    assert items == [PipelineEvent("status", {"text": "hm"}), thought, StreamingChunk("a")]
    assert seen == [("hm", {"k": 1})]


@in_both
@pytest.mark.parametrize(
    ("given", "expected"), [(None, []), ("t", ["t"]), (["t", None, "u"], ["t", "u"]), ([], []), ("", [])]
)
def test_what_a_callback_gives(asynchronous: bool, given: Any, expected: list[str]) -> None:
    thought = StreamingChunk("", index=0, reasoning=ReasoningContent("hm"))
    made = pipeline(Script(thought), asynchronous=asynchronous)
    items = collect(made, asynchronous, pipeline_run_args=ARGS, on_reasoning=lambda *_: given)
    assert items == [*expected, thought]


@in_both
def test_callback_that_raises_is_logged_and_the_stream_goes_on(asynchronous: bool, caplog: Any) -> None:
    def boom(*_: Any) -> Any:
        raise ZeroDivisionError

    thought = StreamingChunk("", index=0, reasoning=ReasoningContent("hm"))
    made = pipeline(Script(thought, "a"), asynchronous=asynchronous)
    items = collect(made, asynchronous, pipeline_run_args=ARGS, on_reasoning=boom, on_pipeline_end=boom)
    assert items == [thought, StreamingChunk("a")]
    assert "on_reasoning failed" in caplog.text and "on_pipeline_end failed" in caplog.text


@in_both
def test_pipeline_end_sees_the_result_and_ends_the_answer(asynchronous: bool) -> None:
    seen: list[Any] = []

    def on_end(result: Any) -> str:
        seen.append(result)
        return "the end"

    made = two_generators(asynchronous)
    items = collect(
        made,
        asynchronous,
        pipeline_run_args={"first": {"messages": USER}},
        on_pipeline_end=on_end,
        include_outputs_from={"first"},
    )
    assert items[-1] == StreamingChunk("the end")
    assert set(seen[0]) == {"first", "second"}


# -- agents ------------------------------------------------------------------------------------------------


def add(a: Annotated[int, "one"], b: Annotated[int, "two"]) -> str:
    """Add two numbers."""
    return str(a + b)


def fail(a: Annotated[int, "one"]) -> str:
    """Fail."""
    raise ValueError("no")


@component
class AgentModel:
    """Calls a tool with streamed arguments, then says what came back."""

    def __init__(self, tool: str = "add") -> None:
        self.tool = tool

    def _chunks(self, messages: list[ChatMessage]) -> tuple[list[StreamingChunk], ChatMessage]:
        last = messages[-1]
        if (result := last.tool_call_result) is not None:
            reply = ChatMessage.from_assistant(f"It is {result.result}", meta={"usage": _usage(3)})
            return [StreamingChunk(reply.text or ""), StreamingChunk("", finish_reason="stop")], reply
        arguments = {"a": 2, "b": 3} if self.tool == "add" else {"a": 2}
        call = ToolCall(self.tool, arguments, id="call_1")
        chunks = [
            StreamingChunk("", index=0, tool_calls=[ToolCallDelta(0, self.tool, None, id="call_1")], start=True),
            StreamingChunk("", index=0, tool_calls=[ToolCallDelta(0, None, str(arguments).replace("'", '"'))]),
            StreamingChunk("", finish_reason="tool_calls"),
        ]
        return chunks, ChatMessage.from_assistant(tool_calls=[call], meta={"usage": _usage(5)})

    @component.output_types(replies=list[ChatMessage])
    def run(self, messages: list[ChatMessage], tools: Any = None, streaming_callback: Any = None) -> dict[str, Any]:
        chunks, reply = self._chunks(messages)
        for chunk in chunks if streaming_callback else ():
            streaming_callback(chunk)
        return {"replies": [reply]}

    @component.output_types(replies=list[ChatMessage])
    async def run_async(
        self, messages: list[ChatMessage], tools: Any = None, streaming_callback: Any = None
    ) -> dict[str, Any]:
        chunks, reply = self._chunks(messages)
        for chunk in chunks if streaming_callback else ():
            await streaming_callback(chunk)
        return {"replies": [reply]}


def agent(tool: Callable[..., str] = add) -> Agent:
    made = Agent(chat_generator=AgentModel(tool.__name__), tools=[create_tool_from_function(tool)])
    made.warm_up()
    return made


@in_both
def test_agent_streams_its_steps(asynchronous: bool) -> None:
    items = collect(agent(), asynchronous, pipeline_run_args={"messages": USER})
    results = [item.tool_call_result.result for item in items if item.tool_call_result]
    assert results == ["5"]
    assert "It is 5" in texts(items)


@in_both
def test_tool_callbacks(asynchronous: bool) -> None:
    seen: list[Any] = []
    items = collect(
        agent(),
        asynchronous,
        pipeline_run_args={"messages": USER},
        on_tool_call_start=lambda *args: seen.append(args) or "start",  # type: ignore[func-returns-value]
        on_tool_call_end=lambda *args: seen.append(args) or ["end"],  # type: ignore[func-returns-value]
    )
    assert seen == [("add", {}, "call_1"), ("add", {"a": 2, "b": 3}, "5", False)]
    start, end = items.index("start"), items.index("end")
    assert items[start + 1].tool_calls[0].tool_name == "add"
    assert items[end + 1].tool_call_result.result == "5"


@in_both
def test_odd_arguments_do_not_end_the_stream(asynchronous: bool) -> None:
    seen: list[Any] = []
    odd = [
        StreamingChunk("", index=0, tool_calls=[ToolCallDelta(n, "f", arguments, id=str(n))])
        for n, arguments in enumerate(["[" * 100_000, "{", "3", None])
    ]
    made = pipeline(Script(*odd), asynchronous=asynchronous)
    collect(made, asynchronous, pipeline_run_args=ARGS, on_tool_call_start=lambda *args: seen.append(args))
    assert seen == [("f", {}, str(n)) for n in range(4)]


@in_both
def test_tool_that_fails_is_told_to_the_callback(asynchronous: bool) -> None:
    seen: list[Any] = []
    collect(agent(fail), asynchronous, pipeline_run_args={"messages": USER}, on_tool_call_end=lambda *a: seen.append(a))
    [(name, arguments, result, error)] = seen
    assert (name, arguments, error) == ("fail", {"a": 2}, True)
    assert isinstance(result, str)


# -- usage -------------------------------------------------------------------------------------------------


def run_usage(target: Any, asynchronous: bool, **kwargs: Any) -> Any:
    if asynchronous:

        async def main() -> list[Any]:
            return [item async for item in async_streaming_generator(target, **kwargs)]

        items = asyncio.run(main())
    else:
        items = list(streaming_generator(target, **kwargs))
    found = [usage_of(item.meta["usage"]) for item in items if is_run_usage(item)]
    assert len(found) <= 1
    return (found[0].input, found[0].output) if found and found[0] else None


@in_both
def test_usage_of_the_run_is_told_at_its_end(asynchronous: bool) -> None:
    made = pipeline(Script("a", "b"), asynchronous=asynchronous)
    assert run_usage(made, asynchronous, pipeline_run_args=ARGS) == (1, 2)
    args = {"first": {"messages": USER}}
    two = two_generators(asynchronous)
    assert run_usage(two, asynchronous, pipeline_run_args=args, include_outputs_from={"first"}) == (2, 4)


@in_both
def test_usage_of_an_agent_is_that_of_its_own_steps(asynchronous: bool) -> None:
    assert run_usage(agent(), asynchronous, pipeline_run_args={"messages": USER}) == (2, 8)
    history = [ChatMessage.from_assistant("before", meta={"usage": _usage(100)}), *USER]
    assert run_usage(agent(), asynchronous, pipeline_run_args={"messages": history}) == (2, 8)


# -- events from outside -----------------------------------------------------------------------------------


def test_event_queue_of_a_thread() -> None:
    events: queue.Queue[Any] = queue.Queue()
    arrived = threading.Event()
    script = Script("a", "b", before=lambda number: number == 1 and arrived.wait(10))  # type: ignore[arg-type,return-value]
    stream = streaming_generator(pipeline(script), pipeline_run_args=ARGS, external_event_queue=events)
    events.put({"type": "early", "data": {}})
    items = []
    for item in stream:
        items.append(item)
        if item == {"type": "early", "data": {}}:
            events.put("late")  # also one that comes when the run is nearly over is not lost
            arrived.set()
    assert {"type": "early", "data": {}} in items and "late" in items
    assert [t for t in texts([i for i in items if isinstance(i, StreamingChunk)]) if t] == ["a", "b"]


@pytest.mark.parametrize("kind", [asyncio.Queue, queue.Queue])
def test_event_queue_of_the_loop(kind: Any) -> None:
    async def main() -> list[Any]:
        events = kind()
        events.put_nowait(PipelineEvent("early"))
        stream = async_streaming_generator(
            pipeline(Script("a", "b"), asynchronous=True),
            pipeline_run_args=ARGS,
            external_event_queue=events,
            on_pipeline_end=lambda _: None,
        )
        items = []
        async for item in stream:
            items.append(item)
            if item == StreamingChunk("a"):
                events.put_nowait("late")
        return items

    items = asyncio.run(main())
    assert PipelineEvent("early") in items and "late" in items


# -- failures and leaving ----------------------------------------------------------------------------------


def _boom(number: int) -> None:
    if number == 1:
        raise ValueError("boom")


@in_both
def test_failure_comes_after_the_chunks_before_it(asynchronous: bool) -> None:
    made = pipeline(Script("a", "b", before=_boom), asynchronous=asynchronous)
    seen = []
    with pytest.raises(Exception, match="boom"):
        if asynchronous:

            async def main() -> None:
                async for item in async_streaming_generator(made, pipeline_run_args=ARGS):
                    seen.append(item)  # noqa: PERF401

            asyncio.run(main())
        for item in streaming_generator(made, pipeline_run_args=ARGS):
            seen.append(item)  # noqa: PERF402
    assert seen == [StreamingChunk("a")]


@pytest.mark.parametrize("how", ["closed", "dropped", "wrapped"])
def test_closing_ends_the_run_at_its_next_chunk(how: str) -> None:
    go = threading.Semaphore(0)
    ended = threading.Event()

    class Watched(Script):
        def __iter__(self) -> Iterator[StreamingChunk]:
            try:
                yield from super().__iter__()
            finally:
                ended.set()

    def wrapped(inner: Iterator[Any]) -> Iterator[Any]:
        for item in inner:  # noqa: UP028
            yield item

    script = Watched(*"abcdef", before=lambda number: number and go.acquire(timeout=10))  # type: ignore[arg-type,return-value]
    stream: Any = streaming_generator(pipeline(script), pipeline_run_args=ARGS)
    if how == "wrapped":
        stream = wrapped(stream)
    assert next(stream) == StreamingChunk("a")
    if how == "dropped":
        del stream
    else:
        stream.close()
        assert list(stream) == []
    go.release()
    assert ended.wait(10)
    assert script.sent == 2


def test_stream_that_is_thrown_into_or_forgotten_ends() -> None:
    stream = streaming_generator(pipeline(Script("a", "b")), pipeline_run_args=ARGS)
    with pytest.raises(KeyError):
        stream.throw(KeyError("x"))
    assert list(stream) == []
    other = streaming_generator(pipeline(Script("a")), pipeline_run_args=ARGS)
    with pytest.raises(KeyError):
        other.throw(KeyError, "x")
    assert isinstance(other, PipelineStream) and other.send.__doc__ is None


@pytest.mark.skipif(
    hasattr(haystack, "AsyncPipeline"), reason="Haystack 2 does not cancel the components of an async pipeline"
)
def test_closing_the_async_stream_cancels_the_run() -> None:
    cancelled = []

    @component
    class Endless:
        @component.output_types(replies=list)
        def run(self, messages: Any, streaming_callback: Any = None) -> dict[str, Any]:
            return {}

        @component.output_types(replies=list)
        async def run_async(self, messages: Any, streaming_callback: Any = None) -> dict[str, Any]:
            try:
                await streaming_callback(StreamingChunk("a"))
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(True)
                raise
            return {}

    async def main() -> None:
        made = AsyncPipeline()
        made.add_component("llm", Endless())
        stream = async_streaming_generator(made, pipeline_run_args=ARGS)
        assert await stream.__anext__() == StreamingChunk("a")
        await stream.aclose()
        assert cancelled == [True]

        async def wrapped(inner: Any) -> Any:
            async for item in inner:
                yield item

        outer = wrapped(async_streaming_generator(made, pipeline_run_args=ARGS))
        assert await outer.__anext__() == StreamingChunk("a")
        await outer.aclose()
        async with asyncio.timeout(20):
            while len(cancelled) < 2:
                await asyncio.sleep(0)
        assert [item async for item in stream] == []
        fresh = async_streaming_generator(made, pipeline_run_args=ARGS)
        with pytest.raises(KeyError):
            await fresh.athrow(KeyError("x"))
        with pytest.raises(KeyError):
            await fresh.athrow(KeyError, "x")

    asyncio.run(main())


@pytest.mark.parametrize("fails", [False, True])
def test_shielded_run_goes_on_after_its_stream_is_closed(fails: bool, caplog: Any) -> None:
    async def main() -> None:
        over = asyncio.Event()

        class Watched(Script):
            def __iter__(self) -> Iterator[StreamingChunk]:
                yield from super().__iter__()
                over.set()
                if fails:
                    raise ValueError("late")

        script = Watched(*"abc")
        stream = async_streaming_generator(
            pipeline(script, asynchronous=True), pipeline_run_args=ARGS, shield_pipeline_task=True
        )
        assert await stream.__anext__() == StreamingChunk("a")
        await stream.aclose()
        await asyncio.wait_for(over.wait(), 10)
        assert script.sent == 3
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)

    asyncio.run(main())
    assert ("a shielded pipeline run failed" in caplog.text) is fails


@pytest.mark.parametrize("kind", [Generator, SyncGenerator])
def test_shielded_run_goes_on_though_its_reader_was_far_behind(kind: Any) -> None:
    async def main() -> None:
        script = Script(*map(str, range(1000)))
        stream = async_streaming_generator(
            pipeline(script, kind, asynchronous=True),
            pipeline_run_args=ARGS,
            shield_pipeline_task=True,
            allow_sync_streaming_callbacks=True,
        )
        await stream.__anext__()
        async with asyncio.timeout(20):
            while script.sent < 256:
                await asyncio.sleep(0)
            await stream.aclose()
            while script.sent < 1000 or len(asyncio.all_tasks()) > 1:
                await asyncio.sleep(0.001)
        assert script.sent == 1000

    asyncio.run(main())


def test_failure_of_one_component_frees_the_thread_of_another() -> None:
    @component
    class Failing:
        @component.output_types(text=str)
        def run(self, messages: list[ChatMessage]) -> dict[str, Any]:
            return {"text": ""}

        @component.output_types(text=str)
        async def run_async(self, messages: list[ChatMessage]) -> dict[str, Any]:
            while script.sent < 200:
                await asyncio.sleep(0)
            raise ValueError("boom")

    ended = threading.Event()

    class Watched(Script):
        def __iter__(self) -> Iterator[StreamingChunk]:
            try:
                yield from super().__iter__()
            finally:
                ended.set()

    script = Watched(*map(str, range(2000)))
    made = pipeline(script, SyncGenerator, asynchronous=True)
    made.add_component("failing", Failing())
    args = {**ARGS, "failing": {"messages": USER}}
    with pytest.raises(Exception, match="boom"):
        collect(made, True, pipeline_run_args=args, allow_sync_streaming_callbacks=True)
    assert ended.wait(20)


def test_model_stream_of_a_thread_is_closed_when_its_reader_leaves() -> None:
    closed = threading.Event()
    Stream = type("Stream", (), {"__module__": "openai._streaming", "close": lambda self: closed.set()})

    upstream, script = Stream(), Script(*map(str, range(1000)))

    @component
    class Holding:
        @component.output_types(replies=list[ChatMessage])
        def run(self, messages: list[ChatMessage], streaming_callback: Any = None) -> dict[str, Any]:
            held = upstream
            for chunk in script:
                streaming_callback(chunk)
            return {"replies": [held]}

    async def main() -> None:
        made = AsyncPipeline()
        made.add_component("llm", Holding())
        stream = async_streaming_generator(made, pipeline_run_args=ARGS, allow_sync_streaming_callbacks=True)
        await stream.__anext__()
        await stream.aclose()
        await asyncio.to_thread(closed.wait, 20)

    asyncio.run(main())
    assert closed.is_set()


def test_shielded_run_that_is_read_to_its_end_streams_as_any_other() -> None:
    made = pipeline(Script("a", "b"), asynchronous=True)
    assert texts(collect(made, True, pipeline_run_args=ARGS, shield_pipeline_task=True)) == ["a", "b"]


# -- components without run_async --------------------------------------------------------------------------


def test_sync_component_in_an_async_pipeline_must_be_allowed() -> None:
    made = pipeline(Script("a", "b"), SyncGenerator, asynchronous=True)
    with pytest.raises(ValueError, match="without run_async cannot stream in an async pipeline: llm"):
        async_streaming_generator(made, pipeline_run_args=ARGS)
    items = collect(made, True, pipeline_run_args=ARGS, allow_sync_streaming_callbacks=True)
    assert texts(items) == ["a", "b"]


def test_pipeline_without_run_async_runs_in_a_thread() -> None:
    class Old(Pipeline):
        """As of Haystack 2, whose plain pipeline has no run_async."""

        def __getattribute__(self, name: str) -> Any:
            if name == "run_async":
                raise AttributeError(name)
            return super().__getattribute__(name)

    made = Old()
    made.add_component("llm", Generator(Script("a", "b")))
    assert texts(collect(made, True, pipeline_run_args=ARGS)) == ["a", "b"]


def test_context_variables_reach_the_pipeline() -> None:
    seen = []
    script = Script("a", before=lambda _: seen.append(context_variable.get()))
    context = contextvars.copy_context()
    context.run(context_variable.set, "mine")
    context.run(lambda: list(streaming_generator(pipeline(script), pipeline_run_args=ARGS)))
    assert seen == ["mine"]


def test_model_stream_left_open_is_closed_from_the_frames() -> None:
    closed = []
    Stream = type("Stream", (), {"__module__": "openai._streaming", "close": lambda self: closed.append(self)})

    def upstream() -> None:
        stream = Stream()
        assert stream
        raise Abandoned

    try:
        try:
            upstream()
        except Abandoned as error:
            raise RuntimeError from error
    except RuntimeError as error:
        close_upstreams(error)
    assert len(closed) == 1
