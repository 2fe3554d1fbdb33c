"""Says back what was said; the smallest wrapper there is."""

from collections.abc import Iterator
from typing import Any

from flaskcompat import BasePipelineWrapper, get_last_user_input_text, get_last_user_message


class PipelineWrapper(BasePipelineWrapper):
    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Iterator[str]:
        yield from _words(get_last_user_message(messages))

    def run_response(self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]) -> Iterator[str]:
        yield from _words(get_last_user_input_text(input_items))


def _words(text: str | None) -> list[str]:
    return (text or "").splitlines(keepends=True)
