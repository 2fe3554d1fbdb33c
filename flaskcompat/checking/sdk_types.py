"""The types of OpenAI's SDK, where it is installed, as judges of what was answered."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Literal

#: What is judged: a chat completion, a chunk of one, a response, an event of one, an uploaded file.
Kind = Literal["completion", "chunk", "response", "event", "file"]
Judge = Callable[[Any], list[str]]

# Keys that the wire has beside OpenAI's own, or that older versions of the SDK do not know.
_DOCUMENTED = frozenset(
    "annotations cache_write_tokens completed_at event frequency_penalty name presence_penalty reasoning_content "
    "refusal safety_identifier store top_logprobs prompt_cache_key expires_at".split()
)
# Of each answer; a stream that is wrong is wrong in most of its events.
_MOST = 3


@cache
def judges() -> dict[Kind, Judge] | None:
    """By kind: what is wrong with an object in the eyes of OpenAI's types; None where the SDK is not installed."""
    try:
        from openai.types import FileObject
        from openai.types.chat import ChatCompletion, ChatCompletionChunk
        from openai.types.responses import Response, ResponseStreamEvent
        from pydantic import TypeAdapter
    except ImportError:
        return None
    kinds: dict[Kind, Any] = {
        "completion": ChatCompletion,
        "chunk": ChatCompletionChunk,
        "response": Response,
        "event": ResponseStreamEvent,
        "file": FileObject,
    }
    return {kind: _judge(TypeAdapter(type)) for kind, type in kinds.items()}


def _judge(adapter: Any) -> Judge:
    from pydantic import ValidationError

    def judge(given: Any) -> list[str]:
        try:
            # As JSON: what is strict about a value that came over the wire is told by its form there.
            fitting = adapter.validate_json(json.dumps(given), strict=True)
        except ValidationError as error:
            return [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False)][:_MOST]
        return [f"{path}: no key of OpenAI's" for path in _unknown(fitting)][:_MOST]

    return judge


def _unknown(fitting: Any, path: str = "") -> Iterator[str]:
    if isinstance(fitting, list):
        for number, item in enumerate(fitting):
            yield from _unknown(item, f"{path}.{number}")
        return
    fields = getattr(type(fitting), "model_fields", None)
    if fields is None:
        return
    for name in fitting.model_extra or ():
        if name not in _DOCUMENTED:
            yield f"{path}.{name}".lstrip(".")
    for name in fields:
        yield from _unknown(getattr(fitting, name), f"{path}.{name}")
