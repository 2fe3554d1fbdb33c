"""What the API answers with, as JSON Schema: what clients may count on."""

from __future__ import annotations

from flaskcompat.contrib.openapi.shapes import ANY_OBJECT, COUNT, TEXT, Schema, an_object, reference

_ITEM: Schema = {"type": "object", "properties": {"id": TEXT, "type": TEXT}, "additionalProperties": True}

#: By the names of the document's components.
ANSWERS: dict[str, Schema] = {
    "Model": an_object("id object created owned_by", id=TEXT, object={"const": "model"}, created=COUNT, owned_by=TEXT),
    "ModelList": an_object(
        "object data",
        object={"const": "list"},
        data={"type": "array", "items": reference("Model")},
    ),
    "ChatCompletion": an_object(
        "id object created model choices usage",
        id=TEXT,
        object={"const": "chat.completion"},
        created=COUNT,
        model=TEXT,
        choices={
            "type": "array",
            "items": an_object(
                "index message finish_reason",
                index=COUNT,
                message=an_object(
                    "role content",
                    role={"const": "assistant"},
                    content={"type": ["string", "null"]},
                    reasoning_content=TEXT,
                    tool_calls={"type": "array", "items": ANY_OBJECT},
                    annotations={"type": "array", "items": ANY_OBJECT},
                ),
                finish_reason={"type": "string", "enum": ["stop", "length", "content_filter", "tool_calls"]},
            ),
        },
        usage=ANY_OBJECT,
    ),
    "Response": an_object(
        "id object created_at model status output",
        id=TEXT,
        object={"const": "response"},
        created_at={"type": "number"},
        model=TEXT,
        status={
            "type": "string",
            "enum": ["completed", "failed", "in_progress", "cancelled", "queued", "incomplete"],
        },
        output={"type": "array", "items": reference("Item")},
        usage={"type": ["object", "null"], "additionalProperties": True},
        error={"type": ["object", "null"], "additionalProperties": True},
    ),
    "Item": _ITEM,
    "Conversation": an_object(
        "id object created_at metadata",
        id=TEXT,
        object={"const": "conversation"},
        created_at=COUNT,
        metadata=ANY_OBJECT,
    ),
    "List": an_object(
        "object data first_id last_id has_more",
        object={"const": "list"},
        data={"type": "array", "items": ANY_OBJECT},
        first_id={"type": ["string", "null"]},
        last_id={"type": ["string", "null"]},
        has_more={"type": "boolean"},
    ),
    "Deleted": an_object("id object deleted", id=TEXT, object=TEXT, deleted={"const": True}),
    "FileUpload": an_object(
        "file purpose",
        file={"type": "string", "contentMediaType": "application/octet-stream"},
        purpose=TEXT,
    ),
    "Error": an_object(
        "error",
        error=an_object(
            "message type param code",
            message=TEXT,
            type=TEXT,
            param={"type": ["string", "null"]},
            code={"type": ["string", "null"]},
        ),
    ),
}
