"""Every example over HTTP, as its reader would run it."""

import importlib
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from flask import Flask
from flask.cli import ScriptInfo
from flask.testing import FlaskClient
from haystack import tracing
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from flaskcompat import (
    AsyncPipeline,
    BasePipelineWrapper,
    Registry,
    async_streaming_generator,
    create_app,
    get_last_user_message,
)
from flaskcompat.runtime.loader import load_folder
from flaskcompat.server import make_server

from .support import serving

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
IN_YAML = {"chat_yaml", "chat_async_yaml"}

try:
    from haystack.components.generators.chat import MockChatGenerator
except ImportError:
    MockChatGenerator = None

needs_mock_generator = pytest.mark.skipif(
    MockChatGenerator is None, reason="this Haystack has no MockChatGenerator, which the YAML names"
)


@dataclass
class Site:
    """A server of all examples, and the folder where it keeps uploads."""

    url: str
    registry: Registry
    files: Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    app = create_app({"FLASKCOMPAT_PIPELINES_DIR": str(tmp_path_factory.mktemp("empty"))})
    server = make_server(app, port=0, threads=8)
    url = f"http://127.0.0.1:{server.port}"
    files = tmp_path_factory.mktemp("outer") / "files"
    with pytest.MonkeyPatch.context() as patch:
        # The composed example is told at its start where the server is.
        patch.setenv("EXAMPLE_BASE_URL", f"{url}/v1")
        patch.setenv("EXAMPLE_FILES_DIR", str(files))
        registry = app.extensions["flaskcompat"].registry
        load_folder(EXAMPLES / "pipelines", registry)
    thread = threading.Thread(target=server.run, name="site")
    thread.start()
    yield Site(url, registry, files)
    server.end()
    thread.join(10)
    assert not thread.is_alive()
    server.close()


@pytest.fixture(scope="module")
def client(site: Site) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{site.url}/v1", api_key="not-used", max_retries=0, timeout=20) as client:
        yield client


def chat(client: openai.OpenAI, model: str, text: str, **kwargs: Any) -> Any:
    """The message of a whole answer."""
    messages: Any = [{"role": "user", "content": text}]
    return client.chat.completions.create(model=model, messages=messages, **kwargs).choices[0].message


def chat_stream(client: openai.OpenAI, model: str, text: str, **kwargs: Any) -> list[Any]:
    messages: Any = [{"role": "user", "content": text}]
    return list(client.chat.completions.create(model=model, messages=messages, stream=True, **kwargs))


def texts(chunks: list[Any]) -> list[str]:
    return [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]


def text_deltas(events: list[Any]) -> list[str]:
    return [event.delta for event in events if event.type == "response.output_text.delta"]


def output_types(response: Any) -> list[str]:
    return [item.type for item in response.output]


def test_every_wrapper_loads(site: Site):
    assert set(site.registry.failed) == (IN_YAML if MockChatGenerator is None else set())
    folders = {path.parent.name for path in EXAMPLES.glob("pipelines/*/pipeline_wrapper.py")}
    assert {model.name for model in site.registry} | set(site.registry.failed) == folders


def test_models_are_listed(site: Site, client: openai.OpenAI):
    assert [model.id for model in client.models.list()] == [model.name for model in site.registry]


def readme_rows() -> list[tuple[str, str]]:
    """The first and last column of the table of examples: name and command."""
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^\| \[([\w.]+)\]\([\w./]+\) \|.*\| (.*) \|$", text, re.MULTILINE)


def test_readme_names_every_example():
    folders = {path.parent.name for path in EXAMPLES.glob("pipelines/*/pipeline_wrapper.py")}
    programs = {path.name for kind in ("*.py", "*.mjs") for path in EXAMPLES.glob(kind)}
    programs |= {path.parent.name for path in EXAMPLES.glob("*/README.md")}
    assert [name for name, _ in readme_rows()] == list(dict.fromkeys(name for name, _ in readme_rows()))
    assert {name for name, _ in readme_rows()} == folders | programs


