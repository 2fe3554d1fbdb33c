"""Answers from a folder of files and from the files of a request, with citations; both APIs."""

import os
import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

from haystack import Document, Pipeline
from haystack.components.builders import ChatPromptBuilder
from haystack.components.joiners import DocumentJoiner
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.dataclasses import ChatMessage
from haystack.document_stores.in_memory import InMemoryDocumentStore

from flaskcompat import (
    BasePipelineWrapper,
    citations,
    get_file,
    get_last_user_input_text,
    get_last_user_message,
    streaming_generator,
)
from flaskcompat.demos.generator import chat_generator

FOLDER = Path(__file__).parents[2] / "documents"
NOTHING = "The documents say nothing about that."
PROMPT = """Answer from these passages alone:
{% for document in documents %}
- {{ document.content }}
{% endfor %}
Question: {{ question }}"""


def passages(text: str, **meta: Any) -> list[Document]:
    """The paragraphs of a text as documents; for other kinds of files, put Haystack's converters here."""
    parts = [" ".join(part.split()) for part in text.split("\n\n")]
    return [Document(content=part, meta=meta) for part in parts if part and not part.startswith("#")]


def words(text: str) -> set[str]:
    return {word.rstrip("s") for word in re.findall(r"\w{3,}", text.lower())}


def reply(messages: list[ChatMessage], tools: list[Any]) -> ChatMessage:
    """What the model says without a model: the passage that shares most words with the question."""
    prompt, _, question = (messages[-1].text or "").rpartition("Question:")
    lines = [line.removeprefix("- ") for line in prompt.splitlines() if line.startswith("- ")]
    best = max(lines, key=lambda line: len(words(question) & words(line)), default="")
    return ChatMessage.from_assistant(best if words(question) & words(best) else NOTHING)


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        store = InMemoryDocumentStore()
        for path in sorted(Path(os.environ.get("EXAMPLE_DOCUMENTS") or FOLDER).glob("*.md")):
            text = path.read_text(encoding="utf-8")
            store.write_documents(passages(text, title=path.stem, url=path.name))
        self.pipeline = Pipeline()
        self.pipeline.add_component("retriever", InMemoryBM25Retriever(store, top_k=3))
        self.pipeline.add_component("joiner", DocumentJoiner())
        prompt = ChatPromptBuilder([ChatMessage.from_user(PROMPT)], required_variables=["documents", "question"])
        self.pipeline.add_component("prompt", prompt)
        self.pipeline.add_component("llm", chat_generator(reply))
        self.pipeline.connect("retriever.documents", "joiner.documents")
        self.pipeline.connect("joiner.documents", "prompt.documents")
        self.pipeline.connect("prompt.prompt", "llm.messages")

    def run_chat_completion(
        self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]
    ) -> Generator[Any, None, None]:
        return self._answer(get_last_user_message(messages) or "", messages)

    def run_response(
        self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]
    ) -> Generator[Any, None, None]:
        return self._answer(get_last_user_input_text(input_items) or "", input_items)

    def _answer(self, question: str, messages: list[dict[str, Any]]) -> Generator[Any, None, None]:
        given = [passage for file_id in file_ids(messages) for passage in passages_of(file_id)]

        def sources(result: dict[str, Any]) -> list[Any]:
            said = words(result["llm"]["replies"][0].text or "")
            read = result["joiner"]["documents"]
            return [*citations(d for d in read if len(words(d.content) & said) * 2 > len(words(d.content)))]

        return streaming_generator(
            self.pipeline,
            pipeline_run_args={
                "retriever": {"query": question or " "},
                "joiner": {"documents": given},
                "prompt": {"question": question},
            },
            include_outputs_from={"joiner"},
            on_pipeline_end=sources,
        )


def file_ids(messages: list[dict[str, Any]]) -> list[str]:
    """The uploaded files that a request names; the two APIs write them differently."""
    parts = [part for message in messages for part in message.get("content") or () if isinstance(part, dict)]
    found = [part.get("file_id") or (part.get("file") or {}).get("file_id") for part in parts]
    return [file_id for file_id in found if file_id]


def passages_of(file_id: str) -> list[Document]:
    """An upload of whoever asks; of anybody else's, the client is told that there is none."""
    file = get_file(file_id)
    return passages(file.text(), title=file.filename, url=f"/v1/files/{file_id}/content")
