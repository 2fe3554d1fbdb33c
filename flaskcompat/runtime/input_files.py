"""Stored files, for wrappers: by id, and as parts of Haystack messages."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import IO, Any

from haystack.dataclasses import ChatMessage

from flaskcompat.errors import NothingStored, RequestTooLarge
from flaskcompat.log import log
from flaskcompat.protocol import inputs
from flaskcompat.protocol.inputs import FoundFile
from flaskcompat.runtime.bridge import bridge
from flaskcompat.runtime.fetching import Fetcher
from flaskcompat.stores.files import FileStore, NoBytes, StoredFile

#: Bytes of a file that becomes part of a message.
MOST_INLINE = 32 * 2**20

_access: ContextVar[tuple[FileStore, str, Fetcher | None] | None] = ContextVar("flaskcompat_files", default=None)


class File:
    """A file that a client has uploaded.

    :ivar id: as the client knows it.
    :ivar size: in bytes.
    """

    def __init__(self, store: FileStore, stored: StoredFile) -> None:
        self._store = store
        self._stored = stored
        self.id = stored.id
        self.size = stored.size
        self.filename: str | None = stored.object.get("filename")
        self.purpose: str | None = stored.object.get("purpose")
        #: What the client said that it is, or what its name says.
        self.content_type: str | None = stored.content_type or mimetypes.guess_type(self.filename or "")[0]
        #: OpenAI's FileObject.
        self.object: dict[str, Any] = dict(stored.object)

    def open(self) -> IO[bytes]:
        """Its bytes, as a stream to be closed.

        :raises NoBytes: if they were not kept; clients get a 404 that says so.
        """
        return self._store.open(self._stored)

    def read(self) -> bytes:
        """All of its bytes; raises as :meth:`open`."""
        with self.open() as stream:
            return stream.read()

    def text(self, encoding: str = "utf-8") -> str:
        """Its bytes as text; what is none in *encoding* is replaced. Raises as :meth:`open`."""
        return self.read().decode(encoding, "replace")

    def __repr__(self) -> str:
        return f"File({self.id!r}, {self.size} bytes)"


@contextmanager
def file_access(store: FileStore, owner: str, fetcher: Fetcher | None = None) -> Iterator[None]:
    """Let the code below, and what is called in a copy of its context, see the files of *owner*.

    :param fetcher: gets what a request names by a URL.
    """
    token = _access.set((store, owner, fetcher))
    try:
        yield
    finally:
        _access.reset(token)


def get_file(file_id: str) -> File:
    """The uploaded file *file_id*, if it is of whoever made the current request.

    For ``run_`` methods and what they call, on any thread that Haystack or this package starts for them.

    :raises NothingStored: if there is none; clients get a 404.
    :raises RuntimeError: where no request is being answered.
    """
    access = _access.get()
    if access is None:
        raise RuntimeError("files can be had while a request is being answered")
    store, owner, _ = access
    return File(store, store.get(owner, file_id))


def chat_messages_from_openai_messages(messages: Iterable[Mapping[str, Any]]) -> list[ChatMessage]:
    """Chat Completions messages as Haystack messages.

    Text, tool calls and results, ``image_url`` data URLs and ``file`` parts, with data or with the id of an uploaded
    file, are converted; so is what they name by a URL that ``FLASKCOMPAT_FETCH_URLS`` allows, off the event loop. What
    has no Haystack form (another URL, audio) is named in the log and kept in the message's ``meta["openai_parts"]``.

    :raises NothingStored: for the id of a file that is not there, where files are kept; clients get a 404.
    :raises RequestTooLarge: for a file that is too large to be part of a message.
    :raises InvalidValue: for what is at none of the URLs allowed, just now; clients get a 400.
    """
    return inputs.chat_messages_from_openai_messages(messages, _find)


def chat_messages_from_openai_response(
    input_items: Iterable[Mapping[str, Any]], *, instructions: str | None = None
) -> list[ChatMessage]:
    """Responses input items as Haystack messages.

    Messages, ``function_call`` and ``custom_tool_call`` (consecutive ones become one assistant message) and their
    ``_output`` items (whose origin is the matching call) are converted, images and files as in
    :func:`chat_messages_from_openai_messages`, which also tells what is raised. Reasoning and items of other types have
    no place in a Haystack conversation and are left out; the log names the latter.

    :param instructions: the request's ``body.get("instructions")``, to become the first message, the system's.
    """
    return inputs.chat_messages_from_openai_response(input_items, _find, instructions=instructions)


def _find(reference: str) -> FoundFile | None:
    access = _access.get()
    if access is None:
        return None
    store, owner, fetcher = access
    if reference.startswith(("http://", "https://")):
        if fetcher is None or not fetcher.allows(reference):
            return None
        if bridge.on_loop_thread:
            log.warning("nothing is fetched on the event loop: convert the messages by asyncio.to_thread()")
            return None
        return fetcher.fetch(reference)
    try:
        file = File(store, store.get(owner, reference))
        if file.size > MOST_INLINE:
            log.info("a file of {} bytes is too large to be part of a message", file.size)
            raise RequestTooLarge(f"A file of more than {MOST_INLINE} bytes cannot be part of a message.")
        return FoundFile(file.read(), file.content_type, file.filename)
    except NoBytes:
        return None
    except NothingStored:
        if store.keeps_bytes:
            raise
        return None  # a wrapper may keep files of its own
