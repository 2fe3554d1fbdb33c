"""Files and their bytes, on each kind of store."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from flaskcompat.errors import NothingStored
from flaskcompat.stores import blobs as blobs_module
from flaskcompat.stores.blobs import Blobs
from flaskcompat.stores.files import FileStore, NoBytes
from flaskcompat.stores.records import Query, Records, StorageUnavailable

from .places import Clock


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture(params=["folder", "elsewhere"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A URL that bytes go to: of this machine, or one that fsspec speaks to."""
    return (tmp_path / "files").as_uri() if request.param == "folder" else f"memory://{tmp_path}"


@pytest.fixture
def store(records: Records, place: str, clock: Clock) -> FileStore:
    return FileStore(records, Blobs(place), max_age=0, most=None, clock=clock)


def put(store: FileStore, id: str, content: bytes = b"hello", owner: str = "alice", **more: Any) -> None:
    blob = store.begin()
    blob.write(content[:2])
    blob.write(content[2:])
    store.save(owner, {"id": id, "bytes": blob.size, "purpose": "user_data", **more}, "text/plain", blob)
    blob.discard()


def test_bytes_come_back(store: FileStore) -> None:
    put(store, "file-1")
    file = store.get("alice", "file-1")
    assert (file.size, file.content_type, file.sha256) == (5, "text/plain", hashlib.sha256(b"hello").hexdigest())
    with store.open(file) as stream:
        assert stream.read() == b"hello"
        stream.seek(1)
        assert stream.read(3) == b"ell"


def test_deleted_file_leaves_nothing(store: FileStore, tmp_path: Path) -> None:
    put(store, "file-1")
    file = store.get("alice", "file-1")
    with pytest.raises(NothingStored):
        store.delete("bob", "file-1")
    store.delete("alice", "file-1")
    with pytest.raises(NothingStored):
        store.get("alice", "file-1")
    with pytest.raises(StorageUnavailable):
        store.open(file)
    assert files_below(tmp_path / "files") == []


def test_what_is_not_kept_leaves_nothing(store: FileStore, tmp_path: Path) -> None:
    blob = store.begin()
    blob.write(b"half")
    blob.discard()
    blob.discard()
    assert files_below(tmp_path / "files") == []
    assert store.page(Query("file", "alice")).records == []


def test_same_id_again_takes_the_place_of_the_first(store: FileStore, tmp_path: Path) -> None:
    put(store, "file-1", b"first")
    put(store, "file-1", b"second")
    with store.open(store.get("alice", "file-1")) as stream:
        assert stream.read() == b"second"
    assert len(files_below(tmp_path / "files")) in (0, 1)


@pytest.mark.parametrize("id", ["", "../x", "a/b", "é", "x" * 129, "a\0"])
def test_id_that_is_none(store: FileStore, id: str) -> None:
    put(store, id)
    for call in (store.get, store.delete):
        with pytest.raises(NothingStored):
            call("alice", id)


def test_file_that_expires_goes_with_its_bytes(store: FileStore, clock: Clock, tmp_path: Path) -> None:
    put(store, "file-1", expires_at=int(clock.now) + 3600)
    put(store, "file-2")
    clock.now += 3600
    with pytest.raises(NothingStored):
        store.get("alice", "file-1")
    assert store.purge() == 1
    assert store.get("alice", "file-2").id == "file-2"
    assert len(files_below(tmp_path / "files")) in (0, 1)


def test_oldest_go_when_there_is_too_much(records: Records, tmp_path: Path, clock: Clock) -> None:
    store = FileStore(records, Blobs((tmp_path / "files").as_uri()), max_age=0, most=5000, clock=clock)
    for number in range(10):
        put(store, f"file-{number}", b"x" * 1000)
    store.purge()
    left = [record.id for record in store.page(Query("file", "alice")).records]
    assert left == [f"file-{number}" for number in (9, 8, 7, 6)][: len(left)] and left
    assert len(files_below(tmp_path / "files")) == len(left)


def test_bytes_that_are_kept_nowhere(records: Records) -> None:
    store = FileStore(records, None, max_age=0, most=None)
    store.save("alice", {"id": "file-1", "bytes": 5})
    with pytest.raises(NoBytes, match="FLASKCOMPAT_FILES_URL"):
        store.open(store.get("alice", "file-1"))


def test_left_overs_of_a_killed_process_are_swept(tmp_path: Path) -> None:
    blobs = Blobs(str(tmp_path))
    for _ in range(2):
        blob = blobs.create()
        blob.write(b"x")
        blob._file.close()
    lost, coming = files_below(tmp_path)
    os.utime(lost, times=(1, 1))
    blobs.sweep()
    assert files_below(tmp_path) == [coming]


def test_place_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageUnavailable):
        Blobs(f"{tmp_path}/file/folder").create()
    monkeypatch.setattr(blobs_module.os, "fsync", lambda descriptor: 1 / 0 if descriptor else None)
    blob = Blobs(str(tmp_path / "files")).create()
    with pytest.raises(StorageUnavailable):
        blob.keep()
    blob._file.close()


@pytest.mark.parametrize(
    ("url", "words"), [("s3://bucket", "flaskcompat\\[s3\\]"), ("nosuch://x", "must be a URL such as")]
)
def test_url_that_cannot_be_used(url: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ValueError, match=words):
        Blobs(url)
