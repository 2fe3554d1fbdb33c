"""Pieces of JSON Schema."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
ANY_OBJECT: Schema = {"type": "object", "additionalProperties": True}


def an_object(required: str, **properties: Schema) -> Schema:
    """An object with these properties.

    :param required: names of those that have to be there.
    """
    return {"type": "object", "required": required.split(), "properties": properties}


def or_null(schema: Schema) -> Schema:
    """*schema*, or null."""
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    nullable = {**schema, "type": [schema["type"], "null"]}
    return {**nullable, "enum": [*schema["enum"], None]} if "enum" in schema else nullable


def reference(name: str) -> Schema:
    """The schema that the document has under *name*."""
    return {"$ref": f"#/components/schemas/{name}"}
