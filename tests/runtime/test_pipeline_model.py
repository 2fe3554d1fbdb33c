"""Pipelines and agents that are models without a wrapper."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from haystack import Document, Pipeline, component
from haystack.components.agents import Agent
from haystack.components.builders import ChatPromptBuilder, PromptBuilder
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.dataclasses import ChatMessage, StreamingChunk
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.tools import Tool

from flaskcompat import Registry
from flaskcompat.demos.generator import OfflineChatGenerator
from flaskcompat.errors import PipelineLoadError
from flaskcompat.runtime.loader import load_folder

from ..support import chat_body, events_of, make_app, response_body


@component
class Telling:
    """A generator that tells what it was given."""

    @component.output_types(replies=list[ChatMessage])
    def run(
        self,
        messages: list[ChatMessage],
        streaming_callback: Any = None,
        generation_kwargs: dict[str, Any] | None = None,
        tools: Any = None,
    ) -> dict[str, Any]:
        said = {"last": messages[-1].text, "count": len(messages), "kwargs": generation_kwargs}
        text = json.dumps(said | {"tools": [tool.name for tool in tools or ()]})
        if streaming_callback is not None:
            streaming_callback(StreamingChunk(text))
        return {"replies": [ChatMessage.from_assistant(text)]}


def last(messages: list[ChatMessage], tools: Any) -> ChatMessage:
    return ChatMessage.from_assistant(f"{len(messages)}: {messages[-1].text}")


def chain(*parts: tuple[str, Any], connections: tuple[tuple[str, str], ...] = ()) -> Pipeline:
    pipeline = Pipeline()
    for name, part in parts:
        pipeline.add_component(name, part)
    for sender, receiver in connections:
        pipeline.connect(sender, receiver)
    return pipeline


def retriever() -> InMemoryBM25Retriever:
    store = InMemoryDocumentStore()
    store.write_documents([Document(content="Bees hum.", meta={"url": "https://x/bees", "title": "Bees"})])
    return InMemoryBM25Retriever(store)


def prompt(text: str) -> ChatPromptBuilder:
    return ChatPromptBuilder([ChatMessage.from_user(text)], required_variables="*")


def rag(variable: str) -> Pipeline:
    return chain(
        ("retriever", retriever()),
        ("prompt", prompt(f"{{{{ documents[0].content }}}} {{{{ {variable} }}}}")),
        ("llm", OfflineChatGenerator(last)),
        connections=(("retriever.documents", "prompt.documents"), ("prompt.prompt", "llm.messages")),
    )


def only_retrieval() -> Pipeline:
    return chain(
        ("retriever", retriever()),
        ("prompt", prompt("{{ documents[0].content }}")),
        ("llm", OfflineChatGenerator(last)),
        connections=(("retriever.documents", "prompt.documents"), ("prompt.prompt", "llm.messages")),
    )


def two_generators(second: Any) -> Pipeline:
    return chain(
        ("first", OfflineChatGenerator(last)),
        ("prompt", prompt("again {{ replies[0].text }}")),
        ("second", second),
        connections=(("first.replies", "prompt.replies"), ("prompt.prompt", "second.messages")),
    )


def about() -> Pipeline:
    return chain(
        ("prompt", prompt("About {{ topic }}")),
        ("llm", OfflineChatGenerator(last)),
        connections=(("prompt.prompt", "llm.messages"),),
    )


PIPELINES: dict[str, tuple[Any, str]] = {
    "chat": (chain(("llm", OfflineChatGenerator(last))), "2: bees"),
    "rag with two inputs": (rag("question"), "1: Bees hum. bees"),
    "rag with one input": (only_retrieval(), "1: Bees hum."),
    "two generators": (two_generators(OfflineChatGenerator(last)), "1: again 2: bees"),
    "agent": (Agent(chat_generator=OfflineChatGenerator(last)), "2: bees"),
    "no generator": (chain(("prompt", PromptBuilder("You asked: {{ question }}"))), "You asked: bees"),
    "retriever": (chain(("retriever", retriever())), "Bees hum."),
    "one input of any name": (about(), "1: About bees"),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_both_surfaces_whole_and_streamed(name: str) -> None:
    pipeline, expected = PIPELINES[name]
    app = make_app()
    app.extensions["flaskcompat"].registry.add("m", pipeline)
    client = app.test_client()
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "bees"}]
    chat = {"model": "m", "messages": said}
    answer = client.post("/v1/chat/completions", json=chat).json["choices"][0]["message"]["content"]
    chunks = events_of(client.post("/v1/chat/completions", json={**chat, "stream": True}).text)
    streamed = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks)
    response = client.post("/v1/responses", json={"model": "m", "input": said}).json["output"][0]["content"][0]
    assert answer == streamed == response["text"] == expected
    if name in ("rag with two inputs", "rag with one input", "retriever"):
        assert [a["url"] for a in response["annotations"]] == ["https://x/bees"]


def test_generator_gets_what_the_request_asks_and_the_client_s_tools() -> None:
    app = make_app()
    registry = app.extensions["flaskcompat"].registry
    registry.add("chat", chain(("llm", Telling())))
    registry.add("two", two_generators(Telling()))
    tool = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
    asked = {"temperature": 0.5, "max_output_tokens": 9, "tools": [tool], "tool_choice": "required"}
    for model in ("chat", "two"):
        body = response_body(model, **asked)
        told = json.loads(app.test_client().post("/v1/responses", json=body).json["output"][0]["content"][0]["text"])
        assert told["kwargs"] == {"temperature": 0.5, "max_completion_tokens": 9, "tool_choice": "required"}
        assert told["tools"] == ["weather"]
    body = chat_body("chat", tool_choice="auto")
    told = json.loads(
        app.test_client().post("/v1/chat/completions", json=body).json["choices"][0]["message"]["content"]
    )
    assert (told["kwargs"], told["tools"]) == ({}, [])


def test_agent_passes_on_what_the_request_asks_and_keeps_its_own_tools() -> None:
    app = make_app()
    registry = app.extensions["flaskcompat"].registry
    own = Tool("own", "Its own.", {"type": "object", "properties": {}}, lambda: "done")
    registry.add("agent", Agent(chat_generator=Telling(), tools=[own]))
    registry.add("inside", chain(("agent", Agent(chat_generator=Telling(), tools=[own]))))
    registry.add("plain", Agent(chat_generator=OfflineChatGenerator(last)))  # takes no parameters
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    asked = chat_body(temperature=0.5, max_tokens=9, tools=[tool], tool_choice="required")
    for model in ("agent", "inside"):
        answer = app.test_client().post("/v1/chat/completions", json={**asked, "model": model}).json
        told = json.loads(answer["choices"][0]["message"]["content"])
        assert told["kwargs"] == {"temperature": 0.5, "max_tokens": 9} and told["tools"] == ["own"]
    answer = app.test_client().post("/v1/chat/completions", json={**asked, "model": "plain"}).json
    assert answer["choices"][0]["message"]["content"] == "1: hi"


def test_unclear_inputs_are_refused_with_the_mapping_to_write() -> None:
    registry = Registry()
    with pytest.raises(PipelineLoadError, match=r"prompt.topic.*\['retriever.query', 'prompt.topic'\]"):
        registry.add("m", rag("topic"))
    registry.add("m", rag("topic"), inputs={"question": ["retriever.query", "prompt.topic"]})
    with pytest.raises(PipelineLoadError, match=r"no open input prompt.subject; there are .*prompt.topic"):
        registry.add("m", rag("topic"), inputs={"question": ["prompt.subject"]})
    with pytest.raises(PipelineLoadError, match="prompt.topic"):
        registry.add("m", rag("topic"), inputs={"question": "retriever.query"})
    for wrong in ({"topic": "prompt.topic"}, ["prompt.topic"]):
        with pytest.raises(PipelineLoadError, match="inputs: must map"):
            registry.add("m", rag("topic"), inputs=wrong)  # type: ignore[arg-type]
    with pytest.raises(PipelineLoadError, match="no input"):
        registry.add("m", Pipeline())
    with pytest.raises(PipelineLoadError, match="not derived"):
        registry.add("m", object())  # type: ignore[arg-type]


YAML = """
components:
  retriever:
    type: haystack.components.retrievers.in_memory.bm25_retriever.InMemoryBM25Retriever
    init_parameters:
      document_store:
        type: haystack.document_stores.in_memory.document_store.InMemoryDocumentStore
        init_parameters: {}
  prompt:
    type: haystack.components.builders.prompt_builder.PromptBuilder
    init_parameters: {template: "{{ documents | length }} about {{ topic }}", required_variables: "*"}
