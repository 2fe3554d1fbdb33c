"""A store for uploads: ``POST /v1/files`` keeps the file and gives an id that other wrappers can read."""

from typing import Any

from flaskcompat import BasePipelineWrapper

from .._files import files


class PipelineWrapper(BasePipelineWrapper):
    def run_file_upload(
        self, filename: str | None, content_type: str | None, content: bytes, purpose: str
    ) -> dict[str, Any]:
        return files.save(filename, content_type, content, purpose)
