"""What the document says of each view."""

from __future__ import annotations

from dataclasses import dataclass

from flaskcompat.blueprints.files import MOST_LISTED
from flaskcompat.blueprints.lists import MOST
from flaskcompat.contrib.openapi.shapes import COUNT, TEXT, Schema


@dataclass(frozen=True)
class Operation:
    """What the document says of a view.

    :param takes: the name of the schema of its body.
    :param gives: the name of the schema of its answer; None for bytes.
    :param streams: whether the answer may be an event stream.
    :param queries: further parameters, by their names.
    """

    summary: str
    gives: str | None
    takes: str | None = None
    streams: bool = False
    queries: tuple[str, ...] = ()


_PAGE = ("after", "limit", "order")
QUERIES: dict[str, tuple[Schema, str]] = {
    "after": (TEXT, "The id after which the page begins."),
    "limit": ({"type": "integer", "minimum": 1, "maximum": MOST}, "How many entries the page has at most."),
    "limit of files": (
        {"type": "integer", "minimum": 1, "maximum": MOST_LISTED},
        "How many entries the page has at most.",
    ),
    "order": ({"type": "string", "enum": ["asc", "desc"]}, "By the time of making."),
    "model": (TEXT, "Of this model alone."),
    "purpose": (TEXT, "Of this purpose alone."),
    "stream": ({"type": "boolean"}, "Follow a response that is made in the background."),
    "starting_after": (COUNT, "The sequence number after which the stream begins."),
}

#: By the name of each view.
OPERATIONS: dict[str, Operation] = {
    "list_models": Operation("List the models that can be asked.", "ModelList"),
    "retrieve_model": Operation("Tell of one model.", "Model"),
    "create_chat_completion": Operation(
        "Ask a model to answer a conversation, given as messages.", "ChatCompletion", "ChatCompletionRequest", True
    ),
    "list_chat_completions": Operation(
        "List the chat completions that were made with store.", "List", queries=(*_PAGE, "model")
    ),
    "retrieve_chat_completion": Operation("Give a stored chat completion.", "ChatCompletion"),
    "update_chat_completion": Operation(
        "Change the metadata of a stored chat completion.", "ChatCompletion", "MetadataRequest"
    ),
    "delete_chat_completion": Operation("Delete a stored chat completion.", "Deleted"),
    "list_chat_completion_messages": Operation(
        "List the messages that a stored chat completion answers.", "List", queries=_PAGE
    ),
    "create_response": Operation(
        "Ask a model to answer a text, or a list of items.", "Response", "ResponseRequest", True
    ),
    "retrieve_response": Operation(
        "Give a stored response.", "Response", streams=True, queries=("stream", "starting_after")
    ),
    "delete_response": Operation("Delete a stored response.", "Deleted"),
    "cancel_response": Operation("End a response that is made in the background.", "Response"),
    "list_input_items": Operation("List what a response answers.", "List", queries=_PAGE),
    "create_conversation": Operation("Begin a conversation.", "Conversation", "ConversationRequest"),
    "retrieve_conversation": Operation("Tell of a conversation.", "Conversation"),
    "update_conversation": Operation("Change the metadata of a conversation.", "Conversation", "MetadataRequest"),
    "delete_conversation": Operation("Delete a conversation.", "Deleted"),
    "create_conversation_items": Operation("Add items to a conversation.", "List", "ItemsRequest"),
    "list_conversation_items": Operation("List the items of a conversation.", "List", queries=_PAGE),
    "retrieve_conversation_item": Operation("Give an item of a conversation.", "Item"),
    "delete_conversation_item": Operation("Delete an item of a conversation.", "Conversation"),
    "upload_file": Operation("Upload a file.", "File", "FileUpload"),
    "list_files": Operation(
        "List the files that were uploaded.", "List", queries=("after", "limit of files", "order", "purpose")
    ),
    "retrieve_file": Operation("Tell of a file.", "File"),
    "retrieve_file_content": Operation("Give the bytes of a file.", None),
    "delete_file": Operation("Delete a file.", "Deleted"),
}
