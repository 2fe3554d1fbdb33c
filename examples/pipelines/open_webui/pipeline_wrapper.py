"""An agent for Open WebUI: status lines, tool results to unfold, notices, reasoning, background tasks."""

import json
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from haystack.components.agents import Agent
from haystack.dataclasses import ChatMessage
from haystack.tools import create_tool_from_function

from flaskcompat import (
    BasePipelineWrapper,
    PipelineEvent,
    async_streaming_generator,
    chat_messages_from_openai_messages,
    default_on_tool_call_end,
    default_on_tool_call_start,
)
from flaskcompat.open_webui import background_task, create_status_event

from .._offline import ReasoningChatGenerator, use_tool

HOURS = {"Berlin": "9 to 18", "Lisbon": "10 to 19"}


def opening_hours(city: Annotated[str, "The city of the shop"]) -> str:
    """Tell when the shop in a city is open."""
    return f"the shop in {city} is open from {HOURS[city]}"


def think(messages: list[ChatMessage]) -> str:
    return "The tool has told me.\n" if messages[-1].tool_call_result else "I need the opening hours.\n"


def done(result: Any) -> list[PipelineEvent | str]:
    return [create_status_event("Done", done=True)]


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        self.pipeline = Agent(
            chat_generator=ReasoningChatGenerator(think, use_tool),
            system_prompt="You know when our shops are open.",
            tools=[create_tool_from_function(opening_hours)],
        )
        self.pipeline.warm_up()

    async def run_chat_completion_async(
        self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]
    ) -> str | AsyncGenerator[Any, None]:
        if background_task(body):  # a title, tags, follow-ups: the agent need not run for them
            return json.dumps({"title": "Opening hours", "tags": ["shop"], "follow_ups": []})
        return self._stream(chat_messages_from_openai_messages(messages))

    async def _stream(self, messages: list[ChatMessage]) -> AsyncGenerator[Any, None]:
        yield create_status_event("Working...")
        stream = async_streaming_generator(
            pipeline=self.pipeline,
            pipeline_run_args={"messages": messages},
            on_tool_call_start=default_on_tool_call_start,
            on_tool_call_end=default_on_tool_call_end,
            on_pipeline_end=done,
        )
        try:
            async for item in stream:
                yield item
        finally:
            # The client may leave in the middle; the agent then stops, too.
            await stream.aclose()
