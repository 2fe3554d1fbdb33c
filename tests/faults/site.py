"""An application whose wrappers do what wrappers should not, served by processes that the tests start."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from haystack import component
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage, StreamingChunk
from haystack.utils import Secret

from flaskcompat import (
    AsyncPipeline,
    BasePipelineWrapper,
    Pipeline,
    async_streaming_generator,
    create_app,
    get_last_user_input_text,
    get_last_user_message,
)
from flaskcompat import streaming_generator as run_streaming
from flaskcompat.stores import responses

from .curious import Curious

# Sooner than in earnest.
responses.LOST_AFTER = float(os.environ.get("LOST_AFTER", responses.LOST_AFTER))

_lock = threading.Lock()
_open: dict[str, int] = {}


def count(name: str, change: int) -> None:
    with _lock:
        _open[name] = _open.get(name, 0) + change


def told(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """What the request says, as JSON in its last message: words, delay and the like."""
    return dict(json.loads(get_last_user_message(messages) or "{}"))


class Words(BasePipelineWrapper):
    """A generator: so many words, each after a delay, with the request's own mark."""

    def run_chat_completion(self, model: str, messages: Any, body: Any) -> Iterator[str]:
        wish = told(messages)
        count("words", 1)
        try:
            time.sleep(wish.get("before", 0))
            for number in range(wish.get("words", 5)):
                yield f"{wish.get('mark', 'w')}{number} "
                time.sleep(wish.get("delay", 0.01))
        finally:
            count("words", -1)


class Story(BasePipelineWrapper):
    """Numbers as words of a response: so many, each after a delay."""

    def run_response(self, model: str, input_items: Any, body: Any) -> Iterator[str]:
        wish = json.loads(get_last_user_input_text(input_items) or "{}")
        for number in range(wish["words"]):
            time.sleep(wish["delay"])
            yield f"{number} "


class AsyncWords(BasePipelineWrapper):
    async def run_chat_completion_async(self, model: str, messages: Any, body: Any) -> AsyncIterator[str]:
        wish = told(messages)
        count("async_words", 1)
        try:
            await asyncio.sleep(wish.get("before", 0))
            for number in range(wish.get("words", 5)):
                yield f"{wish.get('mark', 'w')}{number} "
                await asyncio.sleep(wish.get("delay", 0.01))
        finally:
            count("async_words", -1)


@component
class Speaker:
    @component.output_types(text=str)
    def run(self, words: int, delay: float, streaming_callback: Any = None) -> dict[str, str]:
        count("pipeline", 1)
        try:
            for number in range(words):
                if streaming_callback:
                    streaming_callback(StreamingChunk(f"w{number} "))
                time.sleep(delay)
        finally:
            count("pipeline", -1)
        return {"text": "done"}

    @component.output_types(text=str)
    async def run_async(self, words: int, delay: float, streaming_callback: Any = None) -> dict[str, str]:
        count("async_pipeline", 1)
        try:
            for number in range(words):
                if streaming_callback:
                    await streaming_callback(StreamingChunk(f"w{number} "))
                await asyncio.sleep(delay)
        finally:
            count("async_pipeline", -1)
        return {"text": "done"}


class Piped(BasePipelineWrapper):
    """A pipeline, run by the streaming helper."""

    kind: Any = Pipeline

    def setup(self) -> None:
        self.pipeline = self.kind()
        self.pipeline.add_component("speaker", Speaker())

    def run_chat_completion(self, model: str, messages: Any, body: Any) -> Any:
        wish = told(messages)
        args = {"words": wish.get("words", 5), "delay": wish.get("delay", 0.01)}
        return run_streaming(self.pipeline, pipeline_run_args=args)


class AsyncPiped(Piped):
    kind = AsyncPipeline

    async def run_chat_completion_async(self, model: str, messages: Any, body: Any) -> Any:
        wish = told(messages)
        args = {"words": wish.get("words", 5), "delay": wish.get("delay", 0.01)}
        return async_streaming_generator(self.pipeline, pipeline_run_args=args)


class Upstream(BasePipelineWrapper):
    """A pipeline whose model is asked over HTTP, by OpenAI's own client."""

    kind: Any = Pipeline

    def pipeline_of(self, wish: dict[str, Any]) -> Any:
        pipeline = self.kind()
        key = Secret.from_token("not-used")
        pipeline.add_component("llm", OpenAIChatGenerator(key, api_base_url=wish["upstream"], max_retries=0))
        return pipeline

    def run_chat_completion(self, model: str, messages: Any, body: Any) -> Any:
        args = {"messages": [ChatMessage.from_user("hi")]}
        return run_streaming(self.pipeline_of(told(messages)), pipeline_run_args=args)


class AsyncUpstream(Upstream):
    kind = AsyncPipeline

    async def run_chat_completion_async(self, model: str, messages: Any, body: Any) -> Any:
        args = {"messages": [ChatMessage.from_user("hi")]}
        return async_streaming_generator(self.pipeline_of(told(messages)), pipeline_run_args=args)


class Plain(BasePipelineWrapper):
    """A text at once."""

    def run_chat_completion(self, model: str, messages: Any, body: Any) -> str:
        return "plain"


class AsyncPlain(BasePipelineWrapper):
    async def run_chat_completion_async(self, model: str, messages: Any, body: Any) -> str:
        return "plain"


