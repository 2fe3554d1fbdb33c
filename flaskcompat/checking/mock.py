"""Scripted generators in the place of models: nothing is asked over the network, and nothing costs money."""

from __future__ import annotations

import functools
import gc
import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import UnionType
from typing import Any, Union, get_args, get_origin

from haystack.core.component.component import ComponentMeta
from haystack.dataclasses import (
    ChatMessage,
    ComponentInfo,
    Document,
    SparseEmbedding,
    StreamingChunk,
    select_streaming_callback,
)
from haystack.utils.auth import EnvVarSecret

from flaskcompat.runtime.bridge import bridge
from flaskcompat.runtime.plan import can_stream

#: What a scripted model says, unless told otherwise.
REPLY = "This is a scripted answer, in place of a model's."
#: Stands for a key that the environment does not have.
PLACEHOLDER = "not-used"
# Floats of an embedding where the component does not tell; OpenAI's models have that many.
_DIMENSIONS = 1536
_SPARSE = SparseEmbedding([0], [1.0])


@dataclass(frozen=True, slots=True)
class Asked:
    """One call of a scripted generator."""

    name: str
    can_stream: bool
    on_loop: bool  # a synchronous run on the thread of the event loop that all models share
    inputs: str


@dataclass
class Script:
    """What the scripted models say, and how they were asked."""

    reply: str = REPLY
    asked: list[Asked] = field(default_factory=list)

    @property
    def pieces(self) -> list[str]:
        return re.findall(r"\s*\S+\s*", self.reply) or [self.reply]

    @property
    def meta(self) -> dict[str, Any]:
        written = len(self.pieces)
        usage = {
            "prompt_tokens": 1,
            "completion_tokens": written,
            "total_tokens": 1 + written,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        }
        return {"model": "scripted", "index": 0, "finish_reason": "stop", "usage": usage}

    def chunks(self, component: Any) -> Iterator[StreamingChunk]:
        info = ComponentInfo.from_component(component)
        for number, piece in enumerate(self.pieces):
            yield StreamingChunk(piece, {"model": "scripted"}, info, index=0, start=number == 0)
        yield StreamingChunk("", {"model": "scripted"}, info, finish_reason="stop")


@contextmanager
def scripted(script: Script) -> Iterator[None]:
    """Have *script* speak for every generator there is in the process, and every one that is made meanwhile.

    Embedders and rankers are scripted as well, and keys that the environment does not have are stood in for. All is as
    it was afterwards.
    """
    undo: list[Callable[[], None]] = []
    make = ComponentMeta.__call__
    resolve = EnvVarSecret.resolve_value

    def make_scripted(cls: Any, *args: Any, **kwargs: Any) -> Any:
        component = make(cls, *args, **kwargs)
        _put_in_place(component, script, undo)
        return component

    def resolve_or_stand_in(secret: EnvVarSecret) -> Any:
        try:
            return resolve(secret)
        except ValueError:  # it must be set, and is not
            return PLACEHOLDER

    # Where they are made: a wrapper may keep them anywhere, make one for each request, and warm one up in setup().
    ComponentMeta.__call__ = make_scripted  # type: ignore[method-assign]
    EnvVarSecret.resolve_value = resolve_or_stand_in  # type: ignore[method-assign,assignment]
    try:
        for component in [thing for thing in gc.get_objects() if issubclass(type(type(thing)), ComponentMeta)]:
            _put_in_place(component, script, undo)
        yield
    finally:
        ComponentMeta.__call__ = make  # type: ignore[method-assign]
        EnvVarSecret.resolve_value = resolve  # type: ignore[method-assign]
        for step in undo:
            step()


def _put_in_place(component: Any, script: Script, undo: list[Callable[[], None]]) -> None:
    answer = _answer_of(component, script)
    own = getattr(component, "__dict__", None)
    if answer is None or own is None:
        return
    new = {"run": _run(component, script, answer)}
    if hasattr(component, "run_async"):
        new["run_async"] = _run_async(component, script, answer)
    if hasattr(component, "warm_up"):
        new["warm_up"] = lambda: None  # it would load the model
    if hasattr(component, "warm_up_async"):
        new["warm_up_async"] = _nothing
    before = {name: own[name] for name in new if name in own}
    own.update(new)

    def as_before() -> None:
        for name in new:
            own.pop(name, None)
        own.update(before)

    undo.append(as_before)


async def _nothing() -> None:
    pass


#: Makes a component's outputs of its inputs.
_Answer = Callable[[dict[str, Any]], dict[str, Any]]


