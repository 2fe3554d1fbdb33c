"""What both models do: say the words that they are asked for, and fail where they are told to."""

from __future__ import annotations

import json
from typing import Any

from flaskcompat import get_last_user_input_text, get_last_user_message


class Wish:
    """What a request asks for, as JSON in its text."""

    def __init__(self, text: str | None) -> None:
        wish: dict[str, Any] = json.loads(text or "{}")
        self.mark: str = wish.get("mark", "w")
        self.words: int = wish.get("words", 10)
        self.delay: float = wish.get("delay", 0.01)
        self.before: float = wish.get("before", 0.0)
        self.fails_at: int | None = wish.get("fails_at")

    def word(self, number: int) -> str:
        if number == self.fails_at:
            raise ValueError("as it was told to")
        return f"{self.mark}-{number} "


def chat_wish(messages: list[dict[str, Any]]) -> Wish:
    return Wish(get_last_user_message(messages))


def response_wish(items: list[dict[str, Any]]) -> Wish:
    return Wish(get_last_user_input_text(items))
