"""The page in a real browser, against a live server whose model does what a test says."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from haystack.dataclasses import ReasoningContent, StreamingChunk, ToolCall, ToolCallResult
from haystack.dataclasses.streaming_chunk import ToolCallDelta
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from flaskcompat import APIError, BasePipelineWrapper, Citation, FlaskCompat, PipelineEvent
from flaskcompat.open_webui import (
    create_details_tag,
    create_message_event,
    create_notification_event,
    create_replace_event,
    create_source_event,
    create_status_event,
)

from ..browser import ENTER, ESCAPE, MISSING, SHIFT, TAB, Browser, browsing
from ..support import eventually, serving

missing = [*MISSING, *(name for name in ("bash", "curl") if shutil.which(name) is None)]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")

apis = pytest.mark.parametrize("api", ["chat", "responses"])
PATHS = {"chat": "chat/completions", "responses": "responses"}
#: Seconds in which a command or a program that was copied must end.
LIMIT = 60


class Player(BasePipelineWrapper):
    """Answers as a test says, and remembers what it was asked."""

    show_tool_calls = True

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.uploads: list[tuple[Any, ...]] = []
        self.play: Callable[[], Iterable[Any]] = list

    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Iterator[Any]:
        self.seen.append(body)
        yield from self.play()

    def run_response(self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]) -> Iterator[Any]:
        self.seen.append({**body, "input": input_items, "sent": body["input"]})
        yield from self.play()

    def run_file_upload(self, filename: str, content_type: str, content: bytes, purpose: str) -> dict[str, Any]:
        self.uploads.append((filename, content_type, content, purpose))
        return {"id": "file-1"}

    @property
    def question(self) -> Any:
        """The content of the last message of the last request."""
        body = self.seen[-1]
        return (body.get("messages") or body["input"])[-1]["content"]


def app_of(player: Player | None, **settings: Any) -> Flask:
    app = Flask("host")
    app.config.from_mapping(settings, FLASKCOMPAT_PAGE=True)
    registry = FlaskCompat(app).registry
    if player is not None:
        registry.add("player", player)
        registry.add("another", player)
    return app


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[str, Player]]:
    player = Player()
    with serving(app_of(player)) as url:
        yield url, player


@pytest.fixture
def player(site: tuple[str, Player]) -> Player:
    player = site[1]
    player.seen, player.uploads, player.play = [], [], list
    return player


@pytest.fixture
def page(browser: Browser, site: tuple[str, Player], player: Player) -> Iterator[Browser]:
    """The page as somebody sees it who has never been there; in its console nothing may stand at the end."""
    enter(browser, site[0])
    yield browser
    assert complaints(browser) == []


def enter(browser: Browser, url: str, model: str = "player") -> None:
    browser.open(f"{url}/")
    browser.run("localStorage.clear(); sessionStorage.clear()")
    browser.open(f"{url}/")
    browser.complaints()
    if model:
        assert eventually(lambda: browser.run("return !document.querySelector('#send').disabled")), browser.text
        choose(browser, "#model", model)


def complaints(browser: Browser) -> list[str]:
    """What the console holds, but for the refusals that Chromium notes for every request that has failed."""
    return [text for text in browser.complaints() if "the server responded with a status of" not in text]


def choose(browser: Browser, selector: str, value: str) -> None:
    browser.run(
        "const one = document.querySelector(arguments[0]); one.value = arguments[1];"
        "one.dispatchEvent(new Event('change', {bubbles: true}))",
        selector,
        value,
    )


def use(browser: Browser, api: str) -> None:
    browser.run("document.querySelector(`input[name=api][value=${arguments[0]}]`).click()", api)


def turn_off_streaming(browser: Browser) -> None:
    browser.run("document.querySelector('#stream').click()")


def ask(browser: Browser, question: str = "hello") -> str:
    """The whole answer, as it can be read, once it has ended."""
    browser.type("#question", question + ENTER)
    return answered(browser)


def answered(browser: Browser) -> str:
    assert eventually(lambda: browser.run("return !document.querySelector('.busy')")), browser.text
    return answer_of(browser)


def answer_of(browser: Browser) -> str:
    return str(browser.run("return [...document.querySelectorAll('.answer')].at(-1)?.innerText ?? ''"))


def answer_shows(browser: Browser, text: str) -> bool:
    return eventually(lambda: text in answer_of(browser))


def unfold(browser: Browser) -> str:
    """The last answer with all that can be unfolded."""
    browser.run("for (const one of document.querySelectorAll('.answer details')) one.open = true")
    return answer_of(browser)


def snippet(browser: Browser, kind: str) -> str:
    browser.run("[...document.querySelectorAll('.answer .link')].at(-1).click()")
    browser.run("document.querySelector(`input[name=snippet][value=${arguments[0]}]`).click()", kind)
    text = str(browser.run("return document.querySelector('#snippet').textContent"))
    browser.press("Close")
    return text


def thought(text: str) -> StreamingChunk:
    return StreamingChunk("", index=0, reasoning=ReasoningContent(text))


def call(arguments: str, **first: Any) -> StreamingChunk:
    return StreamingChunk("", index=0, tool_calls=[ToolCallDelta(index=0, arguments=arguments, **first)])


# -- answers -------------------------------------------------------------------------------------------------


@apis
def test_words_are_seen_as_they_are_made(page: Browser, player: Player, api: str) -> None:
    gate = threading.Event()

    def play() -> Iterator[str]:
        yield "The first words"
        assert gate.wait(LIMIT)
        yield " and the last ones."

    player.play = play
    use(page, api)
    page.type("#question", "hello" + ENTER)
    assert answer_shows(page, "The first words")
    assert "the last ones" not in page.text and "Stop" in page.text
    gate.set()
    assert "The first words and the last ones." in answered(page)
    assert "Stop" not in page.text
    assert player.question == "hello" and player.seen[-1]["stream"] is True


@apis
def test_reasoning_is_open_while_it_lasts(page: Browser, player: Player, api: str) -> None:
    gate = threading.Event()

    def play() -> Iterator[Any]:
        yield thought("Let me look")
        assert gate.wait(LIMIT)
        yield thought(" at the clock.")
        yield "Nine."

    player.play = play
    use(page, api)
    page.type("#question", "hello" + ENTER)
    assert answer_shows(page, "Let me look")
    gate.set()
    answer = answered(page)
    assert "Reasoning" in answer and "Nine." in answer and "at the clock" not in answer
    assert "Let me look at the clock." in unfold(page)


@apis
def test_a_call_is_seen_as_it_is_written(page: Browser, player: Player, api: str) -> None:
    gate = threading.Event()

    def play() -> Iterator[Any]:
        yield call('{"city": "Ber', id="call_1", tool_name="opening_hours")
        assert gate.wait(LIMIT)
        yield call('lin", "day": 3}')
        yield StreamingChunk("", finish_reason="tool_calls")

    player.play = play
    use(page, api)
    # A call of a tool that the request does not name is held back until it is known who runs it.
    function = {"name": "opening_hours"}
    change_next_request(
        page, tools=[{"type": "function", **(function if api == "responses" else {"function": function})}]
    )
    page.type("#question", "hello" + ENTER)
    assert answer_shows(page, '{"city": "Ber')
    assert "opening_hours" in answer_of(page)
    gate.set()
    assert '{\n  "city": "Berlin",\n  "day": 3\n}' in answered(page)


def change_next_request(page: Browser, **changes: Any) -> None:
    """Have the next request of the page say something else than it would."""
    page.run(
        "const send = window.fetch; const changes = arguments[0];"
        "window.fetch = (url, options) => { window.fetch = send;"
        " return send(url, {...options, body: JSON.stringify({...JSON.parse(options.body), ...changes})}); }",
        changes,
    )


@apis
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_all_that_is_said_is_seen(page: Browser, player: Player, api: str, stream: bool) -> None:
    player.play = lambda: [
        thought("I think."),
        "Look:\n```python\nif True:\n    print('hi')\n```\nDone.",
        Citation("https://shop.example/hours", "Opening hours"),
        Citation("javascript:alert(1)", "Not a link"),
        StreamingChunk("", meta={"usage": {"prompt_tokens": 212, "completion_tokens": 96}}),
        call('{"city": "Berlin"}', id="call_1", tool_name="opening_hours"),
    ]
    use(page, api)
    if not stream:
        turn_off_streaming(page)
    ask(page)
    answer = unfold(page)
    assert player.seen[-1]["stream"] is stream
    for text in ("I think.", "Look:", "Done.", "Opening hours", "Not a link", "212 tokens in, 96 out", "req_"):
        assert text in answer
    assert 'opening_hours\n{\n  "city": "Berlin"\n}' in answer
    assert ("tool_calls" if api == "chat" else "completed") in answer
    code = page.run("return [...document.querySelectorAll('figure > *')].map((one) => one.textContent)")
    assert code == ["python", "if True:\n    print('hi')"]
    links = "return [...document.querySelectorAll('.sources a')].map((one) => [one.href, one.rel, one.target])"
    assert page.run(links) == [["https://shop.example/hours", "noopener noreferrer", "_blank"]]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_call_that_the_server_made_has_its_result(page: Browser, player: Player, stream: bool) -> None:
    origin = ToolCall("opening_hours", {"city": "Berlin"}, id="call_1")
    player.play = lambda: [
        call('{"city": "Berlin"}', id="call_1", tool_name="opening_hours"),
        StreamingChunk("", index=0, tool_call_result=ToolCallResult("nine to six", origin, False)),
        "At nine.",
    ]
    use(page, "responses")
    if not stream:
        turn_off_streaming(page)
    answer = ask(page)
    assert 'opening_hours\n{\n  "city": "Berlin"\n}\nnine to six' in answer and "At nine." in answer
    # The conversation goes on from there, as every call has been answered.
    ask(page, "and then?")
    assert "previous_response_id" in player.seen[-1]


@apis
def test_events(page: Browser, player: Player, api: str) -> None:
    gate = threading.Event()

    def play() -> Iterator[Any]:
        yield create_status_event("Looking at the shelves")
        assert gate.wait(LIMIT)
        yield create_status_event("Looked at the shelves", done=True)
        yield create_status_event("Going home")
        yield create_status_event("Never seen", done=True, hidden=True)
        yield "This goes away."
        yield create_replace_event("This stands")
        yield create_message_event(" here.")
        yield create_details_tag("clock", "What <the> clock said", "```\n<b>nine</b>\n```")
        yield create_notification_event("Mind the step", "warning")
        source = {"name": "Shop", "url": "https://shop.example/"}
        yield create_source_event({"source": source, "document": ["We open at nine."], "metadata": [{}]})
        yield create_source_event({"source": {"name": "A letter"}, "document": ["Dear shop"]})
        yield PipelineEvent("weather", {"sky": "blue"})
        yield PipelineEvent("odd", {})

    player.play = play
    use(page, api)
    page.type("#question", "hello" + ENTER)
    assert answer_shows(page, "Looking at the shelves")
    gate.set()
    answered(page)
    answer = unfold(page)
    for text in ("Looked at the shelves", "This stands here.", "What <the> clock said", "<b>nine</b>", "Mind the step"):
        assert text in answer
    for text in ("Shop", "We open at nine.", "A letter", "Event: weather", '"sky": "blue"', "Event: odd"):
        assert text in answer
    for text in ("Looking", "Going home", "Never seen", "goes away", "```", "<details", "undefined"):
        assert text not in answer
    assert page.run("return document.querySelector('.sources a').href") == "https://shop.example/"
    if api == "chat":  # what was replaced was not said
        ask(page, "and then?")
        assert player.seen[-1]["messages"][1]["content"].startswith("This stands here.")


@apis
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_refusal(page: Browser, player: Player, api: str, stream: bool) -> None:
    player.play = lambda: [StreamingChunk("", meta={"refusal": "I will not."})]
    use(page, api)
    if not stream:
        turn_off_streaming(page)
    assert "I will not." in ask(page)
    assert page.run("return document.querySelector('.refusal').textContent") == "I will not."


@apis
def test_an_answer_that_was_cut_says_so(page: Browser, player: Player, api: str) -> None:
    player.play = lambda: ["Once upon", StreamingChunk("", finish_reason="length")]
    use(page, api)
    assert ("length" if api == "chat" else "max_output_tokens") in ask(page)


@apis
def test_what_a_model_says_is_text_alone(page: Browser, player: Player, api: str) -> None:
    evil = "<img src=x onerror='document.title=1'><script>document.title=1</script><a href='javascript:1'>x</a>"
    player.play = lambda: [
        thought(evil),
        evil,
        create_details_tag(evil, evil, evil),
        create_notification_event(evil),
        create_status_event(evil),
        Citation(f"https://shop.example/{evil}", evil),
        PipelineEvent(evil, {"x": evil}),
        call(evil, id=evil, tool_name=evil),
    ]
    use(page, api)
    ask(page, evil)
    answer = unfold(page)
    assert answer.count(evil) >= 7 and page.text.count(evil) > answer.count(evil)
    assert page.run("return document.title") == "flaskcompat: try the models"
    assert page.run("return document.querySelectorAll('#log img, #log script, #log a[href^=javascript]').length") == 0


@apis
def test_every_character_survives(page: Browser, player: Player, api: str) -> None:
    text = "Grüße 👩‍👩‍👧 \u2028\u0085 \u200fשלום <&> ‘’ \\n\ttab  two   spaces\n\n\nlines 漢字 𝄞 e\u0301"
    player.play = lambda: list(text)
    use(page, api)
    ask(page, "Grüße, 'wie' \"geht\" es? 👋")
    assert player.question == "Grüße, 'wie' \"geht\" es? 👋"
    assert page.run("return document.querySelector('.body .plain').textContent") == text


def test_events_are_read_however_they_are_cut(page: Browser) -> None:
    stream = (
        ": keep-alive\r\n\r\nevent: one\r\ndata: {ä\r\ndata:𝄞}\r\n\r\n"
        ": more\n\ndata\ndata: \u2028x\n\nevent: without data\n\nid: 7\nretry: 5\ndata: a: b\r\rdata: never ended"
    )
    read = """
        const [bytes, size] = [Uint8Array.from(arguments[0]), arguments[1]];
        return import(new URL("page/requests.js", document.baseURI)).then(async ({serverSentEvents}) => {
            const found = [];
            const pieces = new ReadableStream({start(to) {
                for (let at = 0; at < bytes.length; at += size) to.enqueue(bytes.slice(at, at + size));
                to.close();
            }});
            for await (const {name, data} of serverSentEvents(pieces)) found.push([name, data]);
            return found;
        })"""
    expected = [["one", "{ä\n𝄞}"], ["", "\n\u2028x"], ["", "a: b"]]
    for size in (1, 2, 3, 5, 7, 1000):
        assert page.run(read, list(stream.encode()), size) == expected, size


# -- what goes wrong -----------------------------------------------------------------------------------------


@apis
def test_failure_before_and_midway(page: Browser, player: Player, api: str) -> None:
    def refuse() -> Iterator[str]:
        raise APIError("Not on Sundays.", status=403, code="closed")
        yield ""

    def breaks() -> Iterator[str]:
        yield "Half of an answer"
        raise RuntimeError("a secret")

    use(page, api)
    player.play = refuse
    answer = ask(page, "open?")
    assert "Not on Sundays." in answer and "HTTP 403 · closed" in answer and "req_" in answer
    player.play = breaks
    answer = ask(page, "and now?")
    assert "Half of an answer" in answer and "The pipeline failed to answer this request. Request id: req_" in answer
    assert "pipeline_error" in answer and "secret" not in answer
    # A question that got no answer is left out of what is said later.
    player.play = lambda: ["Yes."]
    assert "Yes." in ask(page, "but why?")
    messages = player.seen[-1].get("messages") or player.seen[-1]["input"]
    assert [message["content"] for message in messages] == ["and now?", "Half of an answer", "but why?"]


@pytest.mark.parametrize("how", ["button", "escape", "new chat"])
@apis
def test_stop_ends_the_run(page: Browser, player: Player, api: str, how: str) -> None:
    closed = threading.Event()

    def play() -> Iterator[str]:
        try:
            yield "on and on"
            while not closed.wait(0.01):
                yield "."
        finally:
            closed.set()

    player.play = play
    use(page, api)
    page.type("#question", "hello" + ENTER)
    assert answer_shows(page, "on and on")
    if how == "button":
        page.click("#stop")
    elif how == "escape":
        page.type("#question", ESCAPE)
    else:
        page.press("New chat")
    assert closed.wait(LIMIT)
    assert eventually(lambda: page.run("return document.querySelector('#stop').hidden"))
    assert page.run("return document.activeElement.id") == "question"
    if how == "new chat":
        assert answer_of(page) == ""
    else:
        answer = answered(page)
        assert "on and on" in answer and "stopped" in answer
    player.play = lambda: ["Again."]
    assert "Again." in ask(page)


def test_without_models_and_without_a_server(browser: Browser) -> None:
    with serving(app_of(None)) as url:
        enter(browser, url, model="")
        assert browser.shows("This server has no model that you may use."), browser.text
        assert browser.run("return document.querySelector('#send').disabled")
    browser.press("Try again")
    assert browser.shows("The server cannot be reached."), browser.text


def test_a_stream_that_is_cut_is_no_answer(page: Browser, player: Player) -> None:
    for api, told in (("chat", "[]"), ("responses", "{}")):
        page.run(
            "const send = window.fetch; window.fetch = () => { window.fetch = send;"
            " return Promise.resolve(new Response(arguments[0], {headers: {'content-type': 'text/event-stream'}})); }",
            f"data: {told}\n\n",
        )
        use(page, api)
        assert "The connection ended before the answer did." in ask(page)


# -- conversations -------------------------------------------------------------------------------------------


def test_chat_completions_says_all_of_it_again(page: Browser, player: Player) -> None:
    player.play = lambda: ["First answer."]
    ask(page, "first")
    ask(page, "second")
    assert player.seen[-1]["messages"] == [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "First answer."},
        {"role": "user", "content": "second"},
    ]


def test_responses_names_what_is_kept(page: Browser, player: Player, site: tuple[str, Player]) -> None:
    player.play = lambda: ["First answer."]
    use(page, "responses")
    ask(page, "first")
    ask(page, "second")
    assert player.seen[-1]["previous_response_id"].startswith("resp_")
    said = [item["content"] for item in player.seen[-1]["input"]]
    assert [one if isinstance(one, str) else one[0]["text"] for one in said] == ["first", "First answer.", "second"]


def test_responses_says_it_again_where_it_was_forgotten(page: Browser, player: Player) -> None:
    player.play = lambda: ["An answer."]
    use(page, "responses")
    ask(page, "first")
    ask(page, "second")
    change_next_request(page, previous_response_id="resp_gone")
    assert "An answer." in ask(page, "third")
    assert "previous_response_id" not in player.seen[-1] and len(player.seen) == 3
    said = [item["content"] for item in player.seen[-1]["input"]]
    assert said == ["first", "An answer.", "second", "An answer.", "third"]
    ask(page, "fourth")
    assert player.seen[-1]["sent"] == [{"role": "user", "content": "fourth"}]


def test_responses_does_not_go_on_from_a_call_that_nobody_answers(page: Browser, player: Player) -> None:
    player.play = lambda: ["I ask.", call("{}", id="call_1", tool_name="opening_hours")]
    use(page, "responses")
    ask(page, "first")
    ask(page, "second")
    assert "previous_response_id" not in player.seen[-1]
    assert [item["content"] for item in player.seen[-1]["input"]] == ["first", "I ask.", "second"]


def test_the_other_api_goes_on_where_this_one_was(page: Browser, player: Player) -> None:
    player.play = lambda: ["Yes."]
    ask(page, "one")
    use(page, "responses")
    ask(page, "two")
    assert [item["content"] for item in player.seen[-1]["input"]] == ["one", "Yes.", "two"]
    use(page, "chat")
    ask(page, "three")
    assert [item["content"] for item in player.seen[-1]["messages"]] == ["one", "Yes.", "two", "Yes.", "three"]
    use(page, "responses")
    ask(page, "four")
    sent = [item["content"] for item in player.seen[-1]["input"]][-3:]
    assert sent == ["three", "Yes.", "four"] and "previous_response_id" in player.seen[-1]
    page.press("New chat")
    ask(page, "five")
    assert [item["content"] for item in player.seen[-1]["input"]] == ["five"]


@apis
def test_options(page: Browser, player: Player, api: str) -> None:
    use(page, api)
    player.play = lambda: ["Yes."]
    assert not page.run("return document.querySelector('#instructions').checkVisibility()")
    page.click("#options summary")
    page.type("#instructions", "Be brief.")
    page.type("#temperature", "0.3")
    turn_off_streaming(page)
    ask(page, "hello")
    body = player.seen[-1]
    assert (body["temperature"], body["stream"]) == (0.3, False)
    if api == "chat":
        assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    else:
        assert body["instructions"] == "Be brief."


# -- files ---------------------------------------------------------------------------------------------------

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    path = tmp_path / "it's $(notes) ü.txt"
    path.write_text("The shop öffnet at nine.\n" * 10_000, encoding="utf-8")
    return path


@apis
def test_a_file_goes_in_the_request(page: Browser, player: Player, notes: Path, api: str) -> None:
    use(page, api)
    player.play = lambda: ["Yes."]
    page.type("#attach", str(notes))
    assert page.shows(notes.name)
    ask(page, "what is this?")
    data = f"data:text/plain;base64,{base64.b64encode(notes.read_bytes()).decode()}"
    file = {"filename": notes.name, "file_data": data}
    if api == "chat":
        assert player.question == [{"type": "file", "file": file}, {"type": "text", "text": "what is this?"}]
    else:
        assert player.question == [{"type": "input_file", **file}, {"type": "input_text", "text": "what is this?"}]
    assert notes.name in page.run("return document.querySelector('.question').innerText")
    assert page.run("return document.querySelector('#files').hidden")


@apis
def test_a_file_goes_as_an_upload(page: Browser, player: Player, notes: Path, api: str) -> None:
    use(page, api)
    player.play = lambda: ["Yes."]
    choose(page, "#sending", "upload")
    page.type("#attach", str(notes))
    assert page.shows(notes.name)
    ask(page, "what is this?")
    assert player.uploads == [(notes.name, "text/plain", notes.read_bytes(), "user_data")]
    expected = {"type": "file", "file": {"file_id": "file-1"}}
    assert player.question[0] == (expected if api == "chat" else {"type": "input_file", "file_id": "file-1"})


@apis
def test_an_image_alone(page: Browser, player: Player, tmp_path: Path, api: str) -> None:
    image = tmp_path / "dot.png"
    image.write_bytes(PIXEL)
    use(page, api)
    player.play = lambda: ["A dot."]
    page.type("#attach", str(image))
    assert page.shows("dot.png")
    assert eventually(lambda: page.run("return document.querySelector('#files img').naturalWidth") == 1)
    ask(page, "")
    url = f"data:image/png;base64,{base64.b64encode(PIXEL).decode()}"
    if api == "chat":
        assert player.question == [{"type": "image_url", "image_url": {"url": url}}]
    else:
        assert player.question == [{"type": "input_image", "image_url": url, "detail": "auto"}]


def test_a_file_can_be_taken_off(page: Browser, player: Player, notes: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    page.type("#attach", f"{notes}\n{tmp_path / 'empty.txt'}")
    assert page.shows("empty.txt is empty.") and page.shows(notes.name)
    page.click("#files button")
    assert notes.name not in page.text
    ask(page, "hello")
    assert player.question == "hello"


# -- the request, to take with one ---------------------------------------------------------------------------

ODD = 'it\'s "quoted" $HOME `id` \\n !x %s Grüße 👋'


def run_in_shell(command: str, folder: Path, **environ: str) -> str:
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", command],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": "/nowhere", **environ},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@apis
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_the_command_asks_the_same(page: Browser, player: Player, tmp_path: Path, api: str, stream: bool) -> None:
    use(page, api)
    player.play = lambda: ["A wörd."]
    if not stream:
        turn_off_streaming(page)
    ask(page, f"{ODD}{SHIFT}{ENTER}{chr(0xE000)}second line")
    assert player.question == f"{ODD}\nsecond line"
    answer = run_in_shell(snippet(page, "curl"), tmp_path)
    assert len(player.seen) == 2 and player.seen[0] == player.seen[1]
    assert ("data: " in answer) is stream and "A w\\u00f6rd." in answer


@apis
def test_the_command_reads_the_files(page: Browser, player: Player, notes: Path, api: str) -> None:
    (notes.parent / "dot.png").write_bytes(PIXEL)
    use(page, api)
    page.type("#attach", f"{notes}\n{notes.parent / 'dot.png'}")
    assert page.shows("dot.png")
    ask(page, ODD)
    command = snippet(page, "curl")
    assert len(command) < 2000
    run_in_shell(command, notes.parent)
    assert len(player.seen) == 2 and player.seen[0] == player.seen[1]


@pytest.mark.parametrize(
    ("api", "stream"), [("chat", True), ("chat", False), ("responses", True), ("responses", False)]
)
def test_the_program_asks_the_same(page: Browser, player: Player, notes: Path, api: str, stream: bool) -> None:
    use(page, api)
    player.play = lambda: ["A wörd."]
    if not stream:
        turn_off_streaming(page)
    choose(page, "#temperature", "0.5")
    page.type("#attach", str(notes))
    assert page.shows(notes.name)
    ask(page, ODD)
    (notes.parent / "ask.py").write_text(snippet(page, "python"), encoding="utf-8")
    said = run_in_shell(f"{sys.executable} -W error ask.py", notes.parent, PYTHONUTF8="1")
    assert said == "A wörd.\n"
    assert len(player.seen) == 2 and player.seen[0] == player.seen[1]


def test_copying(page: Browser, player: Player) -> None:
    page.tell_chromium("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    ask(page, "to be copied")
    page.press("Copy as")
    page.click("#copy")
    assert page.shows("Copied")
    shown = page.run("return document.querySelector('#snippet').textContent")
    assert "to be copied" in shown and page.run("return navigator.clipboard.readText()") == shown
    page.tell_chromium("Browser.resetPermissions")


# -- the key -------------------------------------------------------------------------------------------------


def test_the_key_is_asked_for_and_forgotten(browser: Browser, tmp_path: Path) -> None:
    player = Player()
    player.play = lambda: ["Come in."]
    with serving(app_of(player, FLASKCOMPAT_API_KEYS="sk-right")) as url:
        enter(browser, url, model="")
        assert browser.shows("The server asks for a key.")
        browser.type("#key-value", "sk-wrong" + ENTER)
        assert browser.shows("The server does not take this key.")
        browser.type("#key-value", "sk-right" + ENTER)
        assert eventually(lambda: browser.run("return !document.querySelector('#send').disabled"))
        assert "Come in." in ask(browser, "let me in")
        assert browser.run("return [...Object.values(sessionStorage)]") == ["sk-right"]
        assert "sk-right" not in browser.run("return JSON.stringify(localStorage) + document.cookie")
        for kind in ("curl", "python"):
            assert "sk-right" not in snippet(browser, kind)
        run_in_shell(snippet(browser, "curl"), tmp_path, OPENAI_API_KEY="sk-right")
        (tmp_path / "ask.py").write_text(snippet(browser, "python"), encoding="utf-8")
        run_in_shell(f"{sys.executable} ask.py", tmp_path, OPENAI_API_KEY="sk-right")
        assert len(player.seen) == 3 and player.seen[0] == player.seen[1] == player.seen[2]
        browser.press("API key")
        browser.press("Forget key")
        assert browser.shows("The server asks for a key.")
        assert browser.run("return sessionStorage.length") == 0
        browser.press("Cancel")
        assert eventually(lambda: browser.run("return document.querySelector('#send').disabled"))
        assert complaints(browser) == []


# -- the page itself -----------------------------------------------------------------------------------------


def test_keyboard(page: Browser, player: Player) -> None:
    player.play = lambda: ["Yes."]
    assert page.run("return document.activeElement.id") == "question"
    page.type("#question", f"one{SHIFT}{ENTER}{chr(0xE000)}two{ENTER}")
    assert "Yes." in answered(page)
    assert player.question == "one\ntwo"
    assert page.run("return [document.activeElement.id, document.activeElement.value]") == ["question", ""]
    page.type("#question", f"  {ENTER}")
    assert len(player.seen) == 1
    page.run("document.querySelector('#model').focus()")
    order = []
    for _ in range(5):
        page.keys(TAB)
        order.append(page.run("const one = document.activeElement; return one.id || one.value || one.innerText"))
        focus = "getComputedStyle(document.activeElement.matches('.switch input') ? "
        focus += "document.activeElement.nextElementSibling : document.activeElement).outlineStyle"
        assert page.run(f"return {focus}") != "none"
    assert order == ["chat", "new", "theme", "log", "Copy as curl or Python"]


def test_what_is_heard(page: Browser, player: Player) -> None:
    player.play = lambda: ["A whole answer."]
    ask(page)
    heard = page.run("const one = document.querySelector('[aria-live=polite]'); return one.textContent")
    assert heard == "A whole answer."
    unnamed = """return [...document.querySelectorAll('button, select, textarea, input')].filter((one) =>
        !one.labels?.length && !one.ariaLabel && !one.textContent.trim()).map((one) => one.outerHTML)"""
    assert page.run(unnamed) == []


def test_dark_and_light(page: Browser) -> None:
    def prefer(theme: str) -> None:
        page.tell_chromium("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])

    def ground() -> Any:
        return page.run("return getComputedStyle(document.body).backgroundColor")

    seen = {}
    for theme in ("light", "dark"):
        prefer(theme)
        seen[theme] = ground()
    assert seen["light"] != seen["dark"]
    for chosen, other in (("light", "dark"), ("dark", "light")):
        page.click("#theme")
        assert ground() == seen[chosen]
        prefer(other)
        page.run("location.reload()")
        assert page.shows("Try a model") and eventually(lambda chosen=chosen: ground() == seen[chosen])
    page.tell_chromium("Emulation.setEmulatedMedia", features=[])


def test_on_a_telephone(page: Browser, player: Player) -> None:
    wide = "x" * 500
    player.play = lambda: [
        wide,
        f"\n```\n{wide}\n```\n",
        Citation(f"https://shop.example/{wide}", wide),
        create_notification_event(wide),
        call(json.dumps({"x": wide}), id="call_1", tool_name="wide"),
    ]
    page.tell_chromium("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    try:
        page.click("#options summary")
        ask(page, wide)
        unfold(page)
        page.press("Copy as")
        sizes = "return ['html', '#log', '#composer', '#request-dialog'].map((name) => document.querySelector(name))"
        assert all(w <= 360 for w in page.run(f"{sizes}.map((one) => one.scrollWidth)"))
        for name in ("#model", "#send", "#copy", "input[value=responses] + span"):
            box = page.run("return document.querySelector(arguments[0]).getBoundingClientRect()", name)
            assert 0 <= box["left"] and box["right"] <= 360 and box["height"] >= 24, name
    finally:
        page.tell_chromium("Emulation.clearDeviceMetricsOverride")


def test_what_is_read_stays_in_place(page: Browser, player: Player) -> None:
    gates = [threading.Event(), threading.Event()]

    def play() -> Iterator[str]:
        yield "line\n" * 200
        assert gates[0].wait(LIMIT)
        yield "more\n" * 200
        assert gates[1].wait(LIMIT)
        yield "the end"

    def place() -> Any:
        return page.run("const log = document.querySelector('#log'); return log.scrollTop")

    def is_at_the_end() -> Any:
        log = "const log = document.querySelector('#log');"
        return page.run(f"{log} return log.scrollHeight - log.scrollTop - log.clientHeight < 2")

    player.play = play
    page.type("#question", "hello" + ENTER)
    assert answer_shows(page, "line") and eventually(is_at_the_end) and place() > 0
    # Somebody scrolls up, and reads.
    page.run(
        "const log = document.querySelector('#log'); log.scrollTop = 100;"
        "return new Promise((done) => log.addEventListener('scroll', () => setTimeout(done), {once: true}))"
    )
    gates[0].set()
    assert answer_shows(page, "more") and place() == 100
    page.run(
        "const log = document.querySelector('#log'); log.scrollTop = log.scrollHeight;"
        "return new Promise((done) => log.addEventListener('scroll', () => setTimeout(done), {once: true}))"
    )
    gates[1].set()
    answered(page)
    assert eventually(is_at_the_end)


def test_model_and_api_are_remembered(page: Browser, player: Player) -> None:
    names = page.run("return [...document.querySelector('#model').options].map((one) => one.value)")
    assert names == ["another", "player"]  # the first is what somebody gets who has chosen none
    use(page, "responses")
    page.run("location.reload()")
    assert eventually(lambda: page.run("return document.querySelector('#model').value"))
    ask(page)
    assert player.seen[-1]["model"] == "player" and "input" in player.seen[-1]


def test_below_a_prefix(browser: Browser, tmp_path: Path) -> None:
    player = Player()
    player.play = lambda: ["From below."]
    app = app_of(player)
    app.wsgi_app = DispatcherMiddleware(NotFound(), {"/ai": app.wsgi_app})  # type: ignore[method-assign]
    with serving(app) as url:
        enter(browser, f"{url}/ai")
        assert "From below." in ask(browser)
        run_in_shell(snippet(browser, "curl"), tmp_path)
        assert len(player.seen) == 2
        assert complaints(browser) == []
