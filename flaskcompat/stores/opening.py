"""The stores that the settings ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flaskcompat.stores.blobs import Blobs
from flaskcompat.stores.files import FileStore
from flaskcompat.stores.memory import MemoryRecords
from flaskcompat.stores.records import Records
from flaskcompat.stores.responses import ResponseStore

_DAY = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Stores:
    """What is kept for one application."""

    responses: ResponseStore
    files: FileStore

    @classmethod
    def in_memory(cls) -> Stores:
        """Stores that last as long as they are held."""
        return cls(ResponseStore(MemoryRecords(), 0.0, None), FileStore(MemoryRecords(), None, 0.0, None))

    def connect(self) -> None:
        """Connect now instead of at the first use.

        :raises CannotConnect: if the database cannot be opened.
        """
        self.responses.connect()  # files are in the same database

    def purge(self) -> int:
        """Delete what is too old or too much; gives how many records it was."""
        return self.responses.purge() + self.files.purge()

    def close(self) -> None:
        self.responses.close()
        self.files.close()


def open_stores(config: Mapping[str, Any]) -> Stores:
    """The stores that *config* asks for; nothing is connected to yet.

    :raises ValueError: for a setting that cannot be used, or needs a package that is not installed; names both.
    """
    database, files = config["FLASKCOMPAT_DATABASE_URL"], config["FLASKCOMPAT_FILES_URL"]
    if files is not None and database is None:
        raise ValueError("FLASKCOMPAT_FILES_URL needs FLASKCOMPAT_DATABASE_URL: files would be forgotten at the end")
    records = _database(database) if database is not None else None
    return Stores(
        ResponseStore(
            records or MemoryRecords(),
            config["FLASKCOMPAT_RESPONSES_MAX_DAYS"] * _DAY,
            config["FLASKCOMPAT_RESPONSES_MAX_BYTES"],
        ),
        FileStore(
            records or MemoryRecords(),
            _blobs(files) if files is not None else None,
            config["FLASKCOMPAT_FILES_MAX_DAYS"] * _DAY,
            config["FLASKCOMPAT_FILES_MAX_BYTES"],
        ),
    )


def _database(url: str) -> Records:
    try:
        from flaskcompat.stores.sql import SqlRecords
    except ImportError:
        raise ValueError("FLASKCOMPAT_DATABASE_URL needs SQLAlchemy 2: pip install 'flaskcompat[state]'") from None
    try:
        return SqlRecords(url)
    except ValueError as error:
        raise ValueError(f"FLASKCOMPAT_DATABASE_URL {error}") from None


def _blobs(url: str) -> Blobs:
    try:
        return Blobs(url)
    except ValueError as error:
        raise ValueError(f"FLASKCOMPAT_FILES_URL {error}") from None
