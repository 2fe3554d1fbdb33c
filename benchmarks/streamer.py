"""What the measured models share; they run under flaskcompat and, to compare, under Hayhooks."""

import asyncio
import importlib
import os
import time
from typing import Any

from haystack import component
from haystack.dataclasses import ChatMessage, StreamingChunk
from wish import wish

compat: Any = importlib.import_module(os.environ.get("BENCHMARK_API", "flaskcompat"))


def _chunk(word: str, number: int, count: int) -> StreamingChunk:
    return StreamingChunk(word, index=0, start=number == 0, finish_reason="stop" if number == count - 1 else None)


def _replies(words: list[str]) -> dict[str, Any]:
    usage = {"prompt_tokens": 1, "completion_tokens": len(words), "total_tokens": 1 + len(words)}
    meta = {"model": "words", "finish_reason": "stop", "usage": usage}
    return {"replies": [ChatMessage.from_assistant("".join(words), meta=meta)]}


@component
class Words:
    """Streams words as a chat generator does."""

    @component.output_types(replies=list[ChatMessage])
    def run(self, text: str, streaming_callback: Any = None) -> dict[str, Any]:
        words, delay = wish(text)
        for number, word in enumerate(words):
            if delay:
                time.sleep(delay)
            streaming_callback(_chunk(word, number, len(words)))
        return _replies(words)

    @component.output_types(replies=list[ChatMessage])
    async def run_async(self, text: str, streaming_callback: Any = None) -> dict[str, Any]:
        words, delay = wish(text)
        for number, word in enumerate(words):
            if delay:
                await asyncio.sleep(delay)
            await streaming_callback(_chunk(word, number, len(words)))
        return _replies(words)
