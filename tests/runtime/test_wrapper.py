from __future__ import annotations

from typing import Any

import pytest

from flaskcompat import BasePipelineWrapper
from flaskcompat.runtime.wrapper import Headers, extras_of, implements, method_for, misspelt_methods


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


def with_methods(*names: str) -> BasePipelineWrapper:
    return type("Wrapper", (BasePipelineWrapper,), dict.fromkeys(names, lambda self, *args: "x"))()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("run_chat", "run_chat_completion"),
        ("run_chat_async", "run_chat_completion_async"),
        ("run_chat_completions", "run_chat_completion"),
        ("run_chat_completions_async", "run_chat_completion_async"),
        ("run_chat_completion_asnyc", "run_chat_completion_async"),
        ("run_chat_complete", "run_chat_completion"),
        ("run_completion", "run_chat_completion"),
        ("run_chatcompletion", "run_chat_completion"),
        ("runChatCompletion", "run_chat_completion"),
        ("chat_completion", "run_chat_completion"),
        ("run_responses", "run_response"),
        ("run_responses_async", "run_response_async"),
        ("run_respone", "run_response"),
        ("run_file", "run_file_upload"),
        ("run_files_upload", "run_file_upload"),
        ("run_upload", "run_file_upload"),
        ("upload_file", None),
        ("run_api", None),
        ("run_api_async", None),
        ("run", None),
        ("answer", None),
        ("_run_chat", None),
    ],
)
def test_method_that_is_misspelt(name: str, meant: str | None) -> None:
    assert misspelt_methods(with_methods(name)) == ({} if meant is None else {name: meant})


@pytest.mark.parametrize(
    ("methods", "found"),
    [
        (["run_response", "run_chat"], {"run_chat": "run_chat_completion"}),
        (["run_response", "run_responses_async"], {"run_responses_async": "run_response_async"}),
        (["run_response", "run_file"], {"run_file": "run_file_upload"}),
        # Helpers of a wrapper that works.
        (["run_response", "chat_completion"], {}),
        (["run_response", "run_responses"], {}),
        (["run_response", "run_response_sync"], {}),
        (["run_response", "run_response_helper"], {}),
        (["run_chat_completion_async", "run_chat"], {}),
        (["run_chat_completion", "run_api"], {}),
    ],
)
def test_method_that_is_misspelt_beside_others(methods: list[str], found: dict[str, str]) -> None:
    assert misspelt_methods(with_methods(*methods)) == found
