"""An agent whose tool calls never reach the client, even where that has a tool of the same name."""

from collections.abc import AsyncGenerator
from typing import Annotated, Any

from haystack.components.agents import Agent
from haystack.tools import create_tool_from_function

from flaskcompat import BasePipelineWrapper, async_streaming_generator, chat_messages_from_openai_response
from flaskcompat.demos.generator import OfflineChatGenerator

from .._offline import use_tool

STOCK = {"bolts": 120, "nuts": 0}


def in_stock(article: Annotated[str, "The article's name"]) -> str:
    """Tell how many of an article are in stock."""
    return f"{STOCK.get(article, 0)} {article} in stock"


async def _strip_tool_calls(stream: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
    """Everything but calls; those of our own tools are hidden anyway, unless the client named the tool."""
    async for chunk in stream:
        if getattr(chunk, "tool_calls", None):
            continue
        yield chunk


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        self.pipeline = Agent(
            chat_generator=OfflineChatGenerator(use_tool),
            system_prompt="You know what is in stock.",
            tools=[create_tool_from_function(in_stock)],
        )
        self.pipeline.warm_up()

    async def run_response_async(
        self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        stream = async_streaming_generator(
            pipeline=self.pipeline,
            pipeline_run_args={"messages": chat_messages_from_openai_response(input_items)},
        )
        return _strip_tool_calls(stream)
