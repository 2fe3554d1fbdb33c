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
        ("What is 12 times 7?", "12 * 7 is 84."),
        ("How much is twelve multiplied by seven", "12 * 7 is 84."),
        ("12 x 7", "12 * 7 is 84."),
        ("12 × 7 − 4", "12 * 7 - 4 is 80."),
        ("twenty-one plus 3, please", "21 + 3 is 24."),
        ("What's 10 minus 4.5?", "10 - 4.5 is 5.5."),
        ("1,000 divided by 8", "1000 / 8 is 125."),
        ("seven over two", "7 / 2 is 3.5."),
        ("five times -3", "5 * -3 is -15."),
        ("(2 plus 3) times 4", "(2 + 3) * 4 is 20."),
        ("In 2024, what was three plus four?", "3 + 4 is 7."),
        ("the sum of 3, 4 and 5", "3 + 4 + 5 is 12."),
        ("the product of 3 and 4, please", "3 * 4 is 12."),
        ("the difference between 9 and 4", "9 - 4 is 5."),
        ("subtract 3 from ten", "10 - 3 is 7."),
        ("add 2 and 3", "2 + 3 is 5."),
        ("divide 10 by 4", "10 / 4 is 2.5."),
        ("multiply 10 by 4", "10 * 4 is 40."),
        ("half of 10", "10 / 2 is 5."),
        ("What is 20% of 50?", "20 / 100 * 50 is 10."),
        ("3 squared", "3 ** 2 is 9."),
        ("2 to the power of 8", "2 ** 8 is 256."),
        ("9**9**9", "9**9**9 is too large a number."),
        ("I have 3 apples", "I calculate. Ask me something like: what is (2 + 3) * 4?"),
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
    for model, text in (("demo-rag", "How do I stream words?"), ("demo-agent", "1+1"), ("demo-echo", "one\ntwo")):
        usage = post(app, "/v1/responses", response_body(model, text=text)).json["usage"]
        assert usage["input_tokens"] > 0 and usage["output_tokens"] > 0
        chat = post(app, "/v1/chat/completions", chat_body(model, text=text)).json["usage"]
        asked = {"stream": True, "stream_options": {"include_usage": True}}
        streamed = events_of(post(app, "/v1/chat/completions", chat_body(model, text=text) | asked).text)[-1]["usage"]
        assert chat == streamed and chat["total_tokens"] == usage["total_tokens"]


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
