"""The class that users derive their wrappers from."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
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


# How alike two names must be. Hayhooks' `run_api` is like none of ours.
_ALIKE = 0.8
# The shortest beginning of a name that stands for it: `run_chat`, without its underscore.
_SHORTEST = 7


def misspelt_methods(wrapper: BasePipelineWrapper) -> dict[str, str]:
    """The methods of a wrapper that look misspelt, each with the name that is probably meant.

    A method is left out if the wrapper has the one that is meant, or the async form of it. If a wrapper has any of
    :data:`METHODS`, only names that begin with ``run`` count: others are more likely helpers.
    """
    has_some = any(implements(wrapper, method) for method in METHODS)
    found = {}
    for name in sorted(set(dir(type(wrapper))) - set(dir(BasePipelineWrapper))):
        if name.startswith("_") or (has_some and not name.startswith("run")):
            continue
        meant = _nearest(name)
        if meant is None or not callable(getattr(type(wrapper), name, None)):
            continue
        if not any(implements(wrapper, method) for method in METHODS if method in (meant, f"{meant}_async")):
            found[name] = meant
    return found


def _nearest(name: str) -> str | None:
    """The method whose name is nearest to *name*, without regard to case and underscores; None if none is near."""
    plain = _plain(name)
    if not (is_async := plain.endswith("async")):
        plain = plain.removesuffix("sync")
    forms = {_plain(method): method for method in METHODS}
    stem = plain.removesuffix("async")
    for form, method in forms.items():
        if len(stem) >= _SHORTEST and form.startswith(stem) and form.endswith("async") == is_async:
            return method
    alike = get_close_matches(plain, forms, n=1, cutoff=_ALIKE)
    return forms[alike[0]] if alike else None


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


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
