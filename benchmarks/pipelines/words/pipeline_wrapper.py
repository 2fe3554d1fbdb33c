"""Streams words from a synchronous pipeline."""

from typing import Any

from haystack import Pipeline
from streamer import Words, compat


class PipelineWrapper(compat.BasePipelineWrapper):
    def setup(self) -> None:
        self.pipeline = Pipeline()
        self.pipeline.add_component("words", Words())

    def _stream(self, text: str | None) -> Any:
        return compat.streaming_generator(pipeline=self.pipeline, pipeline_run_args={"words": {"text": text}})

    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        return self._stream(compat.get_last_user_message(messages))

    def run_response(self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        return self._stream(compat.get_last_user_input_text(input_items))
