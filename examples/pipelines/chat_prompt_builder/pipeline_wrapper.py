"""A chat model with a prompt of its own around the question: one question, one whole answer."""

from typing import Any

from haystack.components.builders import ChatPromptBuilder
from haystack.dataclasses import ChatMessage

from flaskcompat import BasePipelineWrapper, Pipeline, get_last_user_message
from flaskcompat.demos.generator import OfflineChatGenerator

TEMPLATE = [
    ChatMessage.from_system("You are a helpful assistant."),
    ChatMessage.from_user("Answer in one sentence: {{ query }}"),
]


def reply(messages: list[ChatMessage], tools: list[Any]) -> ChatMessage:
    """What the model says without a model: the prompt it was given."""
    prompt = [f"[{message.role.value}] {message.text}" for message in messages]
    return ChatMessage.from_assistant(" ".join(prompt))


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        self.pipeline = Pipeline()
        prompt_builder = ChatPromptBuilder(TEMPLATE, required_variables=["query"])
        self.pipeline.add_component("prompt_builder", prompt_builder)
        self.pipeline.add_component("llm", OfflineChatGenerator(reply))
        self.pipeline.connect("prompt_builder.prompt", "llm.messages")

    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> str:
        question = get_last_user_message(messages) or ""
        result = self.pipeline.run({"prompt_builder": {"query": question}})
        return str(result["llm"]["replies"][0].text)
