"""Parameters of the request, with defaults of one's own, as the generator's ``generation_kwargs``."""

import json
from typing import Any

from haystack import component
from haystack.dataclasses import ChatMessage

from flaskcompat import (
    BasePipelineWrapper,
    Pipeline,
    chat_messages_from_openai_messages,
    generation_kwargs_from_body,
)


@component
class SettingsChatGenerator:
    """A chat generator that replies with the settings it was given."""

    @component.output_types(replies=list[ChatMessage])
    def run(
        self, messages: list[ChatMessage], generation_kwargs: dict[str, Any] | None = None
    ) -> dict[str, list[ChatMessage]]:
        return {"replies": [ChatMessage.from_assistant(json.dumps(generation_kwargs, sort_keys=True))]}


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        self.pipeline = Pipeline()
        self.pipeline.add_component("llm", SettingsChatGenerator())

    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> str:
        # Whatever the request says, by the names that generators know; before that, defaults.
        generation_kwargs = {"temperature": 0.7, "max_tokens": 150, "top_p": 1.0} | generation_kwargs_from_body(body)
        conversation = chat_messages_from_openai_messages(messages)
        result = self.pipeline.run({"llm": {"messages": conversation, "generation_kwargs": generation_kwargs}})
        return str(result["llm"]["replies"][0].text)
