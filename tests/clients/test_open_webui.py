"""Open WebUI as it is, against a live server: by its API, and by its page in a browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..browser import ENTER, MISSING, PATIENCE, Browser, browsing
from ..support import chat_text, events_of, eventually
from .open_webui import (
    CHAT,
    RESPONSES,
    TOOL_SERVER,
    USER,
    Teller,
    User,
    serving_models,
    serving_open_webui,
    tool_server,
)

pytestmark = pytest.mark.clients

#: Over Chat Completions, and over Responses.
models = pytest.mark.parametrize("model", [CHAT, RESPONSES])
streams = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])

FAILED = "The pipeline failed to answer this request. Request id: req_"
HOURS = {"name": "Opening hours", "url": "https://shop.example/hours"}


@pytest.fixture(scope="module")
def models_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving_models(tmp_path_factory.mktemp("models")) as url:
        yield url


@pytest.fixture(scope="module")
def user(models_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    with serving_open_webui(models_url, tmp_path_factory.mktemp("open_webui")) as url:
        found = User(url)
        yield found
        found.http.close()


@pytest.fixture
def teller(models_url: str) -> Teller:
    found = Teller(models_url)
    found.tell("forget")
    return found


def error_of(message: dict[str, Any]) -> str:
    """What the page shows of a message's error."""
    content = message["error"]["content"]
    return str(content if isinstance(content, str) else content["message"])


def text_of(events: list[dict[str, Any]]) -> str:
    """The text of a stream of either surface."""
    if "choices" in events[0]:
        return chat_text(events)
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


# -- answers -------------------------------------------------------------------------------------------------


def test_models(user: User) -> None:
    listed = user.http.get("/api/models").json()["data"]
    assert {model["id"]: model["openai"]["owned_by"] for model in listed} == dict.fromkeys(
        (CHAT, RESPONSES), "flaskcompat"
    )


def test_connection_is_verified(user: User, models_url: str) -> None:
    form = {"url": f"{models_url}/v1", "key": "sk-any", "config": {}}
    answer = user.http.post("/openai/verify", json=form)
    assert answer.status_code == 200 and [model["id"] for model in answer.json()["data"]] == [CHAT]


@models
def test_whole_answer(user: User, teller: Teller, model: str) -> None:
    answer = user.post(model, "hello").json()["choices"][0]
    assert (answer["message"]["content"], answer["finish_reason"]) == ("Good morning, you.", "stop")
    assert [request["surface"] for request in teller.seen] == ["chat" if model == CHAT else "responses"]


@models
def test_streamed_answer_comes_as_it_is_made(user: User, teller: Teller, model: str) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "wait"}], "stream": True}
    with user.http.stream("POST", "/api/chat/completions", json=body) as answer:
        pieces = answer.iter_text()
        told = ""
        while "The first words" not in told:
            told += next(pieces)
        assert "the last ones" not in told
        teller.tell("go on")
        told += "".join(pieces)
    assert text_of(events_of(told)) == "The first words and the last ones."
    assert told.rstrip().endswith("data: [DONE]")


@models
@streams
def test_answer_in_a_chat(user: User, model: str, stream: bool) -> None:
    answer = user.chat(model).ask("hello", stream=stream)
    assert (answer["content"], answer["done"]) == ("Good morning, you.", True)
    assert "error" not in answer


@models
def test_second_turn_brings_what_was_said(user: User, teller: Teller, model: str) -> None:
    chat = user.chat(model)
    chat.ask("think")
    assert chat.ask("hello")["content"] == "Good morning, you."
    body = teller.seen[-1]["body"]
    said = body.get("messages") or [
        {"role": item["role"], "content": item["content"][0]["text"]} for item in body["input"]
    ]
    assert said == [
        {"role": "user", "content": "think"},
        {"role": "assistant", "content": "It is noon."},
        {"role": "user", "content": "hello"},
    ]


@models
def test_reasoning(user: User, model: str) -> None:
    thought, said = user.chat(model).ask("think")["output"]
    assert thought["type"] == "reasoning" and thought["status"] == "completed"
    assert (thought.get("content") or thought["summary"])[0]["text"] == "I should look at the clock."
    assert said["content"][0]["text"] == "It is noon."


def test_reasoning_of_a_whole_answer(user: User) -> None:
    thought, _ = user.chat(CHAT).ask("think", stream=False)["output"]
    assert thought["content"][0]["text"] == "I should look at the clock."


