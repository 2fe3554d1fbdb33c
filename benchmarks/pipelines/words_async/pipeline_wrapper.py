"""Streams words from an async pipeline."""

from typing import Any

from flaskcompat import AsyncPipeline, BasePipelineWrapper, async_streaming_generator, get_last_user_message

from .._words import Words


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        self.pipeline = AsyncPipeline()
        self.pipeline.add_component("words", Words())

    async def run_chat_completion_async(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        return async_streaming_generator(self.pipeline, pipeline_run_args={"text": get_last_user_message(messages)})
