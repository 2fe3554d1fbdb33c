"""The smallest model of the Responses API: one question, one whole answer."""

from typing import Any

from haystack.dataclasses import ChatMessage

from flaskcompat import BasePipelineWrapper, Pipeline, get_last_user_input_text
from flaskcompat.demos.generator import OfflineChatGenerator

from .._offline import say_back


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        self.pipeline = Pipeline()
        self.pipeline.add_component("llm", OfflineChatGenerator(say_back))

    def run_response(self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]) -> str:
        question = get_last_user_input_text(input_items) or ""
        result = self.pipeline.run({"llm": {"messages": [ChatMessage.from_user(question)]}})
        return str(result["llm"]["replies"][0].text)