connections:
  - {sender: retriever.documents, receiver: prompt.documents}
"""


def test_yaml_alone_in_a_folder(tmp_path: Path) -> None:
    texts = {
        "declared/pipeline.yml": YAML + "inputs:\n  question: [retriever.query, prompt.topic]\n",
        "unclear/pipeline.yaml": YAML,
        "none/pipeline.yml": "just: text",
        "forbidden/pipeline.yml": "components: {a: {type: os.system, init_parameters: {}}}\nconnections: []",
        "_hidden/pipeline.yml": YAML,
        "other/notes.yml": YAML,
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text, encoding="utf-8")
    registry = Registry()
    load_folder(tmp_path, registry)
    assert [model.name for model in registry] == ["declared"]
    assert registry.failed.keys() == {"unclear", "none", "forbidden"}
    assert "declare inputs" in registry.failed["unclear"] and "no pipeline" in registry.failed["none"]
    app = make_app(m=registry["declared"].wrapper)
    answer = app.test_client().post("/v1/chat/completions", json=chat_body()).json
    assert answer["choices"][0]["message"]["content"] == "0 about hi"
    app.extensions["flaskcompat"].registry.add("again", tmp_path / "declared" / "pipeline.yml")


def test_wrapper_comes_before_the_pipeline_beside_it(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "pipeline.yml").write_text("broken: [")
    text = "import flaskcompat\nclass PipelineWrapper(flaskcompat.BasePipelineWrapper):\n"
    text += "    def run_response(self, model, input_items, body): return 'mine'\n"
    (tmp_path / "m" / "pipeline_wrapper.py").write_text(text)
    registry = Registry()
    load_folder(tmp_path, registry)
    assert registry["m"].surfaces == ("responses",)
