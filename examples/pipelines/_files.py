"""Uploaded files in a folder of this server, each under an id that is made here."""

import atexit
import json
import os
import re
import shutil
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from flaskcompat import APIError

_FILE_ID = re.compile(r"file-[0-9a-f]{32}")


class FileFolder:
    """Files and what was said about them; no path here is ever made from a client's text."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, filename: str | None, content_type: str | None, content: bytes, purpose: str) -> dict[str, Any]:
        """Keep *content*; gives OpenAI's file object."""
        file_id = f"file-{uuid.uuid4().hex}"
        described = {
            "id": file_id,
            "object": "file",
            "bytes": len(content),
            "created_at": int(time.time()),
            "filename": filename or "file",
            "purpose": purpose,
        }
        (self._folder / file_id).write_bytes(content)
        about = json.dumps({**described, "content_type": content_type})
        (self._folder / f"{file_id}.json").write_text(about, encoding="utf-8")
        return described

    def read(self, file_id: object) -> bytes:
        """The content of a file.

        :raises APIError: for an id that was never given out; the client is told so with a 404.
        """
        if isinstance(file_id, str) and _FILE_ID.fullmatch(file_id):
            path = self._folder / file_id
            if path.is_file():
                return path.read_bytes()
        raise APIError("There is no such file.", status=404, type="invalid_request_error", code="not_found")


def _open() -> FileFolder:
    """The folder in ``EXAMPLE_FILES_DIR``, else a new one that goes with this process."""
    if named := os.environ.get("EXAMPLE_FILES_DIR"):
        Path(named).mkdir(parents=True, exist_ok=True)
        return FileFolder(Path(named))
    folder = tempfile.mkdtemp(prefix="flaskcompat-example-files-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return FileFolder(Path(folder))


#: The one folder that all wrappers share.
files = _open()