@models
def test_events(user: User, model: str) -> None:
    answer = user.chat(model).ask("show")
    assert answer["content"] == "There is a letter."
    assert [(status["description"], status["done"]) for status in answer["statusHistory"]] == [
        ("Looking at the shelves...", False),
        ("Looked at the shelves", True),
    ]
    [source] = answer["sources"]
    assert (source["source"]["name"], source["document"]) == ("A letter", ["We open at nine."])


@models
def test_citations(user: User, model: str) -> None:
    answer = user.chat(model).ask("cite")
    assert answer["content"] == "We open at nine."
    assert [source["source"] for source in answer["sources"]] == [HOURS]


@models
def test_tool_of_open_webui(user: User, teller: Teller, model: str) -> None:
    answer = user.chat(model).ask("tool")
    assert [item["type"] for item in answer["output"]] == ["function_call", "function_call_output", "message"]
    assert "The clock says" in answer["content"] and "current_timestamp" in answer["content"]
    assert len(teller.seen) == 2


def test_server_of_tools_is_verified(user: User, models_url: str) -> None:
    seen = user.http.post("/api/v1/configs/tool_servers/verify", json=tool_server(models_url))
    assert seen.status_code == 200, seen.text
    assert seen.json()["info"]["title"] == "flaskcompat"


@models
def test_model_as_a_tool(user: User, teller: Teller, model: str) -> None:
    answer = user.chat(model).ask("ask a model", tools=[f"server:{TOOL_SERVER}"])
    assert [item["type"] for item in answer["output"]] == ["function_call", "function_call_output", "message"]
    assert "The model says" in answer["content"] and "Good morning, you." in answer["content"]
    assert [seen["surface"] for seen in teller.seen].count("responses") >= 1 and len(teller.seen) == 3
    offered = {
        function["name"]: function
        for tool in teller.seen[0]["body"]["tools"]
        if (function := tool.get("function", tool))
    }
    assert "list_models" in offered and "delete_file" not in offered
    asked = offered["create_response"]["parameters"]
    assert asked["required"] == ["input", "model"] and "A text to be answered" in str(asked["properties"]["input"])


@models
def test_stop_ends_the_wrapper(user: User, teller: Teller, model: str) -> None:
    chat = user.chat(model)
    task = chat.begin("on and on")
    # Not before: Open WebUI forgets a connection, and leaves it open, if it is stopped while its answer begins.
    assert eventually(lambda: "on and on" in json.dumps(chat.last), PATIENCE)
    assert teller.tell("how many run") == "1"
    assert user.http.post(f"/api/tasks/stop/{task}").json()["status"] is True
    assert eventually(lambda: teller.tell("how many run") == "0", PATIENCE)
    answer = chat.answer()
    assert "error" not in answer and answer["content"].startswith("on and on")


# -- failures ------------------------------------------------------------------------------------------------


@models
@streams
@pytest.mark.parametrize("question", ["fail", "refuse"])
def test_failure_is_shown(user: User, model: str, stream: bool, question: str) -> None:
    status, message = (500, FAILED) if question == "fail" else (403, "The shop is closed to you.")
    answer = user.post(model, question, stream=stream)
    assert answer.status_code == status and answer.json()["error"]["message"].startswith(message)
    kept = user.chat(model).ask(question, stream=stream)
    assert error_of(kept).startswith(message) and kept["content"] == ""


@models
def test_failure_midway_is_no_short_answer(user: User, model: str) -> None:
    events = events_of(user.post(model, "break", stream=True).text)
    assert text_of(events) == "Half of an answer"
    assert events[-1]["error"]["message"].startswith(FAILED)
    assert not any(choice["finish_reason"] for event in events for choice in event.get("choices", ()))
    assert not any(event.get("type") == "response.completed" for event in events)
    kept = user.chat(model).ask("break")
    assert kept["content"] == "Half of an answer" and error_of(kept).startswith(FAILED)


# -- what reaches the wrapper --------------------------------------------------------------------------------


@models
def test_who_asks(user: User, teller: Teller, model: str) -> None:
    chat = user.chat(model)
    answer = chat.ask("hello")
    [request] = teller.seen
    assert {name: value for name, value in request["headers"].items() if name.startswith("x-openwebui-")} == {
        "x-openwebui-user-id": user.id,
        "x-openwebui-user-name": USER["name"],
        "x-openwebui-user-email": USER["email"],
        "x-openwebui-user-role": "admin",
        "x-openwebui-auth-type": "jwt",
        "x-openwebui-chat-id": chat.kept["id"],
        "x-openwebui-message-id": answer["id"],
        "x-openwebui-task": "",
    }
    assert request["headers"]["authorization"] == f"Bearer sk-{'chat' if model == CHAT else 'responses'}"


