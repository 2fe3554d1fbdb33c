"""Uploaded files: what is known of each, and its bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

from flaskcompat.errors import NotFound, NothingStored
from flaskcompat.log import log
from flaskcompat.protocol import sse
from flaskcompat.stores.blobs import Blobs, NewBlob
from flaskcompat.stores.records import Page, Query, Record, Records, StorageUnavailable, is_id
from flaskcompat.stores.retention import Retention


class NoBytes(NotFound):
    """A file is known, and its bytes were not kept."""

    code = "file_content_not_stored"
    message = "The content of this file was not kept: set FLASKCOMPAT_FILES_URL on the server to keep what is uploaded."


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that is known.

    :param object: OpenAI's FileObject.
    :param blob: name of its bytes, None where there are none.
    :param sha256: of its bytes, in hex digits.
    :param size: of its bytes, where they are kept; a wrapper may say something else of them.
    """

    object: dict[str, Any]
    content_type: str | None
    blob: str | None
    sha256: str | None
    size: int

    @property
    def id(self) -> str:
        return str(self.object["id"])


class FileStore:
    """What is kept of files, each for its owner alone.

    Methods that look something up raise :class:`~flaskcompat.errors.NothingStored` where it is not there, all of them
    :class:`~flaskcompat.stores.records.StorageUnavailable`.

    :param blobs: where bytes are kept; None: nowhere.
    :param max_age: seconds for which a file is kept; 0: until it is deleted.
    :param most: bytes that all of them may take; None: any number.
    :param clock: gives seconds since the epoch.
    """

    def __init__(
        self,
        records: Records,
        blobs: Blobs | None,
        max_age: float,
        most: int | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._records = records
        self._blobs = blobs
        self._retention = Retention(records, ("file",), max_age, most, self._remove_bytes, self._sweep, clock=clock)
        self._clock = clock

    @property
    def keeps_bytes(self) -> bool:
        return self._blobs is not None

    def begin(self) -> NewBlob:
        """Bytes to be written; only where they are kept."""
        assert self._blobs is not None
        return self._blobs.create()

    def save(
        self, owner: str, object: Mapping[str, Any], content_type: str | None = None, blob: NewBlob | None = None
    ) -> None:
        """Keep a file.

        :param object: OpenAI's FileObject; ``expires_at`` in it is when the file is to go.
        :param blob: its bytes, written and not yet kept.
        """
        id = object["id"]
        if not is_id(id):
            log.warning("a file is not remembered: its id, made by the wrapper, is none to be asked for")
            return
        now = self._clock()
        own, general = object.get("expires_at"), self._retention.expiry(now)
        ends = [end for end in (own if isinstance(own, int | float) else None, general) if end is not None]
        body = {
            "object": dict(object),
            "content_type": content_type,
            "blob": blob and blob.name,
            "sha256": blob and blob.sha256,
            "size": blob.size if blob is not None else 0,
        }
        record = Record(
            id=id,
            kind="file",
            owner=owner,
            text=sse.dumps(body),
            label=str(object.get("purpose")),
            size=blob.size if blob is not None else 0,
            created_at=now,
            expires_at=min(ends, default=None),
        )
        known = self._records.get("file", owner, id)
        if blob is not None:
            blob.keep()
        try:
            self._records.save([record])
        except BaseException:
            self._remove_bytes([record])
            raise
        if known is not None:  # a wrapper gave the same id again
            self._remove_bytes([known])
        self._retention.tidy()

    def get(self, owner: str, id: str) -> StoredFile:
        record = self._records.get("file", owner, id) if is_id(id) else None
        if record is None:
            raise NothingStored("file")
        return _stored(record)

    def page(self, query: Query) -> Page:
        """Records whose bodies hold the ``object``."""
        return self._records.page(query)

    def open(self, file: StoredFile) -> IO[bytes]:
        """The bytes of *file*, to be read from any place.

        :raises NoBytes: if they were not kept.
        """
        if file.blob is None or self._blobs is None:
            raise NoBytes
        try:
            return self._blobs.open(file.blob)
        except FileNotFoundError:
            log.error("the bytes of a file are not where they were put")
            raise StorageUnavailable from None

    def delete(self, owner: str, id: str) -> None:
        record = self._records.get("file", owner, id) if is_id(id) else None
        if record is None or not self._records.delete("file", owner, id):
            raise NothingStored("file")
        self._remove_bytes([record])

    def purge(self) -> int:
        """Delete what is too old or too much; gives how many files it was."""
        self._sweep()
        return self._retention.purge()

    def close(self) -> None:
        self._records.close()

    def _sweep(self) -> None:
        if self._blobs is not None:
            self._blobs.sweep()

    def _remove_bytes(self, records: list[Record]) -> None:
        for record in records:
            blob = _stored(record).blob
            if blob is not None and self._blobs is not None:
                try:
                    self._blobs.remove(blob)
                except StorageUnavailable:  # logged; nobody sees them any more
                    pass


def _stored(record: Record) -> StoredFile:
    body = record.body
    size = body["size"] if body["blob"] is not None else int(body["object"]["bytes"])
    return StoredFile(body["object"], body["content_type"], body["blob"], body["sha256"], size)