def imports(path: Path) -> set[str]:
    """What a program imports that comes neither with its language nor with this package."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".mjs":
        return set(re.findall(r'^import .* from "(.*)";$', text, re.MULTILINE))
    names = [name.partition(".")[0] for name in re.findall(r"^(?:from|import) ([\w.]+)", text, re.MULTILINE)]
    ours = {"", "flask", "flaskcompat", "haystack", "haystack_integrations", "werkzeug"}
    return {name.replace("_", "-") for name in {*names} - ours - sys.stdlib_module_names}


def test_readme_says_what_an_example_needs():
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[.*?\]\((.*?)\) \| .* \|(.*) \| ", text, re.MULTILINE)
    places = [(EXAMPLES / place, needs) for place, needs in rows]
    found = {
        str(path.relative_to(EXAMPLES)): (imports(path), needs)
        for path, needs in places
        if path.suffix in (".py", ".mjs")
    }
    assert {name for name, (imported, needs) in found.items() if imported} == {
        "ai_sdk_client.mjs", "flask_cors_app.py", "flask_limiter_app.py", "flask_login_app.py", "langchain_client.py",
        "opentelemetry_app.py",
    }  # fmt: skip
    for name, (imported, needs) in found.items():
        assert all(package in needs for package in imported), name
    assert [needs for path, needs in places if path.parent.name in IN_YAML] == [" Haystack 3"] * 2


def test_commands_of_the_readme_are_answered(site: Site):
    commands = re.compile(r"curl (-N )?localhost:1416(\S+) --json '(.*)'`")
    asked = set()
    for name, command in readme_rows():
        if (found := commands.search(command)) and name not in site.registry.failed:
            body = json.loads(found[3])
            answer = httpx.post(site.url + found[2], json=body, timeout=20)
            assert answer.status_code == 200, command
            assert body["model"] == name
            assert ("[DONE]" in answer.text) == bool(found[1]) == body.get("stream", False)
            asked.add(name)
    others = {"file_store", "file_reader"} | set(site.registry.failed)
    wrappers = {path.parent.name for path in EXAMPLES.glob("pipelines/*/pipeline_wrapper.py")}
    assert asked == wrappers - others


# -- Chat Completions --------------------------------------------------------------------------------------


@needs_mock_generator
def test_chat_yaml(client: openai.OpenAI):
    assert chat(client, "chat_yaml", "hello there").content == "You asked: hello there"


@needs_mock_generator
def test_chat_async_yaml_streams(client: openai.OpenAI):
    pieces = texts(chat_stream(client, "chat_async_yaml", "hello there"))
    assert len(pieces) > 3
    assert "".join(pieces) == "You asked, and this is streamed: hello there"


def test_chat_streaming_knows_the_conversation(client: openai.OpenAI):
    messages: Any = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]
    chunks = list(client.chat.completions.create(model="chat_streaming", messages=messages, stream=True))
    pieces = texts(chunks)
    assert len(pieces) > 3
    assert "".join(pieces) == "You said: three (message 3 of this chat)"
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["stop"]


def test_chat_reasoning_streams_thoughts_before_the_answer(client: openai.OpenAI):
    chunks = chat_stream(client, "chat_reasoning", "why so?")
    deltas = [chunk.choices[0].delta for chunk in chunks]
    thinking = [delta for delta in deltas if getattr(delta, "reasoning_content", None)]
    assert len(thinking) > 2
    assert "".join(delta.reasoning_content for delta in thinking) == "The question has 2 words."
    assert "".join(texts(chunks)) == "After some thought: why so?"
    kinds = ["text" if delta.content else "thought" for delta in deltas if delta.content or delta in thinking]
    assert kinds == sorted(kinds, reverse=True)


def test_chat_reasoning_callback_gives_one_event_for_each_request(client: openai.OpenAI):
    for _ in range(2):
        events = events_of(chat_stream(client, "chat_reasoning", "why so?"))
        assert [event["data"]["description"] for event in events] == ["Thinking..."]


def test_chat_reasoning_is_kept_without_streaming(client: openai.OpenAI):
    message = chat(client, "chat_reasoning", "why so?")
    assert message.reasoning_content == "The question has 2 words."
    assert message.content == "After some thought: why so?"


def test_chat_prompt_builder_puts_the_question_in_its_prompt(client: openai.OpenAI):
    content = chat(client, "chat_prompt_builder", "what is {{ query }}?").content
    assert content == "[system] You are a helpful assistant. [user] Answer in one sentence: what is {{ query }}?"


def test_chat_async_prompt_builder_streams_and_reads_the_body(client: openai.OpenAI):
    pieces = texts(chat_stream(client, "chat_async_prompt_builder", "hi", extra_body={"language": "French"}))
    assert len(pieces) > 3
    assert "".join(pieces) == "[system] You answer in French. [user] hi"


def test_chat_parameters_are_the_requests(client: openai.OpenAI):
    sent = {"temperature": 0.1, "max_tokens": 7, "top_p": 0.5, "stop": ["end"]}
    assert json.loads(chat(client, "chat_parameters", "hi", **sent).content) == sent


def test_chat_parameters_have_defaults(client: openai.OpenAI):
    given = json.loads(chat(client, "chat_parameters", "hi").content)
    assert given == {"temperature": 0.7, "max_tokens": 150, "top_p": 1.0}


# -- Responses ---------------------------------------------------------------------------------------------


def test_response_basic(client: openai.OpenAI):
    response = client.responses.create(model="response_basic", input="hello")
    assert response.output_text == "You said: hello (message 1 of this chat)"


@pytest.mark.parametrize("model", ["response_streaming", "response_async_streaming"])
def test_response_streaming(client: openai.OpenAI, model: str):
    items: Any = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "hello"}]
    with client.responses.stream(model=model, input=items) as stream:
        pieces = text_deltas(list(stream))
        final = stream.get_final_response()
    assert len(pieces) > 3
    assert "".join(pieces) == final.output_text == "You said: hello (message 2 of this chat)"


@pytest.mark.parametrize("stream", [False, True])
def test_response_agent_runs_its_tool_and_hides_the_call(client: openai.OpenAI, stream: bool):
    question: Any = {"model": "response_agent", "input": "Where is order 1042?"}
    if stream:
        with client.responses.stream(**question) as events:
            response = events.get_final_response()
    else:
        response = client.responses.create(**question)
    assert response.output_text == "I looked it up: order 1042 is packed, leaves on Monday."
    assert output_types(response) == ["message"]


def test_filter_hides_calls_even_of_a_tool_that_the_client_has_too(client: openai.OpenAI):
    tools: Any = [{"type": "function", "name": "in_stock", "parameters": {"type": "object", "properties": {}}}]
    response = client.responses.create(model="response_agent_filtered", input="How many bolts", tools=tools)
    assert response.output_text == "I looked it up: 120 bolts in stock."
    assert output_types(response) == ["message"]


# -- tools that the client runs ----------------------------------------------------------------------------

SHELL = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
CLOCK = {"type": "object", "properties": {}}


def test_client_tools_on_responses(client: openai.OpenAI):
    tools: Any = [
        {"type": "function", "name": "shell", "parameters": SHELL},
        {"type": "function", "name": "clock", "parameters": CLOCK},
        {"type": "web_search"},
    ]
    items: list[Any] = [{"role": "user", "content": "use shell and clock"}]
    with client.responses.stream(model="client_tools", input=items, tools=tools) as stream:
        events = list(stream)
        first = stream.get_final_response()
    assert "response.function_call_arguments.delta" in [event.type for event in events]
    calls = [item for item in first.output if item.type == "function_call"]
    assert [call.name for call in calls] == ["shell", "clock"] == [item.name for item in first.output]
    assert json.loads(calls[0].arguments) == {"command": "use shell and clock"}
    assert len({call.call_id for call in calls}) == 2

    items += [item.model_dump(exclude_none=True) for item in first.output]
    # Results may come in another order than the calls: the ids tell.
    items += [
        {"type": "function_call_output", "call_id": calls[1].call_id, "output": "noon"},
        {"type": "function_call_output", "call_id": calls[0].call_id, "output": "README.md"},
    ]
    second = client.responses.create(model="client_tools", input=items, tools=tools)
    assert second.output_text == "clock gave noon; shell gave README.md"
    assert output_types(second) == ["message"]


def test_client_tools_on_chat(client: openai.OpenAI):
    tools: Any = [{"type": "function", "function": {"name": "shell", "parameters": SHELL}}]
    messages: list[Any] = [{"role": "user", "content": "use shell"}]
    first = client.chat.completions.create(model="client_tools", messages=messages, tools=tools).choices[0]
    assert first.finish_reason == "tool_calls"
    [call] = first.message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("shell", {"command": "use shell"})

    messages += [
        first.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "README.md"},
    ]
    second = client.chat.completions.create(model="client_tools", messages=messages, tools=tools).choices[0]
    assert second.message.content == "shell gave README.md"
    assert second.finish_reason == "stop"


# -- files -------------------------------------------------------------------------------------------------


def upload(client: openai.OpenAI, text: str, name: str = "shop.txt") -> Any:
    return client.files.create(file=(name, text.encode(), "text/plain"), purpose="user_data")


def ask_files(client: openai.OpenAI, question: str, *file_ids: str) -> str:
    parts: list[Any] = [{"type": "input_file", "file_id": file_id} for file_id in file_ids]
    parts.append({"type": "input_text", "text": question})
    return client.responses.create(model="file_reader", input=[{"role": "user", "content": parts}]).output_text


def test_uploaded_files_are_read_by_id(client: openai.OpenAI):
    shop = upload(client, "The shop opens at nine.\nThe cat is called Ömer.\n")
    cars = upload(client, "The red car costs 12 euros.\n")
    assert (shop.object, shop.filename, shop.purpose) == ("file", "shop.txt", "user_data")
    assert shop.bytes == len("The shop opens at nine.\nThe cat is called Ömer.\n".encode())
    assert shop.id != cars.id
    assert ask_files(client, "What is the cat called?", shop.id, cars.id) == "The cat is called Ömer."
    assert ask_files(client, "What costs the red car?", shop.id, cars.id) == "The red car costs 12 euros."
    assert ask_files(client, "What costs the red car?") == "The files say nothing about that."


def test_names_of_uploads_are_labels_alone(site: Site, client: openai.OpenAI):
    uploaded = upload(client, "secret", name="../../escaped.txt")
    assert uploaded.filename == "escaped.txt"
    assert (site.files / uploaded.id).read_text() == "secret"
    assert list(site.files.parent.iterdir()) == [site.files]


@pytest.mark.parametrize("file_id", ["../x", "file-" + "0" * 32, "file-" + "0" * 32 + "\n", "/etc/passwd", "x.json"])
def test_ids_that_were_not_given_out_are_refused(client: openai.OpenAI, file_id: str):
    with pytest.raises(openai.NotFoundError) as caught:
        ask_files(client, "What is in it?", file_id)
    assert caught.value.code == "not_found"


# -- Open WebUI --------------------------------------------------------------------------------------------


def events_of(chunks: list[Any]) -> list[dict[str, Any]]:
    return [chunk.event for chunk in chunks if getattr(chunk, "event", None)]


def test_open_webui_shows_what_the_agent_does(client: openai.OpenAI):
    chunks = chat_stream(client, "open_webui", "When do you open in Berlin?")
    events = events_of(chunks)
    assert {event["type"] for event in events} == {"status"}
    assert [(event["data"]["description"], event["data"]["done"]) for event in events] == [
        ("Working...", False),
        ("Calling 'opening_hours' tool...", False),
        ("Called 'opening_hours' tool", True),
        ("Done", True),
    ]
    answer = "".join(texts(chunks))
    assert '<details type="opening_hours" done="true">' in answer
    assert answer.endswith("I looked it up: the shop in Berlin is open from 9 to 18.")
    thoughts = "".join(getattr(chunk.choices[0].delta, "reasoning_content", None) or "" for chunk in chunks)
    assert thoughts == "I need the opening hours.\nThe tool has told me.\n"
    assert not any(chunk.choices[0].delta.tool_calls for chunk in chunks)


def test_open_webui_notifies_of_a_failed_tool(client: openai.OpenAI):
    chunks = chat_stream(client, "open_webui", "When do you open in Atlantis?")
    notices = [event["data"] for event in events_of(chunks) if event["type"] == "notification"]
    assert notices == [{"type": "error", "content": "Error calling 'opening_hours' tool"}]
    assert "".join(texts(chunks)) == "That did not work."


def test_open_webui_answers_background_tasks_without_the_agent(client: openai.OpenAI):
    message = chat(client, "open_webui", "### Task:\nGenerate a title for Berlin")
    assert json.loads(message.content)["title"] == "Opening hours"
    assert not hasattr(message, "reasoning_content")


# -- clients, composition, embedding -----------------------------------------------------------------------


def test_composed_model_asks_the_other_one(client: openai.OpenAI):
    pieces = texts(chat_stream(client, "composed", "hello"))
    assert len(pieces) > 3
    assert "".join(pieces) == "You said: hello, asked by another model (message 1 of this chat)"


def test_haystack_client(site: Site):
    command = [sys.executable, str(EXAMPLES / "haystack_client.py"), f"{site.url}/v1/", "chat_streaming"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    answer = "You said: Who are you? (message 1 of this chat)"
    assert (ran.returncode, ran.stdout) == (0, f"Streamed: {answer}\nWhole: {answer}\n"), ran.stderr


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    monkeypatch.setattr(sys, "path", list(sys.path))  # `flask --app` adds to it
    monkeypatch.setenv("PASSWORD", "pässword")
    return ScriptInfo(app_import_path=str(EXAMPLES / "embedded_app")).load_app().test_client()


QUESTION = {"model": "support", "messages": [{"role": "user", "content": "Is it red?"}]}
KEY = {"Authorization": "Bearer pässword"}


def test_embedded_app_guards_pages_and_api(embedded: FlaskClient):
    assert embedded.get("/models").headers["Location"] == "/login"
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        refused = embedded.post("/ai/v1/chat/completions", json=QUESTION, headers=headers)
        assert refused.status_code == 401
        assert set(refused.json["error"]) == {"message", "type", "param", "code"}


def test_embedded_app_serves_the_model_behind_its_login(embedded: FlaskClient):
    answer = embedded.post("/ai/v1/chat/completions", json=QUESTION, headers=KEY)
    assert answer.json["choices"][0]["message"]["content"] == "Thank you for writing to us. You asked: Is it red?"
    assert [model["id"] for model in embedded.get("/ai/v1/models", headers=KEY).json["data"]] == ["support"]

    assert embedded.post("/login", data={"password": "pässword"}).headers["Location"] == "/"
    streamed = embedded.post("/ai/v1/chat/completions", json={**QUESTION, "stream": True})
    assert streamed.status_code == 200
    assert streamed.text.rstrip().endswith("data: [DONE]")


def test_embedded_app_keeps_its_own_pages(embedded: FlaskClient):
    embedded.post("/login", data={"password": "pässword"})
    assert "Fire engine" in embedded.get("/models").text
    lost = embedded.get("/nowhere")
    assert (lost.status_code, lost.text) == (404, "<h1>This page got lost</h1>")
    assert embedded.get("/v1/models").text == "<h1>This page got lost</h1>"
    assert embedded.get("/ai/v1/nowhere").json["error"]["code"] == "not_found"


# -- folders of their own ----------------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path: Path) -> Iterator[openai.OpenAI]:
    settings = {"FLASKCOMPAT_PIPELINES_DIR": str(EXAMPLES / "rag" / "pipelines")}
    settings |= {"FLASKCOMPAT_DATABASE_URL": f"sqlite:///{tmp_path / 'state.db'}"}
    settings |= {"FLASKCOMPAT_FILES_URL": (tmp_path / "files").as_uri(), "FLASKCOMPAT_STRICT": True}
    with serving(create_app(settings)) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="x", timeout=20) as client:
        yield client


def test_rag_answers_from_its_folder_with_citations(library: openai.OpenAI):
    response = library.responses.create(model="library", input="How warm is a hive?")
    assert response.output_text.startswith("A hive keeps its brood at thirty-five degrees")
    [part] = response.output[0].content
    assert [annotation.url for annotation in part.annotations] == ["bees.md"]
    chunks = chat_stream(library, "library", "What do builders of suspension bridges fear?")
    assert "".join(texts(chunks)).endswith("wind is what its builders fear most.")
    [cited] = [delta.annotations for delta in (c.choices[0].delta for c in chunks) if hasattr(delta, "annotations")]
    assert cited[0]["url_citation"]["title"] == "bridges"


def test_rag_answers_from_an_upload(library: openai.OpenAI):
    file = library.files.create(
        file=("notes.txt", b"The spare key lies below the third flower pot."), purpose="user_data"
    )
    question = {"type": "input_text", "text": "Where is the spare key?"}
    items: Any = [{"role": "user", "content": [{"type": "input_file", "file_id": file.id}, question]}]
    response = library.responses.create(model="library", input=items)
    assert "third flower pot" in response.output_text
    assert [a.title for a in response.output[0].content[0].annotations] == ["notes.txt"]
    with pytest.raises(openai.NotFoundError):
        items[0]["content"][0]["file_id"] = "file-0"
        library.responses.create(model="library", input=items)


def example_app(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", list(sys.path))
    return ScriptInfo(app_import_path=str(EXAMPLES / name)).load_app()


def test_flask_login_lets_its_users_in(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PASSWORD", "sesame")
    app = example_app("flask_login_app", monkeypatch)
    question = {"model": "greeter", "messages": [{"role": "user", "content": "hi"}]}
    client = app.test_client()
    assert client.get("/").headers["Location"].startswith("/login")
    assert client.post("/ai/v1/chat/completions", json=question).status_code == 401
    client.post("/login", data={"name": "ada", "password": "wrong"})
    assert client.post("/ai/v1/chat/completions", json=question).status_code == 401
    client.post("/login", data={"name": "ada", "password": "sesame"})
    answer = client.post("/ai/v1/chat/completions", json=question).json["choices"][0]["message"]["content"]
    assert answer == "Hello ada, you said: hi"
    streamed = client.post("/ai/v1/chat/completions", json={**question, "stream": True}).text
    assert "Hello ada" in streamed and streamed.rstrip().endswith("[DONE]")


ASK_PARROT: dict[str, Any] = {"model": "parrot", "messages": [{"role": "user", "content": "hi"}]}


def test_flask_limiter_counts_what_each_user_asks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ASKS_PER_MINUTE", "3")
    client = example_app("flask_limiter_app", monkeypatch).test_client()
    ada, bob = ({"Authorization": f"Bearer {name}"} for name in ("ada", "bob"))
    paths = ("/ai/v1/chat/completions", "/ai/chat/completions", "/ai/v1/chat/completions/")
    answers = [client.post(path, json={**ASK_PARROT, "stream": True}, headers=ada) for path in paths]
    assert [answer.text.rstrip().endswith("[DONE]") for answer in answers] == [True] * 3
    refused = client.post("/ai/chat/completions", json=ASK_PARROT, headers=ada)
    assert refused.status_code == 429 and refused.json["error"]["code"] == "rate_limit_exceeded"
    assert refused.json["error"]["type"] == "rate_limit_error"
    assert client.get("/ai/v1/models", headers=ada).status_code == 200
    assert client.post("/ai/v1/chat/completions", json=ASK_PARROT, headers=bob).status_code == 200
    assert client.post("/ai/v1/chat/completions", json=ASK_PARROT).status_code == 401


def test_flask_cors_lets_one_site_in(monkeypatch: pytest.MonkeyPatch):
    client = example_app("flask_cors_app", monkeypatch).test_client()
    site = {"Origin": "http://localhost:3000"}
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, content-type"}
    for path in ("/ai/v1/chat/completions", "/ai/chat/completions"):
        preflight = client.options(path, headers=site | asks)
        assert preflight.status_code == 200
        assert preflight.headers["Access-Control-Allow-Origin"] == site["Origin"]
        assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
        assert "content-type" in preflight.headers["Access-Control-Allow-Headers"]
        answer = client.post(path, json={**ASK_PARROT, "stream": True}, headers=site)
        assert answer.headers["Access-Control-Allow-Origin"] == site["Origin"]
        assert "x-request-id" in answer.headers["Access-Control-Expose-Headers"]
        assert answer.text.rstrip().endswith("[DONE]")
    failed = client.post("/ai/v1/chat/completions", json={**ASK_PARROT, "model": "none"}, headers=site)
    assert failed.status_code == 404 and failed.headers["Access-Control-Allow-Origin"] == site["Origin"]
    other = client.post("/ai/v1/chat/completions", json=ASK_PARROT, headers={"Origin": "http://elsewhere.example"})
    assert "Access-Control-Allow-Origin" not in other.headers


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Flask, InMemorySpanExporter]]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.syspath_prepend(EXAMPLES)
    app = importlib.import_module("opentelemetry_app").create_app(provider)
    yield app, exporter
    FlaskInstrumentor().uninstrument_app(app)
    tracing.disable_tracing()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_pipelines_are_traced_below_their_request(
    spans: tuple[Flask, InMemorySpanExporter], stream: bool, asynchronous: bool
):
    app, exporter = spans
    registry = app.extensions["flaskcompat"].registry
    pipeline = AsyncPipeline()
    pipeline.add_component("writer", type(registry["writer"].wrapper.pipeline.get_component("writer"))())

    class Asynchronous(BasePipelineWrapper):
        async def run_chat_completion_async(self, model: str, messages: Any, body: Any) -> Any:
            return async_streaming_generator(
                pipeline,
                pipeline_run_args={"text": get_last_user_message(messages)},
                allow_sync_streaming_callbacks=True,
            )

    if asynchronous:
        registry.add("writer", Asynchronous)
    body = {"model": "writer", "messages": [{"role": "user", "content": "hello"}], "stream": stream}
    asked = [app.test_client().post("/v1/chat/completions", json=body) for _ in range(2)]
    assert all("hello" in answer.text for answer in asked)
    for answer in asked:
        answer.close()
    done = exporter.get_finished_spans()
    requests = {span.context.span_id: span for span in done if span.kind is SpanKind.SERVER}
    runs = [span for span in done if span.name in ("haystack.pipeline.run", "haystack.async_pipeline.run")]
    parts = [span for span in done if span.name == "haystack.component.run"]
    # Each run is below its own request, and its components below it.
    assert len(requests) == len({span.parent.span_id for span in runs}) == 2
    assert all(span.parent.span_id in requests for span in runs)
    assert {span.parent.span_id for span in parts} == {span.context.span_id for span in runs}