def _answer_of(component: Any, script: Script) -> _Answer | None:
    """What *component* answers where it stands for a model; None where it does not."""
    outputs = _socket_types(component, "__haystack_output__")
    # Once it is wanted, and once: looking for its size takes a while.
    embedding = functools.cache(lambda: _embedding(component))
    if "embedding" in outputs:
        return lambda inputs: {"embedding": [*embedding()], "meta": {}}
    if "sparse_embedding" in outputs:
        return lambda inputs: {"sparse_embedding": _SPARSE, "meta": {}}
    name = type(component).__name__
    if "documents" in outputs and name.endswith("Embedder"):
        given = (lambda: {"sparse_embedding": _SPARSE}) if "Sparse" in name else (lambda: {"embedding": [*embedding()]})
        return lambda inputs: {"documents": [replace(d, **given()) for d in inputs["documents"]], "meta": {}}
    # An agent or a pipeline that is a component streams, too: what is inside of it is scripted.
    if hasattr(component, "chat_generator") or hasattr(component, "pipeline"):
        return None
    if "documents" in outputs and name.endswith("Ranker") and hasattr(component, "warm_up"):  # it loads a model
        return lambda inputs: {"documents": _ranked(component, inputs)}
    said = _all_said(outputs, script)
    if "replies" in said or (said and len(said) == len(outputs) and can_stream(component)):
        return lambda inputs: _all_said(outputs, script)
    return None


def _all_said(outputs: dict[str, Any], script: Script) -> dict[str, Any]:
    return {name: value for name, kind in outputs.items() if (value := _said(kind, script)) is not None}


def _socket_types(component: Any, sockets: str) -> dict[str, Any]:
    found = getattr(getattr(component, sockets, None), "_sockets_dict", {})
    return {name: socket.type for name, socket in found.items()}


def _said(kind: Any, script: Script) -> Any:
    """A value of the type *kind* that says the script's reply; None where there is none."""
    origin, args = get_origin(kind), get_args(kind)
    if kind is ChatMessage:
        return ChatMessage.from_assistant(script.reply, meta=script.meta)
    if kind is str or kind is Any:
        return script.reply
    if kind is dict or origin is dict:
        return script.meta
    if kind in (bool, int, float):
        return kind()
    if origin is list or kind is list:
        item = _said(args[0] if args else ChatMessage, script)
        return None if item is None else [item]
    if origin in (Union, UnionType):
        return next((value for arg in args if (value := _said(arg, script)) is not None), None)
    return None


def _embedding(component: Any) -> list[float]:
    size = getattr(component, "dimensions", None) or getattr(component, "dimension", None)
    return [0.1] * (size if isinstance(size, int) else _size_of_documents())


def _size_of_documents() -> int:
    """That of the embeddings which documents in memory have, perhaps computed before; else the usual one."""
    documents = [thing for thing in gc.get_objects() if type(thing) is Document]
    sizes = {len(document.embedding) for document in documents if document.embedding}
    return next((size for size in sizes if size != _DIMENSIONS), _DIMENSIONS)


def _ranked(component: Any, inputs: dict[str, Any]) -> list[Document]:
    """The documents as they came, as many as are wanted."""
    most = inputs.get("top_k") or getattr(component, "top_k", None)
    documents: list[Document] = inputs["documents"]
    return documents[:most] if isinstance(most, int) else documents


def _run(component: Any, script: Script, answer: _Answer) -> Callable[..., Any]:
    real, signature, streams = component.run, inspect.signature(component.run), can_stream(component)

    @functools.wraps(real)
    def run(*args: Any, **kwargs: Any) -> dict[str, Any]:
        inputs = signature.bind(*args, **kwargs).arguments
        callback = _callback(component, inputs, requires_async=False)
        script.asked.append(Asked(type(component).__name__, streams, bridge.on_loop_thread, repr(inputs)))
        if callback is not None:
            for chunk in script.chunks(component):
                callback(chunk)
        return answer(inputs)

    return run


def _run_async(component: Any, script: Script, answer: _Answer) -> Callable[..., Any]:
    real, streams = component.run_async, can_stream(component)
    signature = inspect.signature(real)

    @functools.wraps(real)
    async def run_async(*args: Any, **kwargs: Any) -> dict[str, Any]:
        inputs = signature.bind(*args, **kwargs).arguments
        callback = _callback(component, inputs, requires_async=True)
        script.asked.append(Asked(type(component).__name__, streams, False, repr(inputs)))
        if callback is not None:
            for chunk in script.chunks(component):
                awaited = callback(chunk)
                if inspect.isawaitable(awaited):
                    await awaited
        return answer(inputs)

    return run_async


def _callback(component: Any, inputs: dict[str, Any], *, requires_async: bool) -> Any:
    given = inputs.get("streaming_callback")
    # Refuses what the real generator would.
    return select_streaming_callback(getattr(component, "streaming_callback", None), given, requires_async)  # type: ignore[call-overload]
