"""``/v1/files``: uploads, which a store keeps, and a wrapper's ``run_file_upload``."""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack
from contextvars import copy_context
from tempfile import SpooledTemporaryFile
from typing import IO, Any, cast

from flask import Response, current_app, request

from flaskcompat.blueprints.access import allowed_models, current_owner, principal_for_run
from flaskcompat.blueprints.decoding import body_stream
from flaskcompat.blueprints.failures import failure, json_reply
from flaskcompat.blueprints.lists import asked, page_reply
from flaskcompat.blueprints.multipart import Form, Upload, read_form
from flaskcompat.blueprints.replies import admit, client_gone
from flaskcompat.blueprints.requests import current_state
from flaskcompat.blueprints.routes import Routes
from flaskcompat.blueprints.run_context import RunContexts
from flaskcompat.errors import (
    InvalidValue,
    MissingParameter,
    UnsupportedMediaType,
    WrapperContractError,
)
from flaskcompat.log import log
from flaskcompat.protocol.ids import new_id
from flaskcompat.runtime.admission import Left
from flaskcompat.runtime.bridge import bridge
from flaskcompat.runtime.input_files import file_access
from flaskcompat.runtime.invoke import Extras
from flaskcompat.runtime.registry import Model
from flaskcompat.runtime.run_context import RunContext, TaskContext, make_run_context, run_contexts
from flaskcompat.runtime.state import State
from flaskcompat.runtime.wrapper import Headers, implements
from flaskcompat.schemas import FileObject
from flaskcompat.stores.blobs import NewBlob
from flaskcompat.stores.files import FileStore
from flaskcompat.stores.records import Query

NAME_LIMIT = 255
#: Files that a page of their list has at most, and by default.
MOST_LISTED = 10_000
# Seconds after which a file may be asked to go.
_LEAST_EXPIRY, _MOST_EXPIRY = 3600, 30 * 24 * 3600
_IN_MEMORY = 1 << 20  # bytes of an upload kept in memory before it goes to a temporary file
_PIECE = 256 * 1024  # what is read of a file at once
_NOT_IN_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

_schema = FileObject()


routes = Routes()


@routes.post("/v1/files")
def upload_file() -> Response:
    state = current_state()
    keeper = next((model for model in allowed_models(state) if implements(model.wrapper, "run_file_upload")), None)
    with ExitStack() as opened:
        return _uploaded(state, keeper, _read_form(_contents(state.stores.files, keeper, opened)))


@routes.get("/v1/files")
def list_files() -> Response:
    state = current_state()
    purpose = request.args.get("purpose") or None
    query = asked(Query("file", current_owner(), label=purpose, limit=MOST_LISTED), MOST_LISTED)
    return page_reply(state.stores.files.page, query, lambda record: record.body["object"])


@routes.get("/v1/files/<id>")
def retrieve_file(id: str) -> Response:
    state = current_state()
    return json_reply(state.stores.files.get(current_owner(), id).object)


@routes.get("/v1/files/<id>/content")
def retrieve_file_content(id: str) -> Response:
    state = current_state()
    file = state.stores.files.get(current_owner(), id)
    content = state.stores.files.open(file)
    # Whatever the client said that it is: a browser shall neither run it nor guess.
    response = Response(_Content(content), content_type="application/octet-stream")
    response.headers.update({"Content-Disposition": "attachment", "X-Content-Type-Options": "nosniff"})
    response.content_length = file.size
    if file.sha256 is not None:
        response.set_etag(file.sha256)
    return cast("Response", response.make_conditional(request, accept_ranges=True, complete_length=file.size))


@routes.delete("/v1/files/<id>")
def delete_file(id: str) -> Response:
    state = current_state()
    state.stores.files.delete(current_owner(), id)
    return json_reply({"id": id, "object": "file", "deleted": True})


