"""A wrapper that looks at everything that a request may hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flaskcompat import (
    BasePipelineWrapper,
    chat_messages_from_openai_messages,
    chat_messages_from_openai_response,
    get_input_files,
    get_last_user_input_text,
    get_last_user_message,
)


class Curious(BasePipelineWrapper):
    def run_chat_completion(self, model: str, messages: Any, body: Any) -> Iterator[str]:
        get_last_user_message(messages)
        yield f"{len(chat_messages_from_openai_messages(messages))} messages"

    def run_response(self, model: str, input_items: Any, body: Any) -> str:
        get_last_user_input_text(input_items)
        get_input_files(input_items)
        return f"{len(chat_messages_from_openai_response(input_items))} messages"

    def run_file_upload(self, filename: Any, content_type: Any, content: bytes, purpose: str) -> dict[str, Any]:
        return {"id": "file-1"}
