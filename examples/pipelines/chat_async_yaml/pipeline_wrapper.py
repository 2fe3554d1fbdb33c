"""A chat model from a pipeline in YAML, run on the event loop: many answers stream at the same time."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from flaskcompat import AsyncPipeline, BasePipelineWrapper, async_streaming_generator, get_last_user_message


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        pipeline_yaml = (Path(__file__).parent / "pipeline.yml").read_text(encoding="utf-8")
        self.pipeline = AsyncPipeline.loads(pipeline_yaml)

    async def run_chat_completion_async(
        self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        question = get_last_user_message(messages) or ""
        return async_streaming_generator(
            pipeline=self.pipeline,
            pipeline_run_args={"prompt_builder": {"query": question}},
        )
