"""Models that ask other models of the same server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from flaskcompat.log import log
from flaskcompat.runtime.registry import Registry
from flaskcompat.runtime.wrapper import BasePipelineWrapper

# Where a generator keeps the address of the API that it asks.
_ADDRESSES = ("api_base_url", "base_url", "api_base", "url")
_LOCAL = ("localhost", "127.0.0.1", "::1", "0.0.0.0")
# Pipelines in pipelines, agents in agents.
_DEEPEST = 8


def models_that_ask(registry: Registry, host: str, port: int) -> list[str]:
    """Names of the models whose pipeline or agent has a component that asks the server at *host* and *port*."""
    return [model.name for model in registry if _asks(model.wrapper, {host, *_LOCAL}, port)]


def _asks(wrapper: BasePipelineWrapper, hosts: set[str], port: int) -> bool:
    try:
        return any(_is_at(address, hosts, port) for part in _parts(wrapper.pipeline) for address in _addresses(part))
    except Exception as error:  # a user's attributes may do anything
        log.debug("what a model asks could not be looked at: {}", type(error).__name__)
        return False


def _parts(thing: Any, depth: int = 0) -> Iterator[Any]:
    """A pipeline's or agent's components, and theirs."""
    if thing is None or depth > _DEEPEST:
        return
    yield thing
    walk = getattr(thing, "walk", None)
    inner = [component for _, component in walk()] if callable(walk) else []
    for part in [*inner, getattr(thing, "chat_generator", None), getattr(thing, "pipeline", None)]:
        yield from _parts(part, depth + 1)


def _addresses(part: Any) -> Iterator[str]:
    own = getattr(part, "__dict__", {})
    return (own[name] for name in _ADDRESSES if isinstance(own.get(name), str))


def _is_at(address: str, hosts: set[str], port: int) -> bool:
    try:
        split = urlsplit(address)
        return split.hostname in hosts and (split.port or (443 if split.scheme == "https" else 80)) == port
    except ValueError:
        return False
