from __future__ import annotations

import re
from typing import Any

import pytest

from flaskcompat import BasePipelineWrapper, Registry
from flaskcompat.errors import ModelNotFound, PipelineLoadError


class Chat(BasePipelineWrapper):
    ready = 0

    def setup(self) -> None:
        self.ready += 1

    def run_chat_completion(self, model: str, messages: Any, body: Any) -> str:
        return "x"


class Full(Chat):
    async def run_response_async(self, model: str, input_items: Any, body: Any, headers: Any = None) -> str:
        return "x"

    def run_file_upload(self, filename: Any, content_type: Any, content: Any, purpose: Any) -> dict[str, Any]:
        return {}


def test_add_sets_up_once_and_takes_a_class_too() -> None:
    registry = Registry()
    wrapper = Chat()
    assert registry.add("b", wrapper).wrapper is wrapper and wrapper.ready == 1
    assert isinstance(registry.add("a", Full).wrapper, Full)
    assert [model.name for model in registry] == ["a", "b"] and len(registry) == 2
    assert "a" in registry and "c" not in registry


def test_model_tells_its_surfaces_and_header_methods() -> None:
    registry = Registry()
    assert registry.add("chat", Chat).surfaces == ("chat",)
    full = registry.add("full", Full)
    assert full.surfaces == ("chat", "responses", "files")
    assert full.extras["run_response_async"] == ("headers",)


def test_created_is_when_it_was_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1234.5)
    assert Registry().add("a", Chat).created == 1234


def test_unknown_model() -> None:
    with pytest.raises(ModelNotFound) as caught:
        Registry()["nobody"]
    assert caught.value.error()["param"] == "model"


@pytest.mark.parametrize(
    ("name", "wrapper", "message"),
    [
        ("", Chat, "needs a name"),
        (3, Chat, "needs a name"),
        ("a", object, "not derived from BasePipelineWrapper"),
        ("a", BasePipelineWrapper, "implements none of run_chat_completion"),
    ],
)
def test_what_cannot_be_added(name: Any, wrapper: Any, message: str) -> None:
    registry = Registry()
    with pytest.raises(PipelineLoadError, match=message):
        registry.add(name, wrapper)
    assert len(registry) == 0


def test_adding_replaces_and_clears_a_failure() -> None:
    registry = Registry()
    registry.failed["a"] = "broken"
    registry.add("a", Chat)
    second = registry.add("a", Full)
    assert registry["a"] is second and registry.failed == {}


class Misspelt(BasePipelineWrapper):
    def run_chat(self, model: str, messages: Any, body: Any) -> str:
        return "x"


class HalfMisspelt(Misspelt):
    async def run_response_async(self, model: str, input_items: Any, body: Any) -> str:
        return "x"


def test_misspelt_method_is_named(caplog: pytest.LogCaptureFixture) -> None:
    hint = "run_chat is not called: did you mean run_chat_completion?"
    with pytest.raises(
        PipelineLoadError, match=f"^{re.escape(hint)} Misspelt implements none of run_chat_completion, "
    ):
        Registry().add("a", Misspelt)
    assert Registry().add("a", HalfMisspelt).surfaces == ("responses",)
    assert [record.getMessage() for record in caplog.records] == [f"model 'a': HalfMisspelt.{hint}"]
