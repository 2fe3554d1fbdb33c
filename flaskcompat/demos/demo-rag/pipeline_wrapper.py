"""Answers from a few documents: keyword retrieval, a prompt, a chat generator, and the sources in the answer."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from haystack import Document, Pipeline
from haystack.components.builders import ChatPromptBuilder
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.dataclasses import ChatMessage
from haystack.document_stores.in_memory import InMemoryDocumentStore

from flaskcompat import (
    BasePipelineWrapper,
    citations,
    get_last_user_input_text,
    get_last_user_message,
    streaming_generator,
)
from flaskcompat.demos.generator import chat_generator

NOTHING_FOUND = "The documents say nothing about that."
PROMPT = f"""Answer the question from the passages alone, in a few sentences.
If they do not answer it, say: {NOTHING_FOUND}

Passages:
{{% for document in documents %}}
[{{{{ document.meta.title }}}}] {{{{ document.content }}}}
{{% endfor %}}
Question: {{{{ question }}}}
"""

_COMMON = frozenset(
    "a about an and any are as at be by can could do does for from get give has have how i if in is it its me my of on "
    "one or our should so some tell than that the their them then there these they this to use was we what when where "
    "which who why will with without would you your".split()
)


def passages_of(folder: Path) -> list[Document]:
    """Each paragraph of each Markdown file as a document, with the file's heading as its title."""
    found = []
    for path in sorted(folder.glob("*.md")):
        heading, *paragraphs = path.read_text(encoding="utf-8").strip().split("\n\n")
        meta = {"title": heading.lstrip("# "), "source": path.name}
        found += [Document(content=" ".join(text.split()), meta=meta) for text in paragraphs]
    return found


def keywords(text: str) -> set[str]:
    """Words that tell what a text is about, without plural endings."""
    return {word.rstrip("s") for word in re.findall(r"[a-z0-9]+", text.lower()) if word not in _COMMON}


def reply(messages: list[ChatMessage], tools: list[Any]) -> ChatMessage:
    """What the model says without a model: the passages that share most words with the question."""
    prompt = messages[-1].text or ""
    passages, _, question = prompt.partition("Passages:")[2].rpartition("Question:")
    asked = keywords(question)
    scored = [(len(asked & keywords(line)), line) for line in passages.splitlines() if line.startswith("[")]
    best = max((score for score, _ in scored), default=0)
    if best == 0 or best * 2 < len(asked):
        return ChatMessage.from_assistant(NOTHING_FOUND)
    chosen = [line.partition("] ")[2] for score, line in scored if score == best]
    return ChatMessage.from_assistant(" ".join(chosen[:2]))


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        store = InMemoryDocumentStore()
        store.write_documents(passages_of(Path(__file__).parent / "documents"))
        pipeline = Pipeline()
        pipeline.add_component("retriever", InMemoryBM25Retriever(store, top_k=4))
        template = [ChatMessage.from_user(PROMPT)]
        pipeline.add_component("prompt", ChatPromptBuilder(template, required_variables=["question", "documents"]))
        pipeline.add_component("llm", chat_generator(reply))
        pipeline.connect("retriever.documents", "prompt.documents")
        pipeline.connect("prompt.prompt", "llm.messages")
        self.pipeline = pipeline

    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Iterator[Any]:
        return self._answer(get_last_user_message(messages) or "")

    def run_response(self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]) -> Iterator[Any]:
        return self._answer(get_last_user_input_text(input_items) or "")

    def _answer(self, question: str) -> Iterator[Any]:
        if not question.strip():  # the retriever takes no empty query
            return iter([NOTHING_FOUND])
        return streaming_generator(
            self.pipeline,
            pipeline_run_args={"retriever": {"query": question}, "prompt": {"question": question}},
            include_outputs_from={"retriever"},
            on_pipeline_end=_sources,
        )


def _sources(result: dict[str, Any]) -> list[Any] | None:
    """The passages' files, as text for people and as citations for programs."""
    answer = result["llm"]["replies"][0].text or ""
    if NOTHING_FOUND in answer:
        return None
    said = keywords(answer)
    documents = [
        d for d in result["retriever"]["documents"] if len(said & keywords(d.content)) * 2 > len(keywords(d.content))
    ]
    if not documents:
        return None
    names = sorted({str(document.meta["source"]) for document in documents})
    return [f"\n\nSources: {', '.join(names)}", *citations(documents)]
