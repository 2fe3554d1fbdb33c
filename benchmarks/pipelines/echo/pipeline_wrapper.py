"""Answers with the text it was given: what a request costs without a model."""

from typing import Any

from flaskcompat import BasePipelineWrapper, get_last_user_message


class PipelineWrapper(BasePipelineWrapper):
    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> str:
        return get_last_user_message(messages) or ""
