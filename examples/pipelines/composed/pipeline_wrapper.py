"""A model that asks another model of the same server, with Haystack's OpenAI generator as its client."""

import os
from collections.abc import Generator
from typing import Any

from haystack.components.builders import ChatPromptBuilder
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.utils import Secret

from flaskcompat import BasePipelineWrapper, Pipeline, get_last_user_message, streaming_generator

TEMPLATE = [ChatMessage.from_user("{{ question }}, asked by another model")]


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        # This model holds a thread of the server while the one it asks needs another: a server with fewer
        # threads than twice the number of such requests can stand still.
        llm = OpenAIChatGenerator(
            model="chat_streaming",
            api_key=Secret.from_token("not-used"),
            api_base_url=os.environ.get("EXAMPLE_BASE_URL", "http://127.0.0.1:1416/v1"),
        )
        self.pipeline = Pipeline()
        prompt_builder = ChatPromptBuilder(TEMPLATE, required_variables=["question"])
        self.pipeline.add_component("prompt_builder", prompt_builder)
        self.pipeline.add_component("llm", llm)
        self.pipeline.connect("prompt_builder.prompt", "llm.messages")

    def run_chat_completion(
        self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]
    ) -> Generator[Any, None, None]:
        question = get_last_user_message(messages) or ""
        return streaming_generator(
            pipeline=self.pipeline,
            pipeline_run_args={"prompt_builder": {"question": question}},
        )
