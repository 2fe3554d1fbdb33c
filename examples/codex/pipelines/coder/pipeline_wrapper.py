"""A model for coding agents: it calls the tools that they bring, and they run them."""

import re
from collections.abc import Generator
from typing import Any

from haystack.dataclasses import ChatMessage, ToolCall

from flaskcompat import (
    BasePipelineWrapper,
    Pipeline,
    chat_messages_from_openai_response,
    generation_kwargs_from_body,
    streaming_generator,
    tools_from_body,
)
from flaskcompat.demos.generator import chat_generator


def reply(messages: list[ChatMessage], tools: list[Any]) -> ChatMessage:
    """What the model says without a model: calls of the shell for what stands in backquotes, then what they printed."""
    asked = max(index for index, message in enumerate(messages) if message.is_from("user"))
    commands = re.findall(r"`([^`]+)`", messages[asked].text or "")
    results = [str(result.result) for message in messages[asked:] for result in message.tool_call_results]
    shell = next((tool for tool in tools if {"cmd", "command"} & tool.parameters.get("properties", {}).keys()), None)
    if shell is None or len(results) >= len(commands):
        return ChatMessage.from_assistant("\n".join(results) or "Put a command in backquotes, and I have it run.")
    [name] = {"cmd", "command"} & shell.parameters["properties"].keys()
    call = ToolCall(shell.name, {name: commands[len(results)]}, id=f"call_{len(messages)}")
    return ChatMessage.from_assistant(tool_calls=[call])


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        self.pipeline = Pipeline()
        self.pipeline.add_component("llm", chat_generator(reply))

    def run_response(
        self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]
    ) -> Generator[Any, None, None]:
        run = {
            "messages": chat_messages_from_openai_response(input_items, instructions=body.get("instructions")),
            "generation_kwargs": generation_kwargs_from_body(body, tools=False),
            "tools": tools_from_body(body),
        }
        return streaming_generator(self.pipeline, pipeline_run_args={"llm": run})
