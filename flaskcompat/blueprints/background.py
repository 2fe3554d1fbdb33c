"""Responses that are made in the background: their begin."""

from __future__ import annotations

from functools import partial
from typing import Any

from flask import Response, current_app

from flaskcompat.blueprints import audit
from flaskcompat.blueprints.access import current_owner, current_principal
from flaskcompat.blueprints.failures import failure, json_reply
from flaskcompat.blueprints.replies import replay
from flaskcompat.blueprints.requests import current_request
from flaskcompat.errors import ShuttingDown
from flaskcompat.protocol.responses import ResponseMachine
from flaskcompat.runtime.background import Job
from flaskcompat.runtime.input_files import file_access
from flaskcompat.runtime.invoke import method_of
from flaskcompat.runtime.registry import Model
from flaskcompat.runtime.state import State
from flaskcompat.runtime.watch import Limits
from flaskcompat.runtime.wrapper import Headers
from flaskcompat.stores.responses import Context


def make_in_background(
    state: State,
    machine: ResponseMachine,
    model: Model,
    payload: list[dict[str, Any]],
    body: dict[str, Any],
    given: list[dict[str, Any]],
    context: Context,
) -> Response:
    """Have a response made in the background; gives it as it is at its begin, or follows it.

    :param given: the items that it gets beside its *context*; *payload* is both.
    :raises APIError: if it cannot be begun.
    """
    method = method_of(model, "response")
    config, stream = current_app.config, bool(body.get("stream"))
    audit.note(model=model.name, surface="response", stream=stream)
    if state.admission.stopping:
        raise ShuttingDown
    state.background.check_room()
    owner, store = current_owner(), state.stores.responses
    job = Job(
        owner=owner,
        machine=machine,
        model=model,
        method=method,
        payload=payload,
        body=body,
        # What a request holds is gone when it is over.
        extras={"headers": Headers(list(current_request().headers)), "principal": current_principal()},
        limits=Limits(total=config["FLASKCOMPAT_REQUEST_TIMEOUT"], between=config["FLASKCOMPAT_CHUNK_TIMEOUT"]),
        tell=partial(failure, label=f"{model.name}.{method}", tracebacks=config["FLASKCOMPAT_TRACEBACKS"]),
    )
    frames = [machine.encode(event) for event in machine.queue()]
    response = machine.result()
    store.begin(owner, response, given, context, state.background.worker, frames)
    with file_access(state.stores.files, owner):
        state.background.submit(store, job, config["FLASKCOMPAT_MAX_BACKGROUND"] or 1)
    return replay(state, owner, machine.id, 0) if stream else json_reply(response)
