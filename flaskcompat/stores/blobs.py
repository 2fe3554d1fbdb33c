"""The bytes of files, wherever fsspec can put them."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from typing import IO, Any
from urllib.parse import urlsplit

from flaskcompat.log import log
from flaskcompat.stores.records import StorageUnavailable

# Where a local file is as long as it is not whole.
_INCOMING = "incoming"
# What is left there by a process that was killed is removed when it is older than this, in seconds.
_LEFT_OVER = 24 * 3600.0
_EXTRAS = {"s3": "s3", "s3a": "s3"}


class Blobs:
    """A folder or a bucket of bytes, each under a name that is made here.

    :param url: such as ``file:///var/lib/files`` or ``s3://bucket/folder``; a path is a folder.
    :raises ValueError: for one that cannot be used; it does not repeat the text, which may hold a password.
    """

    def __init__(self, url: str) -> None:
        try:
            import fsspec
        except ImportError:
            raise ValueError("needs fsspec: pip install 'flaskcompat[state]'") from None
        scheme = urlsplit(url).scheme
        try:
            fs, root = fsspec.core.url_to_fs(url)
        except ImportError:
            extra = _EXTRAS.get(scheme)
            hint = f": pip install 'flaskcompat[{extra}]'" if extra else ""
            raise ValueError(f"needs the fsspec driver for {scheme}:{hint or ' install it'}") from None
        except ValueError:
            raise ValueError("must be a URL such as file:///folder or s3://bucket/folder") from None
        self._url, self._made = url, (os.getpid(), fs)
        self._root = root.rstrip("/")
        protocol = fs.protocol
        #: Whether they are files of this machine.
        self.is_local = "file" in ((protocol,) if isinstance(protocol, str) else protocol)

    @property
    def _fs(self) -> Any:
        pid, fs = self._made
        if pid != os.getpid():  # those that have threads of their own do not work in a forked child
            import fsspec

            fs, _ = fsspec.core.url_to_fs(self._url, skip_instance_cache=True)
            self._made = os.getpid(), fs
        return fs

    def create(self) -> NewBlob:
        """A new one, to be written piece by piece. Until its ``keep()`` it is not there.

        :raises StorageUnavailable: if that cannot be done.
        """
        name = secrets.token_hex(16)
        final = self._path(name)
        with _told():
            if not self.is_local:
                # An object appears when it is closed, whole.
                return NewBlob(final, name, self._fs.open(final, "wb"), None)
            os.makedirs(f"{self._root}/{_INCOMING}", exist_ok=True)
            path = f"{self._root}/{_INCOMING}/{name}"
            return NewBlob(final, name, open(path, "wb"), path)

    def open(self, name: str) -> IO[bytes]:
        """The bytes *name*, to be read from any place.

        :raises FileNotFoundError: if they are not there.
        :raises StorageUnavailable: if that cannot be found out.
        """
        with _told():
            file: IO[bytes] = self._fs.open(self._path(name), "rb")
            return file

    def remove(self, name: str) -> None:
        """Remove the bytes *name*; nothing happens where they are not there."""
        with _told():
            try:
                self._fs.rm_file(self._path(name))
            except FileNotFoundError:
                pass

    def sweep(self) -> None:
        """Remove what uploads have left that ended with their process."""
        folder = f"{self._root}/{_INCOMING}"
        if not self.is_local or not os.path.isdir(folder):
            return
        for entry in os.scandir(folder):
            if entry.is_file() and entry.stat().st_mtime < time.time() - _LEFT_OVER:
                os.unlink(entry.path)

    def _path(self, name: str) -> str:
        # In folders of moderate size.
        return f"{self._root}/{name[:2]}/{name}"


class NewBlob:
    """Bytes that are being written; counted and summed up as they pass.

    :param final: their path when they are whole.
    :param path: their path until then; None where nobody sees them until then.
    """

    def __init__(self, final: str, name: str, file: Any, path: str | None) -> None:
        self.name = name
        self._final = final
        self._file = file
        self._path = path
        self._sum = hashlib.sha256()
        self.size = 0
        self._is_over = False

    @property
    def sha256(self) -> str:
        return self._sum.hexdigest()

    def write(self, data: bytes) -> int:
        with _told():
            self._file.write(data)
        self._sum.update(data)
        self.size += len(data)
        return len(data)

    def keep(self) -> None:
        """Make it last, whole: after this it is there even if the machine stops.

        :raises StorageUnavailable: if it is not.
        """
        with _told():
            if self._path is None:
                self._file.close()
                self._is_over = True
                return
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            folder = os.path.dirname(self._final)
            os.makedirs(folder, exist_ok=True)
            os.replace(self._path, self._final)
            self._is_over = True
            _sync_folder(folder)

    def discard(self) -> None:
        """Leave nothing of it, unless it is kept; may be called in any case."""
        if self._is_over:
            return
        self._is_over = True
        try:
            if self._path is None:
                self._file.discard()
            else:
                self._file.close()
                os.unlink(self._path)
        except Exception as error:  # what it was about has failed already
            log.opt(exception=error).warning("an upload that was not finished could not be removed")


class _told:
    """Turns what a file system raises into :class:`StorageUnavailable`, and logs it."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, FileNotFoundError) or not isinstance(error, Exception):
            return
        log.opt(exception=error).error("the files' place did not answer in order")
        raise StorageUnavailable from None


def _sync_folder(path: str) -> None:
    """Make a new name in the folder *path* last."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # Windows
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
