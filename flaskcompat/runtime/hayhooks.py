"""Stand-ins for Hayhooks and what its wrappers import of FastAPI, for wrappers that were written for it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from http.client import responses
from types import ModuleType
from typing import IO, Any, Literal

from haystack import Pipeline

from flaskcompat import open_webui
from flaskcompat.errors import APIError
from flaskcompat.log import log
from flaskcompat.protocol import inputs
from flaskcompat.runtime import callbacks, input_files, streaming
from flaskcompat.runtime.coercion import coerce_pipeline_inputs
from flaskcompat.runtime.wrapper import BasePipelineWrapper, Headers

#: Whether ``hayhooks`` is stood in for: where it is not installed, always, never.
Alias = Literal["auto", "on", "off"]


class HTTPException(APIError):
    """FastAPI's way to tell a client something."""

    def __init__(self, status_code: int, detail: Any = None, headers: Mapping[str, str] | None = None) -> None:
        text = responses.get(status_code) if detail is None else str(detail)
        super().__init__(text, status=status_code, headers=headers)
        self.status_code = status_code
        self.detail = detail


class UploadFile:
    """FastAPI's uploaded file, as signatures name it."""

    def __init__(self, file: IO[bytes], *, filename: str | None = None, content_type: str | None = None) -> None:
        self.file = file
        self.filename = filename
        self.content_type = content_type

    async def read(self, size: int = -1) -> bytes:
        return self.file.read(size)


def create_custom_element_event(name: str, props: dict[str, Any]) -> open_webui.PipelineEvent:
    """An event of Chainlit's; a page that does not know it passes it over."""
    return open_webui.PipelineEvent("custom_element", {"name": name, "props": props})


_PIPELINES = {"AsyncPipeline": streaming.AsyncPipeline, "Pipeline": Pipeline}
_BASE = {"BasePipelineWrapper": BasePipelineWrapper}
_LOG = {"log": log}
_CALLBACKS = {
    "default_on_pipeline_end": callbacks.default_on_pipeline_end,
    "default_on_tool_call_end": callbacks.default_on_tool_call_end,
    "default_on_tool_call_start": callbacks.default_on_tool_call_start,
}
_UTILS = {
    "async_streaming_generator": streaming.async_streaming_generator,
    "chat_messages_from_openai_response": input_files.chat_messages_from_openai_response,
    "coerce_pipeline_inputs": coerce_pipeline_inputs,
    "get_input_files": inputs.get_input_files,
    "get_last_user_input_text": inputs.get_last_user_input_text,
    "get_last_user_message": inputs.get_last_user_message,
    "is_user_message": inputs.is_user_message,
    "streaming_generator": streaming.streaming_generator,
}
_EVENTS = {
    "PipelineEvent": open_webui.PipelineEvent,
    "create_notification_event": open_webui.create_notification_event,
    "create_status_event": open_webui.create_status_event,
}
_OPEN_WEBUI = {
    "OpenWebUIEvent": open_webui.OpenWebUIEvent,
    "create_chat_completion_event": open_webui.create_chat_completion_event,
    "create_details_tag": open_webui.create_details_tag,
    "create_message_event": open_webui.create_message_event,
    "create_replace_event": open_webui.create_replace_event,
    "create_source_event": open_webui.create_source_event,
}

#: What each module offers.
HAYHOOKS: Mapping[str, Mapping[str, Any]] = {
    "hayhooks": {
        **_BASE,
        **_CALLBACKS,
        **_LOG,
        **_PIPELINES,
        **_UTILS,
        "PipelineEvent": open_webui.PipelineEvent,
    },  # fmt: skip
    "hayhooks.callbacks": _CALLBACKS,
    "hayhooks.chainlit_events": {**_EVENTS, "create_custom_element_event": create_custom_element_event},
    "hayhooks.events": _EVENTS,
    "hayhooks.open_webui": {**_EVENTS, **_OPEN_WEBUI},
    "hayhooks.server": {},
    "hayhooks.server.logger": _LOG,
    "hayhooks.server.pipelines": {},
    "hayhooks.server.pipelines.utils": _UTILS,
    "hayhooks.server.utils": {},
    "hayhooks.server.utils.base_pipeline_wrapper": _BASE,
    "hayhooks.server.utils.haystack_compat": _PIPELINES,
}
FASTAPI: Mapping[str, Mapping[str, Any]] = {
    "fastapi": {"HTTPException": HTTPException, "UploadFile": UploadFile},
    "fastapi.exceptions": {"HTTPException": HTTPException},
}
STARLETTE: Mapping[str, Mapping[str, Any]] = {
    "starlette": {},
    "starlette.datastructures": {"Headers": Headers, "UploadFile": UploadFile},
    "starlette.exceptions": {"HTTPException": HTTPException},
}


class Modules:
    """Modules that are made of names; see :class:`~flaskcompat.runtime.imports.StandIns`."""

    def __init__(self, *offered: Mapping[str, Mapping[str, Any]]) -> None:
        self._modules: dict[str, ModuleType] = {}
        for name, names in [found for package in offered for found in package.items()]:
            self._modules[name] = module = ModuleType(name)
            vars(module).update(names, __all__=list(names), __path__=[])
            parent, _, own = name.rpartition(".")
            if parent:
                setattr(self._modules[parent], own, module)

    def __contains__(self, top: object) -> bool:
        return top in self._modules

    def find(self, name: str, names: Sequence[str]) -> ModuleType:
        found = self._modules.get(name)
        if found is None:
            raise ModuleNotFoundError(_not_offered(name), name=name)
        for wanted in names:
            if wanted != "*" and not hasattr(found, wanted):
                raise ImportError(_not_offered(f"{name}.{wanted}"), name=name)
        return found


def _not_offered(name: str) -> str:
    return (
        f"{name} is not offered by flaskcompat, which stands in for what Hayhooks' OpenAI wrappers use; durable runs, "
        "MCP, A2A, YAML wrappers and FastAPI programs need Hayhooks itself"
    )


def stand_ins(alias: Alias) -> Modules:
    """What is stood in for where *alias* says so: Hayhooks, and FastAPI and Starlette where they are not installed."""
    if alias == "off" or (alias == "auto" and _is_installed("hayhooks")):
        return Modules()
    others = [package for name, package in (("fastapi", FASTAPI), ("starlette", STARLETTE)) if not _is_installed(name)]
    return Modules(HAYHOOKS, *others)


def _is_installed(name: str) -> bool:
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # something without a spec stands in sys.modules
        return True
    return spec is not None and spec.origin is not None  # a folder of that name is no package of it


def told_by_fastapi(error: BaseException) -> APIError | None:
    """What FastAPI's own ``HTTPException`` tells the client, where that is installed and a wrapper raised it."""
    kinds = [(kind.__module__, kind.__name__) for kind in type(error).__mro__]
    if ("starlette.exceptions", "HTTPException") not in kinds:
        return None
    try:
        return HTTPException(error.status_code, error.detail, error.headers)  # type: ignore[attr-defined]
    except Exception:  # a wrapper's own kind of it may be anything
        return None