@models
def test_requests_of_its_own(user: User, teller: Teller, model: str) -> None:
    chat = user.chat(model)
    id = chat.ask("hello", tasks=True)["id"]
    assert eventually(lambda: chat.kept["title"] == "A chat about hours", PATIENCE)
    assert eventually(lambda: chat.kept["meta"].get("tags") == ["shops", "hours"], PATIENCE)
    assert eventually(lambda: chat.messages[id].get("followUps") == ["And on Sundays?", "Where is it?"], PATIENCE)
    own = {task: request for request in teller.seen if (task := request["headers"]["x-openwebui-task"])}
    assert own.keys() == {"title_generation", "tags_generation", "follow_up_generation"}
    for request in own.values():
        assert request["prompt"].startswith("### Task:\n")
        assert "<chat_history>\nUSER: hello" in request["prompt"]
        assert request["body"]["stream"] is False and "tools" not in request["body"]
        assert len(request["body"].get("messages") or request["body"]["input"]) == 1
        assert request["headers"]["x-openwebui-chat-id"] == chat.kept["id"]
    assert len(teller.seen) == 4


@models
def test_file(user: User, teller: Teller, model: str) -> None:
    file = user.upload("notes.txt", b"The shop opens at nine.", "text/plain")
    answer = user.chat(model).ask("hello", files=[file])
    assert answer["content"] == "Good morning, you."
    assert [source["source"]["name"] for source in answer["sources"]] == ["notes.txt"]
    prompt = teller.seen[-1]["prompt"]
    # It is a text in the prompt, which begins as the requests of its own do.
    assert prompt.startswith("### Task:\nRespond to the user query using the provided context")
    assert 'name="notes.txt"' in prompt and "The shop opens at nine.</source>" in prompt
    assert prompt.endswith("\nhello")
    assert teller.seen[-1]["body"]["stream"] is True


@models
def test_image(user: User, teller: Teller, model: str) -> None:
    picture = "data:image/png;base64,iVBORw0KGgo="
    user.chat(model).ask("hello", files=[{"type": "image", "url": picture}])
    body = teller.seen[-1]["body"]
    if model == CHAT:
        assert body["messages"][-1]["content"][1] == {"type": "image_url", "image_url": {"url": picture}}
    else:
        assert body["input"][-1]["content"][1] == {"type": "input_image", "image_url": picture, "detail": "auto"}


# -- the page ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(user: User, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser in which the user has signed in."""
    if MISSING:
        pytest.skip(f"not installed: {', '.join(MISSING)}")
    user.http.post("/api/v1/users/user/settings/update", json={"ui": {"showChangelog": False}})
    with browsing(tmp_path_factory.mktemp("browser")) as found:
        found.open(user.url)
        found.type("input[type=email]", USER["email"])
        found.type("input[type=password]", USER["password"])
        found.click("button[type=submit]")
        assert found.shows("Suggested"), found.text
        yield found


def ask(browser: Browser, user: User, model: str, question: str, file: Path | None = None) -> None:
    """Ask in a new chat."""
    browser.open(f"{user.url}/?models={model}")
    if file is not None:
        browser.type("input[type=file][multiple]", str(file))
        assert browser.shows(file.name), browser.text
    browser.type("#chat-input", question)

    def send() -> bool:
        """Whether it is sent: while a file is on its way, the page refuses."""
        browser.type("#chat-input", ENTER)
        return browser.shows("Chat Conversation", 3)

    assert eventually(send, PATIENCE), browser.text


@models
def test_page(browser: Browser, user: User, teller: Teller, model: str, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("The shop opens at nine.")
    ask(browser, user, model, "everything", file)
    assert browser.shows("Looking at the shelves...") and browser.shows("Thinking..."), browser.text
    teller.tell("go on")
    assert browser.shows("The first words"), browser.text
    assert "Thought" in browser.text and "the last ones" not in browser.text
    teller.tell("go on")
    for text in ("The first words and the last ones.", "Looked at the shelves", "3 Sources", "And on Sundays?"):
        assert browser.shows(text), browser.text
    browser.press("Thought")
    browser.press("3 Sources")
    # A source that has an address is listed by that.
    for text in ("I should look at the clock.", "2\nA letter", f"3\n{HOURS['url']}"):
        assert browser.shows(text), browser.text
    [prompt] = [request["prompt"] for request in teller.seen if request["body"]["stream"]]
    assert "The shop opens at nine.</source>" in prompt


@models
@pytest.mark.parametrize("question", ["fail", "break"])
def test_page_shows_a_failure(browser: Browser, user: User, model: str, question: str) -> None:
    ask(browser, user, model, question)
    assert browser.shows(FAILED), browser.text
    assert ("Half of an answer" in browser.text) is (question == "break")