class _Content:
    """A file's bytes as a response sends them, from any place on."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seekable, self.seek, self.tell, self.close = file.seekable, file.seek, file.tell, file.close

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        data = self._file.read(_PIECE)
        if not data:
            raise StopIteration
        return data


class _Incoming:
    """The content of an upload as it comes: counted, written to a store, held for a wrapper."""

    def __init__(self, blob: NewBlob | None, held: IO[bytes] | None) -> None:
        self.blob = blob
        self.held = held
        self.size = 0

    def write(self, data: bytes) -> int:
        self.size += len(data)
        if self.blob is not None:
            self.blob.write(data)
        if self.held is not None:
            self.held.write(data)
        return len(data)


def _contents(store: FileStore, keeper: Model | None, opened: ExitStack) -> Callable[[str], IO[bytes]]:
    """Makes what the content of an upload is written to; what is not kept goes when *opened* is closed."""
    seen: set[str] = set()

    def make(name: str) -> IO[bytes]:
        blob = held = None
        is_wanted = name == "file" and name not in seen
        seen.add(name)
        if not is_wanted:
            return cast("IO[bytes]", _Incoming(None, None))
        if store.keeps_bytes:
            blob = store.begin()
            opened.callback(blob.discard)
        if keeper is not None:
            held = cast("IO[bytes]", opened.enter_context(SpooledTemporaryFile(_IN_MEMORY)))
        return cast("IO[bytes]", _Incoming(blob, held))

    return make


def _uploaded(state: State, keeper: Model | None, form: Form) -> Response:
    file: Upload | None = form.files.get("file")
    purpose = form.fields.get("purpose")
    if file is None:
        raise MissingParameter("file")
    if not purpose:
        raise MissingParameter("purpose")
    if "\0" in purpose:
        raise InvalidValue("Invalid 'purpose': it holds a NUL.", param="purpose")
    expires_after = _expires_after(form.fields)
    filename = label_of(file.filename)
    content = cast("_Incoming", file.content)
    own: dict[str, Any] = {}
    if keeper is not None:
        try:
            ticket = admit(state, keeper)  # the wrapper may work on it for long
        except Left:
            return client_gone()
        try:
            assert content.held is not None
            content.held.seek(0)
            with (
                file_access(state.stores.files, current_owner()),
                RunContexts(request_waits=True) as contexts,
                run_contexts(contexts.make),
            ):
                kept = _keep(state, keeper, filename, file.content_type, content.held.read(), purpose)
        finally:
            ticket.reader_done()
        own = {key: value for key, value in kept.items() if value is not None}
    elif content.blob is None:
        log.warning("the content of an upload is not kept: there is no run_file_upload, and no FLASKCOMPAT_FILES_URL")
    now = int(time.time())
    described = {"id": new_id("file-"), "bytes": content.size, "created_at": now, "filename": filename or "file"}
    described |= {"purpose": purpose, "status": "processed"}
    if expires_after is not None:
        described["expires_at"] = now + expires_after
    try:
        answer = {**own, **_schema.dump({**described, **own})}
        state.stores.files.save(current_owner(), answer, file.content_type, content.blob)
        return json_reply(answer)
    except (TypeError, ValueError) as error:
        raise failure(error, _label(keeper)) from None


def _expires_after(fields: Mapping[str, str]) -> int | None:
    """``expires_after`` in seconds, as a form says it."""
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise InvalidValue("Invalid 'expires_after.anchor': it must be 'created_at'.", param="expires_after.anchor")
    if seconds is None:
        raise MissingParameter("expires_after.seconds")
    if not (seconds.isascii() and seconds.isdigit() and _LEAST_EXPIRY <= int(seconds[:9]) <= _MOST_EXPIRY):
        raise InvalidValue(
            f"Invalid 'expires_after.seconds': it must be from {_LEAST_EXPIRY} to {_MOST_EXPIRY}.",
            param="expires_after.seconds",
        )
    return int(seconds)


def label_of(filename: str | None) -> str | None:
    """A client's file name as a label: the last part of a path, without control characters, 255 at most."""
    base = _NOT_IN_NAME.sub("", re.split(r"[/\\]", filename or "")[-1]).strip()
    return base[:NAME_LIMIT] if base not in ("", ".", "..") else None


def _read_form(make_content: Callable[[str], IO[bytes]]) -> Form:
    """The request's form, each of its files in a stream of its own."""
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaType("Send the file as 'Content-Type: multipart/form-data'.")
    body = body_stream(request, current_app.config["FLASKCOMPAT_MAX_UPLOAD_BYTES"])
    return read_form(body, request.mimetype_params.get("boundary"), make_content)


def _keep(
    state: State, model: Model, filename: str | None, content_type: str | None, content: bytes, purpose: str
) -> Mapping[str, Any]:
    extras: Extras = {"headers": lambda: Headers(request.headers), "principal": lambda: principal_for_run(state)}
    kwargs = {name: extras[name]() for name in model.extras["run_file_upload"]}
    try:
        context = copy_context()
        kept = context.run(model.wrapper.run_file_upload, filename, content_type, content, purpose, **kwargs)
        if inspect.isawaitable(kept):
            kept = bridge.run(_awaited(kept, TaskContext(make_run_context())), context, model.name)
        if not isinstance(kept, Mapping):
            raise WrapperContractError(f"run_file_upload returned {type(kept).__name__}, not a dict")
    except BaseException as error:
        raise failure(error, _label(model)) from None
    return kept


async def _awaited(result: Awaitable[Any], surroundings: RunContext) -> Any:
    with surroundings:
        return await result


def _label(model: Model | None) -> str:
    return f"{model.name}.run_file_upload" if model else "upload"
