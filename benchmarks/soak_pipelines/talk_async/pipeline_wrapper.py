"""Words from an async generator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from flaskcompat import BasePipelineWrapper

from .._talk import Wish, chat_wish, response_wish


class PipelineWrapper(BasePipelineWrapper):
    async def run_chat_completion_async(
        self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]
    ) -> AsyncIterator[str]:
        return self._say(chat_wish(messages))

    async def run_response_async(
        self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]
    ) -> AsyncIterator[str]:
        return self._say(response_wish(input_items))

    async def _say(self, wish: Wish) -> AsyncIterator[str]:
        await asyncio.sleep(wish.before)
        for number in range(wish.words):
            yield wish.word(number)
            await asyncio.sleep(wish.delay)
