"""A pipeline or an agent with its inputs, and which of its components stream."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import networkx
from haystack.core.pipeline.base import PipelineBase
from haystack.dataclasses import StreamingChunk

from flaskcompat.log import log

#: Names of the components that stream, ``"all"``, or None for the last one alone.
StreamingComponents = list[str] | Literal["all"] | None


class Plan:
    """A pipeline or an agent with its inputs; knows how to run it with a callback."""

    def __init__(self, target: Any, arguments: dict[str, Any], streaming: list[str], include: set[str] | None) -> None:
        self.target = target
        self.arguments = arguments
        self.streaming = streaming  # names of components; none for an agent
        self._include = {"include_outputs_from": include} if include is not None else {}

    @property
    def is_pipeline(self) -> bool:
        return isinstance(self.target, PipelineBase)

    @property
    def has_run_async(self) -> bool:
        return hasattr(self.target, "run_async")  # a synchronous pipeline of Haystack 2 has none

    def streams_async(self, name: str) -> bool:
        return hasattr(self.target.get_component(name), "run_async")

    def run(self, callback: Callable[[StreamingChunk], None]) -> Any:
        if self.is_pipeline:
            return self.target.run(self._with_callbacks(lambda _: callback), **self._include)
        return self.target.run(**{**self.arguments, "streaming_callback": callback})

    async def run_async(
        self,
        callback: Callable[[StreamingChunk], Awaitable[None]],
        callback_in_thread: Callable[[StreamingChunk], None],
    ) -> Any:
        if not self.has_run_async:
            return await asyncio.to_thread(self.run, callback_in_thread)
        if self.is_pipeline:
            data = self._with_callbacks(lambda name: callback if self.streams_async(name) else callback_in_thread)
            return await self.target.run_async(data, **self._include)
        return await self.target.run_async(**{**self.arguments, "streaming_callback": callback})

    def _with_callbacks(self, callback_for: Callable[[str], Any]) -> dict[str, Any]:
        data = {name: dict(inputs) for name, inputs in self.arguments.items()}
        for name in self.streaming:
            data.setdefault(name, {})["streaming_callback"] = callback_for(name)
        return data


def prepare() -> None:
    """Import what Haystack leaves to the first run of a pipeline: its tools and agents, 0.2 seconds."""
    try:
        import haystack.components.agents  # noqa: F401
    except Exception as error:  # whoever needs it is told
        log.debug("nothing is prepared: {}", type(error).__name__)


def is_pipeline_or_agent(target: Any) -> bool:
    if isinstance(target, PipelineBase):
        return True
    from haystack.components.agents import Agent  # takes its time, and few need it

    return isinstance(target, Agent)


def make_plan(
    target: Any, arguments: dict[str, Any], components: StreamingComponents, include: set[str] | None
) -> Plan:
    """A plan to run *target*, a pipeline or an agent.

    :raises ValueError: if it is neither, or no component of it can stream.
    """
    if isinstance(target, PipelineBase):
        return Plan(target, _by_component(target, arguments), _to_stream(target, components), include)
    if is_pipeline_or_agent(target):
        return Plan(target, dict(arguments), [], include)
    raise ValueError(f"Unsupported pipeline type: {type(target).__name__}")


def _by_component(pipeline: PipelineBase, arguments: dict[str, Any]) -> dict[str, Any]:
    """Inputs in the form ``{component: {input: value}}``; flat ones are sorted as ``Pipeline.run`` does it."""
    if all(isinstance(value, dict) for value in arguments.values()):
        return dict(arguments)
    nested: dict[str, dict[str, Any]] = {}
    for component, sockets in pipeline.inputs().items():
        inputs = {name: arguments[name] for name in sockets if name in arguments}
        if inputs:
            nested[component] = inputs
    unknown = sorted(set(arguments) - {name for inputs in nested.values() for name in inputs})
    if unknown:
        log.warning("no component of the pipeline takes the inputs {}", ", ".join(unknown))
    return nested


def streaming_components(pipeline: PipelineBase) -> list[str]:
    """Names of the components that can stream, from first to last."""
    return [name for name in in_order(pipeline) if can_stream(pipeline.get_component(name))]


def _to_stream(pipeline: PipelineBase, components: StreamingComponents) -> list[str]:
    able = streaming_components(pipeline)
    if not able:
        raise ValueError("No streaming-capable components found in the pipeline")
    if components is None:
        return able[-1:]
    return able if components == "all" else [name for name in able if name in components]


def in_order(pipeline: PipelineBase) -> list[str]:
    """Names of the components from first to last; as they were added where they form a loop."""
    names = list(pipeline.graph.nodes)
    try:
        return list(networkx.lexicographical_topological_sort(pipeline.graph, key=names.index))
    except networkx.NetworkXUnfeasible:
        return names


def can_stream(component: Any) -> bool:
    """Whether *component* takes a ``streaming_callback``."""
    sockets = getattr(getattr(component, "__haystack_input__", None), "_sockets_dict", {})
    return "streaming_callback" in sockets or "streaming_callback" in inspect.signature(component.run).parameters
