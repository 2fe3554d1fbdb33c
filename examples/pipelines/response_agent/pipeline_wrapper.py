"""An agent on the Responses API: it runs its tool here, and the client sees the answer alone."""

from collections.abc import Generator
from typing import Annotated, Any

from haystack.components.agents import Agent
from haystack.tools import create_tool_from_function

from flaskcompat import BasePipelineWrapper, chat_messages_from_openai_response, streaming_generator
from flaskcompat.demos.generator import OfflineChatGenerator

from .._offline import use_tool

ORDERS = {"1042": "packed, leaves on Monday", "1043": "delivered"}


def order_status(order_id: Annotated[str, "The order's number"]) -> str:
    """Tell how far an order has come."""
    return f"order {order_id} is {ORDERS.get(order_id, 'unknown')}"


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        self.pipeline = Agent(
            chat_generator=OfflineChatGenerator(use_tool),
            system_prompt="You tell customers where their orders are.",
            tools=[create_tool_from_function(order_status)],
        )
        self.pipeline.warm_up()

    def run_response(
        self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]
    ) -> Generator[Any, None, None]:
        return streaming_generator(
            pipeline=self.pipeline,
            pipeline_run_args={"messages": chat_messages_from_openai_response(input_items)},
        )