class Endless(BasePipelineWrapper):
    def run_chat_completion(self, model: str, messages: Any, body: Any) -> Iterator[str]:
        count("endless", 1)
        try:
            while True:
                yield "x" * told(messages).get("size", 1000)
        finally:
            count("endless", -1)


class BlocksLoop(BasePipelineWrapper):
    """What an async method must not do."""

    async def run_chat_completion_async(self, model: str, messages: Any, body: Any) -> str:
        time.sleep(told(messages).get("seconds", 3))
        return "awake"


class BlocksThread(BasePipelineWrapper):
    def run_chat_completion(self, model: str, messages: Any, body: Any) -> str:
        time.sleep(told(messages).get("seconds", 60))
        return "awake"


class Odd(Exception):
    def __str__(self) -> str:
        raise ValueError("no text either")

    __repr__ = __str__


class Own(BaseException):
    pass


class Shy(Exception):
    """Fails wherever it is looked at."""

    def _refuse(self) -> Any:
        raise SystemExit("s3cret")

    __class__ = __notes__ = __cause__ = __context__ = __suppress_context__ = property(_refuse)  # type: ignore[assignment]
    __str__ = __repr__ = _refuse


ERRORS: dict[str, Any] = {
    error.__name__: error
    for error in (ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration, StopAsyncIteration)
    + (asyncio.CancelledError, MemoryError, RecursionError, TimeoutError, BrokenPipeError, Odd, Own, Shy)
}
ERRORS["ExceptionGroup"] = lambda *_: ExceptionGroup("s3cret", [ValueError("s3cret")])


class Slow:
    """An event that takes its time to say what it is."""

    def to_event_dict(self) -> dict[str, Any]:
        time.sleep(3)
        return {"type": "status", "data": {}}


class SlowEvents(BasePipelineWrapper):
    def run_chat_completion(self, model: str, messages: Any, body: Any) -> Iterator[Any]:
        yield "a"
        time.sleep(0.1)
        yield Slow()
        yield "b"


class Deep(BasePipelineWrapper):
    """Streams from the depth of a recursion, and goes on until there is no room any more."""

    def run_chat_completion(self, model: str, messages: Any, body: Any) -> Any:
        pipeline = Pipeline()
        pipeline.add_component("deep", Diver())
        return run_streaming(pipeline, pipeline_run_args={"level": 0})


@component
class Diver:
    @component.output_types(text=str)
    def run(self, level: int, streaming_callback: Any = None) -> dict[str, str]:
        streaming_callback(StreamingChunk("a "))
        time.sleep(0.003)
        return self.run(level + 1, streaming_callback)


class Raises(BasePipelineWrapper):
    """Raises what it is told, where it is told: in the call, between two words, or when it is closed."""

    def run_chat_completion(self, model: str, messages: Any, body: Any) -> Any:
        wish = told(messages)
        if wish["where"] == "call":
            raise ERRORS[wish["error"]]("s3cret")
        return RaisingIterator(wish)


class RaisingIterator:
    def __init__(self, wish: dict[str, Any]) -> None:
        self._wish = wish
        self._said = 0

    def __iter__(self) -> RaisingIterator:
        return self

    def __next__(self) -> str:
        self._said += 1
        if self._said == 2 and self._wish["where"] == "midway":
            raise ERRORS[self._wish["error"]]("s3cret")
        if self._said > 3:
            raise StopIteration
        return "a"

    def close(self) -> None:
        if self._wish["where"] == "close":
            raise ERRORS[self._wish["error"]]("s3cret")


class AsyncRaises(BasePipelineWrapper):
    async def run_chat_completion_async(self, model: str, messages: Any, body: Any) -> Any:
        wish = told(messages)
        if wish["where"] == "call":
            raise ERRORS[wish["error"]]("s3cret")
        return AsyncRaisingIterator(wish)


class AsyncRaisingIterator(RaisingIterator):
    def __aiter__(self) -> AsyncRaisingIterator:
        return self

    async def __anext__(self) -> str:
        try:
            return next(self)
        except StopIteration:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        self.close()

    __iter__ = None  # type: ignore[assignment]


class OneAtATime(Words):
    max_generations = 1


class Open(BasePipelineWrapper):
    """How many of the others' runs are open."""

    def run_chat_completion(self, model: str, messages: Any, body: Any) -> str:
        with _lock:
            return json.dumps(_open)


app = create_app({"FLASKCOMPAT_PIPELINES_DIR": tempfile.mkdtemp()})
for _name, _wrapper in {
    "m": Curious,
    "words": Words,
    "story": Story,
    "async_words": AsyncWords,
    "pipeline": Piped,
    "async_pipeline": AsyncPiped,
    "upstream": Upstream,
    "async_upstream": AsyncUpstream,
    "plain": Plain,
    "async_plain": AsyncPlain,
    "endless": Endless,
    "blocks_loop": BlocksLoop,
    "blocks_thread": BlocksThread,
    "one_at_a_time": OneAtATime,
    "open": Open,
    "slow_events": SlowEvents,
    "deep": Deep,
    "raises": Raises,
    "async_raises": AsyncRaises,
}.items():
    app.extensions["flaskcompat"].registry.add(_name, _wrapper)
