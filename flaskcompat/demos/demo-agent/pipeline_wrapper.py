"""An agent that calculates: it calls a tool of its own, and the client sees the answer."""

import ast
import operator
from collections.abc import AsyncGenerator, Callable
from typing import Annotated, Any

from haystack.components.agents import Agent
from haystack.dataclasses import ChatMessage, ToolCall
from haystack.tools.from_function import create_tool_from_function

from flaskcompat import (
    BasePipelineWrapper,
    PipelineEvent,
    async_streaming_generator,
    chat_messages_from_openai_messages,
    chat_messages_from_openai_response,
    default_on_tool_call_start,
)
from flaskcompat.demos.arithmetic import expression_in
from flaskcompat.demos.generator import chat_generator
from flaskcompat.open_webui import create_status_event

_OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def calculate(expression: Annotated[str, "An arithmetic expression such as (2 + 3) * 4"]) -> str:
    """Calculate an arithmetic expression with + - * / % ** and parentheses."""
    try:
        return f"{_value(ast.parse(expression, mode='eval').body):.12g}"
    except ZeroDivisionError:
        return "undefined: a division by zero"
    except OverflowError:
        return "too large a number"


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float()):
            return float(node.value)  # type: ignore[arg-type]
        case ast.BinOp() if type(node.op) in _OPERATORS:
            return float(_OPERATORS[type(node.op)](_value(node.left), _value(node.right)))
        case ast.UnaryOp() if type(node.op) in _OPERATORS:
            return float(_OPERATORS[type(node.op)](_value(node.operand)))
    raise ValueError("not an arithmetic expression")


def reply(messages: list[ChatMessage], tools: list[Any]) -> ChatMessage:
    """What the agent's model says without a model: calls the tool on what looks like arithmetic."""
    last = messages[-1]
    if last.tool_call_result is not None:
        expression = last.tool_call_result.origin.arguments["expression"]
        if last.tool_call_result.error:
            return ChatMessage.from_assistant(f"I could not calculate {expression}.")
        return ChatMessage.from_assistant(f"{expression} is {last.tool_call_result.result}.")
    if tools and (expression := expression_in(last.text or "")):
        call = ToolCall("calculate", {"expression": expression}, id=f"call_{len(messages)}")
        return ChatMessage.from_assistant(tool_calls=[call])
    return ChatMessage.from_assistant("I calculate. Ask me something like: what is (2 + 3) * 4?")


def show_that_it_ended(name: str, arguments: dict[str, Any], result: str, error: bool) -> PipelineEvent:
    """The end of the status line; ``default_on_tool_call_end`` would put the result into the text, too."""
    return create_status_event(f"Called '{name}' tool", done=True)


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        self.pipeline = Agent(
            chat_generator=chat_generator(reply),
            system_prompt="You calculate. Use the tool for every calculation, then answer in one short sentence.",
            tools=[create_tool_from_function(calculate)],
        )
        self.pipeline.warm_up()

    async def run_chat_completion_async(
        self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        return self._stream(chat_messages_from_openai_messages(messages))

    async def run_response_async(
        self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        return self._stream(chat_messages_from_openai_response(input_items))

    def _stream(self, messages: list[ChatMessage]) -> AsyncGenerator[Any, None]:
        return async_streaming_generator(
            self.pipeline,
            pipeline_run_args={"messages": messages},
            on_tool_call_start=default_on_tool_call_start,
            on_tool_call_end=show_that_it_ended,
        )
