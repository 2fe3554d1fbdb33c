"""Writing a file whole, or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def write_whole(path: Path, data: bytes) -> None:
    """Put *data* in the place of *path*, whose mode and owner stay; a new file is for its owner alone.

    :raises OSError: if it cannot be; *path* is then as it was.
    """
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
        if path.exists():
            _keep_owner(path, temporary)
            shutil.copymode(path, temporary)
        temporary.replace(path)
    except BaseException:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise


def write_new(path: Path, data: bytes) -> None:
    """Put *data* into a new file that only its owner can read and write.

    :raises FileExistsError: if *path* is there, also as a link.
    :raises OSError: if it cannot be written; *path* is then not there.
    """
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        try:
            file.write(data)
            file.flush()
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def _keep_owner(path: Path, temporary: Path) -> None:
    """Give *temporary* the owner and group of *path*; on Windows all files have the same."""
    was, now = path.stat(), temporary.stat()
    if (was.st_uid, was.st_gid) != (now.st_uid, now.st_gid):
        os.chown(temporary, was.st_uid, was.st_gid)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes that ask for the same folder waiting; where there are no such locks, nothing does.

    The folder itself is locked: nothing is left behind, and the system ends the lock of a process that dies.

    :raises OSError: if the folder cannot be opened.
    """
    if fcntl is None:
        yield
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems lock no folders
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)
