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

from flaskcompat.blueprints.access import allowed_models, current_principal
from flaskcompat.blueprints.decoding import body_stream
from flaskcompat.blueprints.failures import failure, json_reply
from flaskcompat.blueprints.multipart import Form, Upload, read_form
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
            form = _read_form(_spooled(opened) if keeper else _counted)
            return _uploaded(state, keeper, form.files.get("file"), form.fields.get("purpose"))

    return blueprint


def _uploaded(state: State, keeper: Model | None, file: Upload | None, purpose: str | None) -> Response:
    if file is None:
        raise MissingParameter("file")
    if not purpose:
        raise MissingParameter("purpose")
    filename = label_of(file.filename)
    size = file.content.seek(0, 2)
    own: dict[str, Any] = {}
    if keeper is None:
        log.warning("an uploaded file is not kept: no wrapper implements run_file_upload")
    else:
        file.content.seek(0)
        try:
            ticket = admit(state, keeper)  # the wrapper may work on it for long
        except Left:
            return client_gone()
        try:
            kept = _keep(keeper, filename, file.content_type, file.content.read(), purpose)
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


def _read_form(make_content: Callable[[], IO[bytes]]) -> Form:
    """The request's form, each of its files in a stream of its own."""
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaType("Send the file as 'Content-Type: multipart/form-data'.")
    return read_form(body_stream(request), request.mimetype_params.get("boundary"), make_content)


def _spooled(opened: ExitStack) -> Callable[[], IO[bytes]]:
    """Streams that keep what is written to them until *opened* is closed."""

    def make() -> IO[bytes]:
        return cast("IO[bytes]", opened.enter_context(SpooledTemporaryFile(_IN_MEMORY)))

    return make


def _counted() -> IO[bytes]:
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
