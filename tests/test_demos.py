"""The bundled models: real Haystack, answers that depend on what they are given."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from haystack.components.generators.chat import OpenAIChatGenerator

from flaskcompat import create_app
from flaskcompat.app import DEMOS
from flaskcompat.demos.generator import OfflineChatGenerator, chat_generator

from .support import chat_body, events_of, post, response_body


@pytest.fixture(scope="module")
def app() -> Flask:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
            patch.delenv(name, raising=False)
        return create_app({"FLASKCOMPAT_PIPELINES_DIR": str(DEMOS)})


def say(app: Flask, model: str, text: str) -> str:
    whole = post(app, "/v1/chat/completions", chat_body(model, text=text)).json["choices"][0]["message"]["content"]
    response = post(app, "/v1/responses", response_body(model, text=text)).json["output"]
    assert [part["text"] for item in response for part in item["content"]] == [whole]
    return str(whole)


@pytest.mark.parametrize(
    ("question", "words", "source"),
    [
        ("How do I stream words to a client?", "server-sent events", "streaming.md"),
        ("What happens to uploaded files?", "run_file_upload", "wrappers.md"),
        ("Which gunicorn worker class?", "gthread", "deployment.md"),
        ("Whose tools does an agent run?", "agent", "agents.md"),
    ],
)
def test_rag_answers_from_its_documents_and_names_them(app: Flask, question: str, words: str, source: str) -> None:
    answer = say(app, "demo-rag", question)
    assert words in answer and source in answer.split("Sources: ")[1]
    message = post(app, "/v1/chat/completions", chat_body("demo-rag", text=question)).json["choices"][0]["message"]
    assert source in [note["url_citation"]["url"] for note in message["annotations"]]


@pytest.mark.parametrize("question", ["Who won the cup in 1966?", "", "the of and"])
def test_rag_says_when_it_finds_nothing(app: Flask, question: str) -> None:
    assert say(app, "demo-rag", question) == "The documents say nothing about that."


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("what is (2 + 3) * 4?", "(2 + 3) * 4 is 20."),
        ("and -7 % 4, please", "-7 % 4 is 1."),
        ("1/0", "1/0 is undefined: a division by zero."),
        ("2 2", "I could not calculate 2 2."),
        ("hello", "I calculate. Ask me something like: what is (2 + 3) * 4?"),
    ],
)
def test_agent_runs_its_tool_on_the_arguments(app: Flask, question: str, answer: str) -> None:
    assert say(app, "demo-agent", question) == answer


def test_agent_shows_what_it_does_as_an_event(app: Flask) -> None:
    text = post(app, "/v1/chat/completions", chat_body("demo-agent", stream=True, text="1+1")).text
    events = [e["event"] for e in events_of(text) if "event" in e]
    assert [e["data"]["description"] for e in events] == ["Calling 'calculate' tool...", "Called 'calculate' tool"]
    assert "tool_calls" not in text


def test_echo(app: Flask) -> None:
    assert say(app, "demo-echo", "one\ntwo") == "one\ntwo"


def test_usage_is_counted(app: Flask) -> None:
    for model, text in (("demo-rag", "How do I stream words?"), ("demo-agent", "1+1")):
        assert post(app, "/v1/responses", response_body(model, text=text)).json["usage"]["total_tokens"] > 0


@pytest.mark.parametrize(
    ("environ", "kind"),
    [
        ({}, OfflineChatGenerator),
        ({"OPENAI_API_KEY": "k"}, OpenAIChatGenerator),
        ({"OPENAI_BASE_URL": "http://localhost:1/v1", "OPENAI_MODEL": "m"}, OpenAIChatGenerator),
    ],
)
def test_real_model_where_the_environment_names_one(
    environ: dict[str, str], kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    made = chat_generator(lambda messages, tools: messages[-1])
    assert isinstance(made, kind)
    if "OPENAI_BASE_URL" in environ:
        assert (made.api_base_url, made.model) == ("http://localhost:1/v1", "m")
