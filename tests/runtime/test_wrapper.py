from __future__ import annotations

from typing import Any

import pytest

from flaskcompat import BasePipelineWrapper
from flaskcompat.runtime.wrapper import Headers, extras_of, implements, method_for


class Both(BasePipelineWrapper):
    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> str:
        return "sync"

    async def run_chat_completion_async(self, model: str, messages: Any, body: Any, headers: Any = None) -> str:
        return "async"


class Derived(Both):
    pass


def test_async_method_comes_first() -> None:
    assert method_for(Both(), "chat_completion") == "run_chat_completion_async"
    assert method_for(Both(), "response") is None


def test_inherited_methods_count() -> None:
    assert implements(Derived(), "run_chat_completion")
    assert not implements(Derived(), "run_file_upload")


def test_headers_are_asked_for_by_name() -> None:
    assert extras_of(Both(), "run_chat_completion_async") == ("headers",)
    assert extras_of(Both(), "run_chat_completion") == ()


def test_base_methods_say_that_they_are_missing() -> None:
    base = BasePipelineWrapper()
    base.setup()
    assert base.pipeline is None
    for call in (base.run_chat_completion, base.run_response):
        with pytest.raises(NotImplementedError):
            call("m", [], {})
    for coroutine in (base.run_chat_completion_async("m", [], {}), base.run_response_async("m", [], {})):
        with pytest.raises(NotImplementedError):
            coroutine.send(None)
    with pytest.raises(NotImplementedError):
        base.run_file_upload(None, None, b"", "x")


def test_headers() -> None:
    headers = Headers([("X-Key", "secret"), ("Accept", "a")])
    assert headers["x-key"] == headers["X-KEY"] == "secret"
    assert headers.get("missing") is None and "ACCEPT" in headers
    assert list(headers) == ["X-Key", "Accept"] and len(headers) == 2
    assert dict(headers) == {"X-Key": "secret", "Accept": "a"}
    assert "secret" not in repr(headers)
