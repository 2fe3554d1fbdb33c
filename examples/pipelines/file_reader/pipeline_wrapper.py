"""Answers from files that were uploaded before and are named by id in the request."""

import re
from collections.abc import Generator
from typing import Any

from haystack import Document
from haystack.components.builders import ChatPromptBuilder
from haystack.dataclasses import ChatMessage

from flaskcompat import (
    BasePipelineWrapper,
    Pipeline,
    get_input_files,
    get_last_user_input_text,
    streaming_generator,
)
from flaskcompat.demos.generator import OfflineChatGenerator

from .._files import files

TEMPLATE = [
    ChatMessage.from_user(
        "{% for document in documents %}{{ document.content }}\n{% endfor %}\nAnswer from these files: {{ question }}"
    )
]


def reply(messages: list[ChatMessage], tools: list[Any]) -> ChatMessage:
    """What the model says without a model: the line of the files that shares most words with the question."""
    text, _, question = (messages[-1].text or "").rpartition("Answer from these files:")
    asked = _words(question)
    best = max(text.splitlines(), key=lambda line: len(asked & _words(line)), default="")
    return ChatMessage.from_assistant(best if asked & _words(best) else "The files say nothing about that.")


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        self.pipeline = Pipeline()
        prompt_builder = ChatPromptBuilder(TEMPLATE, required_variables=["documents", "question"])
        self.pipeline.add_component("prompt_builder", prompt_builder)
        self.pipeline.add_component("llm", OfflineChatGenerator(reply))
        self.pipeline.connect("prompt_builder.prompt", "llm.messages")

    def run_response(
        self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]
    ) -> Generator[Any, None, None]:
        documents = [_document(part["file_id"]) for part in get_input_files(input_items)]
        question = get_last_user_input_text(input_items) or ""
        return streaming_generator(
            pipeline=self.pipeline,
            pipeline_run_args={"prompt_builder": {"documents": documents, "question": question}},
        )


def _document(file_id: object) -> Document:
    """A text file as a document; for other kinds, put one of Haystack's converters here."""
    return Document(content=files.read(file_id).decode("utf-8", errors="replace"))
