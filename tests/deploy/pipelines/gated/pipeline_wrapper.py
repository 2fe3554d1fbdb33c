"""A model that says what a test lets it, word by word, over a connection that it makes to the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from flaskcompat import BasePipelineWrapper, get_last_user_input_text, get_last_user_message


async def words(address: str | None) -> AsyncIterator[str]:
    """The lines that come from *address*, host:port; the connection ends with the run."""
    host, _, port = (address or "").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        while line := await reader.readline():
            yield line.decode().removesuffix("\n")
    finally:
        writer.close()


class PipelineWrapper(BasePipelineWrapper):
    def run_chat_completion_async(self, model: str, messages: Any, body: Any) -> AsyncIterator[str]:
        return words(get_last_user_message(messages))

    def run_response_async(self, model: str, input_items: Any, body: Any) -> AsyncIterator[str]:
        return words(get_last_user_input_text(input_items))
