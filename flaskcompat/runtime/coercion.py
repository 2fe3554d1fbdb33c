"""Haystack objects that came as JSON, made again for the inputs of a pipeline that take them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin


def coerce_pipeline_inputs(pipeline: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    """*data* for ``pipeline.run()``, with objects in place of dictionaries where an input takes such an object.

    An input's type may be a class with ``from_dict`` (``ChatMessage``, ``Document``), a Pydantic model or a dataclass,
    a list of it, or a union with it. What is an object already, or fits no such class, stays as it is; so do tools,
    which would be code.

    :param data: nested, ``{"component": {"input": value}}``, or flat, ``{"input": value}``, as for ``run()``.
    :raises ValueError: for a dictionary where an input takes several such classes: nothing says which it is.
    """
    if all(isinstance(value, Mapping) for value in data.values()):
        known = pipeline.inputs(include_components_with_connected_inputs=True)
        return {
            component: {
                name: _coerced(value, [known[component][name]["type"]] if name in known.get(component, ()) else [])
                for name, value in given.items()
            }
            for component, given in data.items()
        }
    known = pipeline.inputs()
    return {
        name: _coerced(value, [sockets[name]["type"] for sockets in known.values() if name in sockets])
        for name, value in data.items()
    }


def _coerced(value: Any, types: list[Any]) -> Any:
    if isinstance(value, list):
        items = [argument for kind in _members(types) if get_origin(kind) is list for argument in get_args(kind)]
        return [_coerced(item, items) for item in value]
    classes = {kind for kind in _members(types) if isinstance(kind, type) and _make(kind) is not None}
    if not isinstance(value, Mapping) or not classes:
        return value
    if len(classes) > 1:
        names = ", ".join(sorted(kind.__name__ for kind in classes))
        raise ValueError(f"a dictionary may be any of {names} here: give an object")
    return _make(classes.pop())(dict(value))


def _members(types: list[Any]) -> list[Any]:
    """The types that *types* allow, unions taken apart."""
    found: list[Any] = []
    for kind in types:
        members = get_args(kind) if get_origin(kind) in (Union, UnionType) else ()
        found += _members(list(members)) if members else [kind] if kind is not NoneType else []
    return found


def _make(kind: type) -> Any:
    """What makes an object of *kind* from a dictionary; None where nothing does."""
    if kind.__module__.startswith("haystack.tools"):  # a tool is code; JSON may be a client's
        return None
    for name in ("from_dict", "model_validate"):
        if callable(make := getattr(kind, name, None)):
            return make
    return (lambda value: kind(**value)) if dataclasses.is_dataclass(kind) else None
