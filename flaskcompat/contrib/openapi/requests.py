"""What a request may hold, as JSON Schema: read from the fields of the schemas that check it."""

from __future__ import annotations

from typing import Any

from marshmallow import fields as marshmallow_fields

from flaskcompat import schemas
from flaskcompat.contrib.openapi.shapes import ANY_OBJECT, TEXT, Schema, an_object, or_null

_DESCRIPTIONS = {
    "model": "The id of a model that the list of models gives.",
    "messages": "The conversation so far; the last message is the one to be answered.",
    "input": "A text to be answered, or the conversation so far as items.",
    "instructions": "What the model is told before the conversation.",
    "stream": "Send the answer as it is made, as server-sent events.",
    "store": "Keep the answer, to be given again and to go on from.",
    "previous_response_id": "The stored response that this one goes on from.",
    "conversation": "The conversation that this response is added to, by its id.",
    "background": "Make the response while nobody waits.",
    "tools": "Functions that the model may call, and the client runs.",
    "metadata": "Up to 16 pairs of texts to keep with it.",
}


def property_of(_: Any, field: marshmallow_fields.Field[Any], **__: Any) -> Schema:
    """What a field of ours takes, as JSON Schema; called by apispec."""
    made = _type_of(field)
    if made and (not field.required or field.allow_none):
        made = or_null(made)
    if made and (about := _DESCRIPTIONS.get(field.name or "")) is not None:
        made["description"] = about
    return made


def _type_of(field: marshmallow_fields.Field[Any]) -> Schema:
    match field:
        case schemas.Number():
            bounds = {"minimum": field.low, "maximum": 1 if isinstance(field, schemas.One) else field.high}
            kind = "integer" if field.whole else "number"
            return {"type": kind, **{name: value for name, value in bounds.items() if value is not None}}
        case schemas.Name():
            return {"type": "string", "minLength": 1}
        case schemas.ChoiceOrObject():
            return {"anyOf": [{"type": "string", "enum": list(field.choices)}, ANY_OBJECT]}
        case schemas.Choice():
            return {"type": "string", "enum": list(field.choices)}
        case schemas.Messages():
            roles = {"type": "string", "enum": sorted(schemas.CHAT_ROLES)}
            message = an_object("role", role=roles, content=_content())
            return {"type": "array", "minItems": 1, "items": message}
        case schemas.Items():
            return {"type": "array", "maxItems": schemas.MOST_ITEMS_ADDED, "items": _input_item()}
        case schemas.Input():
            return {"anyOf": [TEXT, {"type": "array", "items": _input_item()}]}
        case schemas.Conversation():
            return {"anyOf": [TEXT, an_object("id", id=TEXT)]}
        case schemas.Stop():
            return {"anyOf": [TEXT, {"type": "array", "items": TEXT}]}
        case schemas.Metadata():
            text = {"type": "string", "maxLength": schemas.METADATA_VALUE}
            return {"type": "object", "maxProperties": schemas.METADATA_PAIRS, "additionalProperties": text}
        case schemas.Strings():
            return {"type": "array", "items": TEXT}
        case schemas.Array():
            return {"type": "array", "items": ANY_OBJECT}
        case schemas.Object():
            return dict(ANY_OBJECT)
        case schemas.Flag():
            return {"type": "boolean"}
        case schemas.String():
            return dict(TEXT)
    return {}


def _content() -> Schema:
    """A text, or parts; null beside calls of tools."""
    return or_null({"anyOf": [TEXT, {"type": "array", "items": an_object("type", type=TEXT, text=TEXT)}]})


def _input_item() -> Schema:
    return {
        "type": "object",
        "properties": {
            "type": TEXT,
            "role": {"type": "string", "enum": sorted(schemas.INPUT_ROLES)},
            "content": _content(),
        },
        "additionalProperties": True,
    }
