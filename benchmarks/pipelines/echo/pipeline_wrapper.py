"""Answers with the text it was given: what a request costs without a model."""

from typing import Any

from streamer import compat


class PipelineWrapper(compat.BasePipelineWrapper):
    def setup(self) -> None:
        self.pipeline = None

    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> str:
        return compat.get_last_user_message(messages) or ""

    def run_response(self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]) -> str:
        return compat.get_last_user_input_text(input_items) or ""
