"""Streams words from a synchronous pipeline."""

from typing import Any

from haystack import Pipeline

from flaskcompat import BasePipelineWrapper, get_last_user_message, streaming_generator

from .._words import Words


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        self.pipeline = Pipeline()
        self.pipeline.add_component("words", Words())

    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        return streaming_generator(self.pipeline, pipeline_run_args={"text": get_last_user_message(messages)})
