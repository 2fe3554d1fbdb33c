"""What the hosts serve."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flaskcompat import BasePipelineWrapper


class Greeter(BasePipelineWrapper):
    """Greets the user who has logged in to the host."""

    def run_chat_completion(self, model: str, messages: Any, body: Any, principal: str) -> Iterator[str]:
        yield "Hello "
        yield principal

    async def run_response_async(self, model: str, input_items: Any, body: Any, principal: str) -> Any:
        yield "Hello "
        yield principal
