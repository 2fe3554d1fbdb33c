"""Stored files in the hands of wrappers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from haystack.dataclasses import FileContent, ImageContent

from flaskcompat import chat_messages_from_openai_messages, chat_messages_from_openai_response, get_file
from flaskcompat.errors import NothingStored, RequestTooLarge
from flaskcompat.runtime import input_files
from flaskcompat.runtime.input_files import file_access
from flaskcompat.stores.blobs import Blobs
from flaskcompat.stores.files import FileStore, NoBytes
from flaskcompat.stores.memory import MemoryRecords


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    made = FileStore(MemoryRecords(), Blobs(str(tmp_path)), max_age=0, most=None)
    for id, filename, content in (("file-1", "a.pdf", b"%PDF"), ("file-2", "b.png", b"\x89PNG")):
        blob = made.begin()
        blob.write(content)
        made.save("alice", {"id": id, "bytes": len(content), "filename": filename, "purpose": "user_data"}, None, blob)
    return made


def items(part: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "input_text", "text": "see"}, part]}]


def test_file_of_whoever_asks(store: FileStore) -> None:
    with file_access(store, "alice"):
        file = get_file("file-1")
        assert (file.id, file.filename, file.size, file.content_type) == ("file-1", "a.pdf", 4, "application/pdf")
        assert (file.read(), file.text(), file.purpose) == (b"%PDF", "%PDF", "user_data")
        assert "file-1" in repr(file)
        with file.open() as stream:
            stream.seek(1)
            assert stream.read(2) == b"PD"
        with pytest.raises(NothingStored):
            get_file("file-9")
    with file_access(store, "bob"), pytest.raises(NothingStored):
        get_file("file-1")
    with pytest.raises(RuntimeError):
        get_file("file-1")


def test_files_become_parts_of_messages(store: FileStore) -> None:
    with file_access(store, "alice"):
        [message] = chat_messages_from_openai_response(items({"type": "input_file", "file_id": "file-1"}))
        assert isinstance(message._content[1], FileContent)
        assert message._content[1].filename == "a.pdf" and message._content[1].base64_data == "JVBERg=="
        [message] = chat_messages_from_openai_response(items({"type": "input_image", "file_id": "file-2"}))
        assert isinstance(message._content[1], ImageContent) and message._content[1].mime_type == "image/png"
        [message] = chat_messages_from_openai_messages(items({"type": "file", "file": {"file_id": "file-1"}}))
        assert isinstance(message._content[1], FileContent)


def test_file_that_is_not_there(store: FileStore) -> None:
    part = items({"type": "input_file", "file_id": "file-9"})
    with file_access(store, "alice"), pytest.raises(NothingStored):
        chat_messages_from_openai_response(part)
    # Where nothing is kept, a wrapper may have kept it.
    for access in (FileStore(MemoryRecords(), None, max_age=0, most=None), None):
        if access is None:
            [message] = chat_messages_from_openai_response(part)
        else:
            with file_access(access, "alice"):
                [message] = chat_messages_from_openai_response(part)
        assert message.meta["openai_parts"] == [{"type": "input_file", "file_id": "file-9"}]


def test_file_without_its_bytes() -> None:
    store = FileStore(MemoryRecords(), None, max_age=0, most=None)
    store.save("alice", {"id": "file-1", "bytes": 4})
    with file_access(store, "alice"):
        with pytest.raises(NoBytes):
            get_file("file-1").read()
        [message] = chat_messages_from_openai_response(items({"type": "input_file", "file_id": "file-1"}))
        assert message.meta["openai_parts"]


def test_file_that_is_too_large_for_a_message(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_files, "MOST_INLINE", 3)
    with file_access(store, "alice"), pytest.raises(RequestTooLarge):
        chat_messages_from_openai_response(items({"type": "input_file", "file_id": "file-1"}))
