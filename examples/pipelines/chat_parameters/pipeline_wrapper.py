"""Parameters of the request, with defaults of one's own, as the generator's ``generation_kwargs``."""

import json
from typing import Any

from haystack import component
from haystack.dataclasses import ChatMessage

from flaskcompat import BasePipelineWrapper, Pipeline, chat_messages_from_openai_messages


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
        generation_kwargs = {
            "temperature": body.get("temperature", 0.7),
            "max_tokens": body.get("max_tokens", 150),
            "top_p": body.get("top_p", 1.0),
        }
        if stop := body.get("stop"):
            generation_kwargs["stop"] = stop
        conversation = chat_messages_from_openai_messages(messages)
        result = self.pipeline.run({"llm": {"messages": conversation, "generation_kwargs": generation_kwargs}})
        return str(result["llm"]["replies"][0].text)
