"""A model that asks another model of the same server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.utils import Secret
from openai import OpenAI

from flaskcompat import AsyncPipeline, BasePipelineWrapper, Pipeline, async_streaming_generator, streaming_generator
from flaskcompat.server import warn_of_composition

from ..support import TIMEOUT, make_app, serving


class Slow(BasePipelineWrapper):
    """Says a few words, or goes on until it is stopped."""

    def setup(self) -> None:
        self.begun = threading.Event()
        self.stopped = threading.Event()

    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Iterator[str]:
        if messages[-1]["content"] != "for ever":
            yield from ("three ", "small ", "words")
            return
        try:
            while True:
                yield "more "
                self.begun.set()
                time.sleep(0.01)
        finally:
            self.stopped.set()


def asking(url: str, *, asynchronous: bool) -> BasePipelineWrapper:
    def make() -> Any:
        pipeline = (AsyncPipeline if asynchronous else Pipeline)()
        key = Secret.from_token("not-used")
        pipeline.add_component("llm", OpenAIChatGenerator(api_key=key, model="slow", api_base_url=f"{url}/v1"))
        return pipeline

    class Asking(BasePipelineWrapper):
        def setup(self) -> None:
            self.pipeline = make()

    def arguments(messages: list[dict[str, Any]]) -> dict[str, Any]:
        return {"llm": {"messages": [ChatMessage.from_user(messages[-1]["content"])]}}

    def run(self: Asking, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        return streaming_generator(self.pipeline, pipeline_run_args=arguments(messages))

    async def run_async(self: Asking, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        return async_streaming_generator(self.pipeline, pipeline_run_args=arguments(messages))

    methods: dict[str, Any] = {"run_chat_completion_async": run_async} if asynchronous else {"run_chat_completion": run}
    return type("PipelineWrapper", (Asking,), methods)()


@pytest.fixture
def server() -> Iterator[tuple[str, Slow]]:
    slow = Slow()
    app = make_app(slow=slow)
    with serving(app, threads=4) as url:
        for name in ("sync", "async"):
            app.extensions["flaskcompat"].registry.add(name, asking(url, asynchronous=name == "async"))
        yield url, slow


@pytest.mark.parametrize("model", ["sync", "async"])
def test_answers_and_streams(server: tuple[str, Slow], model: str) -> None:
    messages: Any = [{"role": "user", "content": "go"}]
    with OpenAI(base_url=f"{server[0]}/v1", api_key="x", max_retries=0, timeout=TIMEOUT) as client:
        whole = client.chat.completions.create(model=model, messages=messages).choices[0].message.content
        chunks = client.chat.completions.create(model=model, messages=messages, stream=True)
        pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    assert whole == "".join(pieces) == "three small words" and len(pieces) == 3


@pytest.mark.parametrize("model", ["sync", "async"])
def test_is_stopped_with_the_model_that_it_asks_when_its_client_leaves(server: tuple[str, Slow], model: str) -> None:
    url, slow = server
    messages: Any = [{"role": "user", "content": "for ever"}]
    with OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0, timeout=TIMEOUT) as client:
        stream = client.chat.completions.create(model=model, messages=messages, stream=True)
        assert next(iter(stream)) is not None
        assert slow.begun.wait(TIMEOUT) and not slow.stopped.is_set()
        stream.close()
    assert slow.stopped.wait(TIMEOUT)


def test_what_it_needs_of_threads_is_said_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(slow=Slow())
    warn_of_composition(app, "127.0.0.1", 1416, 1)
    assert not caplog.records
    app.extensions["flaskcompat"].registry.add("outer", asking("http://127.0.0.1:1416", asynchronous=False))
    warn_of_composition(app, "127.0.0.1", 1416, 8)
    warn_of_composition(app, "127.0.0.1", 1416, 1)
    enough, alone = caplog.records
    assert (enough.levelname, alone.levelname) == ("WARNING", "ERROR")
    assert "outer" in enough.getMessage() and "more than 4" in enough.getMessage()
