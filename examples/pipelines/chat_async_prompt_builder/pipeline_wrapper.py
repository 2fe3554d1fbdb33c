"""A chat model with a prompt of its own around the question, streamed from the event loop."""

from collections.abc import AsyncGenerator
from typing import Any

from haystack.components.builders import ChatPromptBuilder
from haystack.dataclasses import ChatMessage

from flaskcompat import AsyncPipeline, BasePipelineWrapper, async_streaming_generator, get_last_user_message
from flaskcompat.demos.generator import OfflineChatGenerator

TEMPLATE = [
    ChatMessage.from_system("You answer in {{ language }}."),
    ChatMessage.from_user("{{ query }}"),
]


def reply(messages: list[ChatMessage], tools: list[Any]) -> ChatMessage:
    """What the model says without a model: the prompt it was given."""
    prompt = [f"[{message.role.value}] {message.text}" for message in messages]
    return ChatMessage.from_assistant(" ".join(prompt))


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        self.pipeline = AsyncPipeline()
        prompt_builder = ChatPromptBuilder(TEMPLATE, required_variables=["language", "query"])
        self.pipeline.add_component("prompt_builder", prompt_builder)
        self.pipeline.add_component("llm", OfflineChatGenerator(reply))
        self.pipeline.connect("prompt_builder.prompt", "llm.messages")

    async def run_chat_completion_async(
        self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        question = get_last_user_message(messages) or ""
        language = str(body.get("language", "English"))  # no field of OpenAI's; `body` has all that was sent
        return async_streaming_generator(
            pipeline=self.pipeline,
            pipeline_run_args={"prompt_builder": {"query": question, "language": language}},
        )
