"""The class that users derive their wrappers from."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Literal

#: The two kinds of answer a wrapper may make: ``run_chat_completion`` and ``run_response``.
Surface = Literal["chat_completion", "response"]


class BasePipelineWrapper:
    """Connects a Haystack pipeline or agent, or any Python, to the OpenAI API.

    A wrapper is made once and serves many requests at the same time. Implement :meth:`setup` and at least one
    ``run_`` method; each enables the endpoint of its name, and where both forms exist the async one is used.
    A ``run_`` method gives a text, a Haystack ``ChatMessage``, an OpenAI object, or chunks: a list, an iterator, a
    generator or an async generator (or it is a generator function itself). A method that has a parameter named
    ``headers`` gets the request's headers, a case-insensitive mapping; one that has a parameter ``principal`` gets
    whom the request comes from, None where nobody is asked.
    """

    #: Whatever :meth:`setup` puts here; most often a ``Pipeline`` or ``Agent``.
    pipeline: Any = None
    #: Show calls of tools that ran on this side, with their results, as items of a response; None leaves it to
    #: the setting ``FLASKCOMPAT_SHOW_TOOL_CALLS``. Clients that run tools themselves may take them for their own.
    show_tool_calls: bool | None = None
    #: How many answers of this model may be made at the same time; None: as many as the process makes at all.
    max_generations: int | None = None

    #: Check an answer against the schema that its request asks for (``response_format``, ``text.format``): one that
    #: does not fit ends in an error. ``pattern`` and ``uniqueItems`` are not looked at, a schema with
    #: ``patternProperties`` or of more than 2000 parts is refused.
    check_format: bool = False

    def setup(self) -> None:
        """Prepare the wrapper, once, before the first request."""

    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        """Answer ``POST /v1/chat/completions``.

        :param model: the name under which this wrapper is served.
        :param messages: the request's messages, untouched.
        :param body: the whole request body; fields that were not sent, or sent as null, are absent.
        """
        raise NotImplementedError

    async def run_chat_completion_async(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        """The same on the event loop, which must not be blocked."""
        raise NotImplementedError

    def run_response(self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        """Answer ``POST /v1/responses``.

        :param model: the name under which this wrapper is served.
        :param input_items: the request's ``input``; a text stands as one user message item.
        :param body: the whole request body; fields that were not sent, or sent as null, are absent.
        """
        raise NotImplementedError

    async def run_response_async(self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        """The same on the event loop, which must not be blocked."""
        raise NotImplementedError

    def run_file_upload(
        self, filename: str | None, content_type: str | None, content: bytes, purpose: str
    ) -> dict[str, Any]:
        """Keep an uploaded file; gives at least an ``id``, the rest of OpenAI's FileObject is filled in."""
        raise NotImplementedError


METHODS = (
    "run_chat_completion",
    "run_chat_completion_async",
    "run_response",
    "run_response_async",
    "run_file_upload",
)


def implements(wrapper: BasePipelineWrapper, method: str) -> bool:
    """Whether the wrapper's class has a *method* of its own."""
    return getattr(type(wrapper), method, None) is not getattr(BasePipelineWrapper, method)


def method_for(wrapper: BasePipelineWrapper, surface: Surface) -> str | None:
    """The name of the method that answers on *surface*, the async one first; None where there is none."""
    sync = f"run_{surface}"
    return next((name for name in (f"{sync}_async", sync) if implements(wrapper, name)), None)


#: What a method gets if it declares a parameter of this name.
EXTRAS = ("headers", "principal")


def extras_of(wrapper: BasePipelineWrapper, method: str) -> tuple[str, ...]:
    """Those of :data:`EXTRAS` that *method* declares."""
    parameters = inspect.signature(getattr(wrapper, method)).parameters
    return tuple(name for name in EXTRAS if name in parameters)


class Headers(Mapping[str, str]):
    """A request's headers, read-only and case-insensitive."""

    def __init__(self, items: Iterable[tuple[str, str]]) -> None:
        self._given = items

    @cached_property
    def _items(self) -> dict[str, tuple[str, str]]:
        # Made when first looked at: most wrappers never do.
        return {name.lower(): (name, value) for name, value in self._given}

    def __getitem__(self, name: str) -> str:
        return self._items[name.lower()][1]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._items.values())

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        # Names alone: values hold keys and cookies, and a repr ends up in logs.
        return f"Headers({list(self)})"
