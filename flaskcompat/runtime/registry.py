"""The models of one application: names and the wrappers behind them."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from flaskcompat.errors import ModelNotFound, PipelineLoadError
from flaskcompat.log import log
from flaskcompat.runtime.pipeline_model import Inputs, PipelineModel, from_yaml
from flaskcompat.runtime.plan import is_pipeline_or_agent
from flaskcompat.runtime.wrapper import (
    METHODS,
    BasePipelineWrapper,
    Surface,
    extras_of,
    implements,
    method_for,
    misspelt_methods,
)

if TYPE_CHECKING:
    from haystack.components.agents import Agent
    from haystack.core.pipeline.base import PipelineBase


@dataclass(frozen=True)
class Model:
    """A wrapper that is being served, and since when (seconds since the epoch)."""

    name: str
    wrapper: BasePipelineWrapper
    created: int

    @cached_property
    def methods(self) -> dict[Surface, str | None]:
        """By surface: the name of the method that answers on it."""
        surfaces: tuple[Surface, ...] = ("chat_completion", "response")
        return {surface: method_for(self.wrapper, surface) for surface in surfaces}

    @cached_property
    def surfaces(self) -> tuple[str, ...]:
        """What it answers: of ``chat``, ``responses``, ``files``."""
        chat, response = self.methods["chat_completion"], self.methods["response"]
        upload = implements(self.wrapper, "run_file_upload")
        return tuple(name for name, has in (("chat", chat), ("responses", response), ("files", upload)) if has)

    @cached_property
    def asynchronous(self) -> frozenset[str]:
        """The methods that are coroutines or async generators, and belong on a loop."""
        methods = {m: getattr(self.wrapper, m) for m in METHODS if implements(self.wrapper, m)}
        return frozenset(
            name
            for name, method in methods.items()
            if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)
        )

    @cached_property
    def extras(self) -> dict[str, tuple[str, ...]]:
        """By method: the names of what it asks for beside the request."""
        return {m: extras_of(self.wrapper, m) for m in METHODS if implements(self.wrapper, m)}


class Registry:
    """Names and wrappers; safe to change while requests are being served.

    ``failed`` holds, for names that could not be loaded, one line that says why.
    """

    def __init__(self) -> None:
        self._models: dict[str, Model] = {}
        self._lock = threading.Lock()
        self.failed: dict[str, str] = {}

    def add(
        self,
        name: str,
        wrapper: BasePipelineWrapper | type[BasePipelineWrapper] | PipelineBase | Agent | Path | str,
        *,
        inputs: Inputs | None = None,
    ) -> Model:
        """Set *wrapper* up and serve it as the model *name*, in place of any other of that name.

        :param wrapper: a wrapper, or its class; or a pipeline or an agent alone, or the path of a pipeline in YAML.
        :param inputs: which inputs of a pipeline get the question and which the messages, where their names do not
            tell: ``{"question": ["retriever.query", "prompt.topic"], "messages": ["llm.messages"]}``.
        :raises PipelineLoadError: if it is none of these or implements no ``run_`` method, or the inputs of a pipeline
            are unclear.
        """
        if not name or not isinstance(name, str):
            raise PipelineLoadError("a model needs a name")
        if isinstance(wrapper, type):
            wrapper = wrapper()
        if isinstance(wrapper, str | Path):
            wrapper, declared = from_yaml(Path(wrapper))
            inputs = inputs or declared
        if not isinstance(wrapper, BasePipelineWrapper) and is_pipeline_or_agent(wrapper):
            wrapper = PipelineModel(wrapper, inputs)
        if not isinstance(wrapper, BasePipelineWrapper):
            raise PipelineLoadError(f"{type(wrapper).__name__} is not derived from BasePipelineWrapper")
        class_name = type(wrapper).__name__
        hints = [f"{has} is not called: did you mean {meant}?" for has, meant in misspelt_methods(wrapper).items()]
        if not any(implements(wrapper, method) for method in METHODS):
            raise PipelineLoadError(" ".join([*hints, f"{class_name} implements none of {', '.join(METHODS)}"]))
        for hint in hints:
            log.warning("model '{}': {}.{}", name, class_name, hint)
        wrapper.setup()
        model = Model(name, wrapper, int(time.time()))
        with self._lock:
            # A new dict each time: whoever iterates holds on to the one before.
            self._models = {**self._models, name: model}
            self.failed.pop(name, None)
        return model

    def remove(self, name: str) -> None:
        """Serve the model *name* no more; answers that it is making go on.

        :raises ModelNotFound: for a name that is not served.
        """
        with self._lock:
            if name not in self._models:
                raise ModelNotFound(name)
            self._models = {other: model for other, model in self._models.items() if other != name}

    def __getitem__(self, name: str) -> Model:
        """:raises ModelNotFound: for a name that is not served."""
        try:
            return self._models[name]
        except KeyError:
            raise ModelNotFound(name) from None

    def __contains__(self, name: object) -> bool:
        return name in self._models

    def __iter__(self) -> Iterator[Model]:
        """The models by name."""
        return iter(sorted(self._models.values(), key=lambda model: model.name))

    def __len__(self) -> int:
        return len(self._models)
