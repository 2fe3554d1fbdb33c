"""Serve Haystack pipelines and agents to any OpenAI client, from a plain, threaded Flask app."""

from haystack import Pipeline

from flaskcompat._version import __version__
from flaskcompat.app import create_app
from flaskcompat.errors import APIError
from flaskcompat.extension import FlaskCompat
from flaskcompat.log import log
from flaskcompat.open_webui import PipelineEvent
from flaskcompat.protocol.citations import citations
from flaskcompat.protocol.deltas import Citation
from flaskcompat.protocol.inputs import (
    get_input_files,
    get_last_user_input_text,
    get_last_user_message,
    is_user_message,
)
from flaskcompat.protocol.parameters import generation_kwargs_from_body, tools_from_body
from flaskcompat.runtime.callbacks import (
    default_on_pipeline_end,
    default_on_tool_call_end,
    default_on_tool_call_start,
)
from flaskcompat.runtime.coercion import coerce_pipeline_inputs
from flaskcompat.runtime.input_files import (
    File,
    chat_messages_from_openai_messages,
    chat_messages_from_openai_response,
    get_file,
)
from flaskcompat.runtime.registry import Registry
from flaskcompat.runtime.streaming import AsyncPipeline, async_streaming_generator, streaming_generator
from flaskcompat.runtime.wrapper import BasePipelineWrapper

__all__ = [
    "APIError",
    "AsyncPipeline",
    "BasePipelineWrapper",
    "Citation",
    "File",
    "FlaskCompat",
    "Pipeline",
    "PipelineEvent",
    "Registry",
    "__version__",
    "async_streaming_generator",
    "chat_messages_from_openai_messages",
    "chat_messages_from_openai_response",
    "citations",
    "coerce_pipeline_inputs",
    "create_app",
    "default_on_pipeline_end",
    "default_on_tool_call_end",
    "default_on_tool_call_start",
    "generation_kwargs_from_body",
    "get_file",
    "get_input_files",
    "get_last_user_input_text",
    "get_last_user_message",
    "is_user_message",
    "log",
    "streaming_generator",
    "tools_from_body",
]
