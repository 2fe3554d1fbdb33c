"""Models that ask the server that they are served by."""

from __future__ import annotations

from typing import Any

import pytest
from haystack import Pipeline
from haystack.components.agents import Agent
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.utils import Secret

from flaskcompat import BasePipelineWrapper, Registry
from flaskcompat.runtime.composition import models_that_ask


def generator(url: str | None) -> OpenAIChatGenerator:
    return OpenAIChatGenerator(api_key=Secret.from_token("x"), api_base_url=url)


def pipeline_of(component: Any) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("llm", component)
    return pipeline


def registry_of(pipeline: Any) -> Registry:
    class Wrapper(BasePipelineWrapper):
        def setup(self) -> None:
            self.pipeline = pipeline

        def run_response(self, model: str, input_items: Any, body: Any) -> str:
            return ""

    registry = Registry()
    registry.add("m", Wrapper)
    return registry


@pytest.mark.parametrize(
    ("url", "asks"),
    [
        ("http://127.0.0.1:1416/v1", True),
        ("http://localhost:1416/v1/", True),
        ("http://box.example:1416/v1", True),
        ("http://127.0.0.1:1417/v1", False),
        ("http://other.example:1416/v1", False),
        ("http://localhost/v1", False),
        (None, False),
    ],
)
def test_by_the_address(url: str | None, asks: bool) -> None:
    for thing in (
        pipeline_of(generator(url)),
        Agent(chat_generator=generator(url)),
        pipeline_of(Agent(chat_generator=generator(url))),
    ):
        assert models_that_ask(registry_of(thing), "box.example", 1416) == ["m"] * asks


def test_wrapper_without_a_pipeline() -> None:
    assert models_that_ask(registry_of(None), "127.0.0.1", 1416) == []
    assert models_that_ask(registry_of({"llm": "any"}), "127.0.0.1", 1416) == []


def test_pipeline_that_cannot_be_looked_at_asks_nobody() -> None:
    class Odd:
        @property
        def walk(self) -> None:
            raise RuntimeError

    assert models_that_ask(registry_of(Odd()), "127.0.0.1", 1416) == []


def test_address_that_is_none() -> None:
    class Odd:
        def __init__(self) -> None:
            self.api_base_url = "http://localhost:none/v1"

    assert models_that_ask(registry_of(Odd()), "127.0.0.1", 1416) == []
