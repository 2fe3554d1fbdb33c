"""Says back what was said, line by line; the smallest wrapper there is that counts tokens."""

from collections.abc import Iterator
from typing import Any

from haystack.dataclasses import StreamingChunk

from flaskcompat import BasePipelineWrapper, get_last_user_input_text, get_last_user_message


class PipelineWrapper(BasePipelineWrapper):
    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Iterator[Any]:
        yield from _echo(get_last_user_message(messages) or "")

    def run_response(self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]) -> Iterator[Any]:
        yield from _echo(get_last_user_input_text(input_items) or "")


def _echo(text: str) -> Iterator[Any]:
    yield from text.splitlines(keepends=True)
    # A model reports its token counts in its last chunk. Words stand for tokens here.
    words = len(text.split())
    yield StreamingChunk("", meta={"usage": {"prompt_tokens": words, "completion_tokens": words}})
