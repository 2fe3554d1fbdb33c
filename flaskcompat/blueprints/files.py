"""``POST /v1/files``: uploads, which a wrapper's ``run_file_upload`` keeps, or nobody."""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from contextvars import copy_context
from tempfile import SpooledTemporaryFile
from typing import IO, Any, cast

from flask import Blueprint, Response, current_app, request
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.formparser import FormDataParser

from flaskcompat.blueprints.access import allowed_models, current_principal
from flaskcompat.blueprints.decoding import body_stream
from flaskcompat.blueprints.failures import failure, json_reply
from flaskcompat.blueprints.replies import admit, client_gone
from flaskcompat.errors import MissingParameter, UnsupportedMediaType, WrapperContractError
from flaskcompat.log import log
from flaskcompat.protocol.ids import new_id
from flaskcompat.runtime.admission import Left
from flaskcompat.runtime.bridge import bridge
from flaskcompat.runtime.registry import Model
from flaskcompat.runtime.state import State
from flaskcompat.runtime.wrapper import Headers, implements
from flaskcompat.schemas import FileObject

#: Limits of a multipart body: parts, and bytes of a field that is no file.
MAX_PARTS = 1000
MAX_FIELD_BYTES = 500_000
_IN_MEMORY = 1 << 20  # bytes of an upload kept in memory before it goes to a temporary file
NAME_LIMIT = 255
_NOT_IN_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

_schema = FileObject()


def make_blueprint(state: State) -> Blueprint:
    blueprint = Blueprint("files", __name__)

    @blueprint.post("/v1/files", provide_automatic_options=False)
    def upload_file() -> Response:
        request.max_content_length = current_app.config["FLASKCOMPAT_MAX_UPLOAD_BYTES"]
        keeper = next((model for model in allowed_models(state) if implements(model.wrapper, "run_file_upload")), None)
        with ExitStack() as opened:
            form, files = _parse(_spooled(opened) if keeper else _counted)
            return _uploaded(state, keeper, files.get("file"), form.get("purpose"))

    return blueprint


def _uploaded(state: State, keeper: Model | None, file: FileStorage | None, purpose: str | None) -> Response:
    if file is None:
        raise MissingParameter("file")
    if not purpose:
        raise MissingParameter("purpose")
    filename = label_of(file.filename)
    size = file.stream.seek(0, 2)
    own: dict[str, Any] = {}
    if keeper is None:
        log.warning("an uploaded file is not kept: no wrapper implements run_file_upload")
    else:
        file.stream.seek(0)
        try:
            ticket = admit(state, keeper)  # the wrapper may work on it for long
        except Left:
            return client_gone()
        try:
            kept = _keep(keeper, filename, file.content_type, file.stream.read(), purpose)
        finally:
            ticket.reader_done()
        own = {key: value for key, value in kept.items() if value is not None}
    described = {"id": new_id("file-"), "bytes": size, "created_at": int(time.time()), "filename": filename or "file"}
    described |= {"purpose": purpose, "status": "processed"}
    try:
        return json_reply({**own, **_schema.dump({**described, **own})})
    except (TypeError, ValueError) as error:
        raise failure(error, _label(keeper)) from None


def label_of(filename: str | None) -> str | None:
    """A client's file name as a label: the last part of a path, without control characters, 255 at most."""
    base = _NOT_IN_NAME.sub("", re.split(r"[/\\]", filename or "")[-1]).strip()
    return base[:NAME_LIMIT] if base not in ("", ".", "..") else None


def _parse(stream_factory: Callable[..., IO[bytes]]) -> tuple[MultiDict[str, str], MultiDict[str, FileStorage]]:
    """The form and its files, each in a stream of its own.

    :raises RequestEntityTooLarge: past the limits, raised by Werkzeug.
    """
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaType("Send the file as 'Content-Type: multipart/form-data'.")
    body = body_stream(request)
    length = request.content_length if body is request.stream else None
    parser = FormDataParser(
        stream_factory=stream_factory,
        max_content_length=request.max_content_length,
        max_form_memory_size=MAX_FIELD_BYTES,
        max_form_parts=MAX_PARTS,
        silent=False,
    )
    try:
        _, form, files = parser.parse(body, request.mimetype, length, request.mimetype_params)
    except ValueError:  # no boundary, or one that never comes
        raise UnsupportedMediaType("The multipart body is malformed.", status=400, code="invalid_multipart") from None
    return form, files


def _spooled(opened: ExitStack) -> Callable[..., IO[bytes]]:
    """Streams that keep what is written to them until *opened* is closed."""

    def make(*_: Any, **__: Any) -> IO[bytes]:
        return cast("IO[bytes]", opened.enter_context(SpooledTemporaryFile(_IN_MEMORY)))

    return make


def _counted(*_: Any, **__: Any) -> IO[bytes]:
    """A stream for content that nobody keeps: it is counted as it passes."""
    return cast("IO[bytes]", _Counter())


class _Counter:
    """Takes what is written to it and remembers how much it was."""

    def __init__(self) -> None:
        self._size = 0

    def write(self, data: bytes) -> int:
        self._size += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._size if whence == 2 else offset

    def close(self) -> None:
        pass


def _keep(
    model: Model, filename: str | None, content_type: str | None, content: bytes, purpose: str
) -> Mapping[str, Any]:
    extras = {"headers": Headers(request.headers), "principal": current_principal()}
    kwargs = {name: extras[name] for name in model.extras["run_file_upload"]}
    try:
        context = copy_context()
        kept = context.run(model.wrapper.run_file_upload, filename, content_type, content, purpose, **kwargs)
        if inspect.isawaitable(kept):
            kept = bridge.run(kept, context, model.name)
        if not isinstance(kept, Mapping):
            raise WrapperContractError(f"run_file_upload returned {type(kept).__name__}, not a dict")
    except BaseException as error:
        raise failure(error, _label(model)) from None
    return kept


def _label(model: Model | None) -> str:
    return f"{model.name}.run_file_upload" if model else "upload"
