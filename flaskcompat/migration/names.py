"""Where the names of Hayhooks have gone, and what to do about those that have gone nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flaskcompat
from flaskcompat import open_webui
from flaskcompat.runtime.hayhooks import FASTAPI, HAYHOOKS, STARLETTE

#: Each module that is stood in for, with what it offers.
STOOD_IN: Mapping[str, Mapping[str, Any]] = {**HAYHOOKS, **FASTAPI, **STARLETTE}
#: The package whose names most of them are, and the module that has the others.
ROOT = "flaskcompat"
EVENTS = "flaskcompat.open_webui"

# By the beginning of a dotted name; the first that fits.
_ADVICE = {
    "hayhooks.chainlit_events.create_custom_element_event": (
        'write flaskcompat.PipelineEvent("custom_element", {"name": ..., "props": ...})'
    ),
    "hayhooks.chainlit_events": "write flaskcompat.PipelineEvent(type, data)",
    "hayhooks.YAMLPipelineWrapper": "a folder with a pipeline.yml alone is a model",
    "hayhooks.server.utils.yaml": "a folder with a pipeline.yml alone is a model",
    "hayhooks.SSEStream": "yield the chunks in run_chat_completion or run_response",
    "hayhooks.server.pipelines.sse": "yield the chunks in run_chat_completion or run_response",
    "hayhooks.server.pipelines.registry": "models are in FlaskCompat(app).registry",
    "hayhooks.create_app": "flaskcompat.create_app makes a Flask app, FlaskCompat(app) adds to one",
    "hayhooks.run_app": "serve with `flaskcompat serve`",
    "hayhooks.server.app": "flaskcompat.create_app makes a Flask app, FlaskCompat(app) adds to one",
    "hayhooks.settings": "settings are in the Flask app's config, FLASKCOMPAT_...",
    "hayhooks.DurableContext": "durable runs need Hayhooks; a response with background: true outlives its request",
    "hayhooks.current_durable_context": "durable runs need Hayhooks",
    "hayhooks.durable": "durable runs need Hayhooks; a response with background: true outlives its request",
    "hayhooks.server.utils.mcp": "MCP needs Hayhooks",
    "hayhooks.server.utils.a2a": "A2A needs Hayhooks",
    "hayhooks.server.tracing": "take it out, or trace with haystack.tracing",
    "hayhooks": "take it out, or keep the file for Hayhooks",
    "fastapi.UploadFile": "run_api alone takes it, which is not served; run_file_upload gets the name, type and bytes",
    "starlette.datastructures.UploadFile": "as run_file_upload, take the name, type and bytes",
    "starlette.datastructures.Headers": "`headers` is a collections.abc.Mapping[str, str]",
    "fastapi": "flaskcompat runs no FastAPI: take it out, or keep FastAPI installed for it",
    "starlette": "flaskcompat runs no Starlette: take it out, or keep Starlette installed for it",
}


def homes_of(module: str, name: str) -> tuple[str, ...]:
    """The public modules of this package that have what *module* offers as *name*, the best one first."""
    offered = STOOD_IN.get(module, {})
    if name not in offered:
        return ()
    homes = [ROOT] if name in flaskcompat.__all__ and getattr(flaskcompat, name) is offered[name] else []
    if getattr(open_webui, name, None) is offered[name]:
        homes.append(EVENTS)
    return tuple(homes)


def home_of_module(module: str) -> str:
    """The public module that stands for *module* as a whole."""
    names = STOOD_IN[module]
    return EVENTS if names and all(EVENTS in homes_of(module, name) for name in names) else ROOT


def advice_on(name: str) -> str:
    """What to do about the dotted *name*, which has no counterpart."""
    return next(advice for beginning, advice in _ADVICE.items() if name.startswith(beginning))


def has_none(name: str) -> str:
    """That the dotted *name* has no counterpart, and what to do."""
    return f"`{name}` has no counterpart: {advice_on(name)}"
