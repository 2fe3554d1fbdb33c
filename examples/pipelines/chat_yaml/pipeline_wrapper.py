"""A chat model from a pipeline in YAML: one question, one whole answer."""

from pathlib import Path
from typing import Any

from flaskcompat import BasePipelineWrapper, Pipeline, get_last_user_message, log


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        pipeline_yaml = (Path(__file__).parent / "pipeline.yml").read_text(encoding="utf-8")
        self.pipeline = Pipeline.loads(pipeline_yaml)

    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> str:
        log.trace("running {} with {} messages", model, len(messages))
        question = get_last_user_message(messages) or ""
        result = self.pipeline.run({"prompt_builder": {"query": question}})
        return str(result["llm"]["replies"][0].text)
