"""Words from a generator."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from flaskcompat import BasePipelineWrapper

from .._talk import Wish, chat_wish, response_wish


class PipelineWrapper(BasePipelineWrapper):
    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Iterator[str]:
        return self._say(chat_wish(messages))

    def run_response(self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]) -> Iterator[str]:
        return self._say(response_wish(input_items))

    def _say(self, wish: Wish) -> Iterator[str]:
        time.sleep(wish.before)
        for number in range(wish.words):
            yield wish.word(number)
            time.sleep(wish.delay)
