"""Responses that are made in the background: their begin."""

from __future__ import annotations

from functools import partial
from typing import Any

from flask import Response, current_app

from flaskcompat.blueprints import calls
from flaskcompat.blueprints.access import current_owner, current_principal, principal_for_run
from flaskcompat.blueprints.failures import failure, json_reply
from flaskcompat.blueprints.replies import admit, client_gone, replay
from flaskcompat.blueprints.requests import current_request
from flaskcompat.blueprints.run_context import RunContexts
from flaskcompat.errors import ShuttingDown, TryAgain
from flaskcompat.log import log, request_id
from flaskcompat.protocol.responses import ResponseMachine
from flaskcompat.runtime.admission import Left
from flaskcompat.runtime.background import Job
from flaskcompat.runtime.input_files import file_access
from flaskcompat.runtime.invoke import method_of
from flaskcompat.runtime.keys import name_of
from flaskcompat.runtime.registry import Model
from flaskcompat.runtime.run_context import run_contexts
from flaskcompat.runtime.state import State
from flaskcompat.runtime.watch import Limits
from flaskcompat.runtime.wrapper import Headers
from flaskcompat.stores.responses import Context

#: Seconds that a response may wait in a queue before it counts as lost.
QUEUE_PATIENCE = 3600.0
_SECRET = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})


class QueueUnavailable(TryAgain):
    status = 503
    code = "queue_unavailable"
    message = "The server cannot reach its queue at the moment."


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
    stream = bool(body.get("stream"))
    calls.note(model=model.name, surface="response", stream=stream)
    if state.admission.stopping:
        raise ShuttingDown
    state.background.check_room()
    # A client that is told to come again must not have begun anything.
    try:
        ticket = admit(state, None) if stream else None
    except Left:
        return client_gone()
    try:
        response = _begin(state, machine, model, method, payload, body, given, context)
    except BaseException:
        if ticket is not None:
            ticket.reader_done()
        raise
    return json_reply(response) if ticket is None else replay(state, current_owner(), machine.id, 0, ticket)


def _begin(
    state: State,
    machine: ResponseMachine,
    model: Model,
    method: str,
    payload: list[dict[str, Any]],
    body: dict[str, Any],
    given: list[dict[str, Any]],
    context: Context,
) -> dict[str, Any]:
    """Put the response into the store, and have it made, here or elsewhere; gives it as it is now."""
    config, owner, store = current_app.config, current_owner(), state.stores.responses
    frames = [machine.encode(event) for event in machine.queue()]
    response = machine.result()
    if state.send is not None:
        task = _task(body)
        store.begin(owner, response, given, context, "queue", frames, task=task, patience=QUEUE_PATIENCE)
        _send(state, owner, machine.id)
        return response
    headers = Headers(list(current_request().headers))  # what a request holds is gone when it is over
    job = Job(
        owner=owner,
        machine=machine,
        model=model,
        method=method,
        payload=payload,
        body=body,
        extras={"headers": lambda: headers, "principal": lambda: principal_for_run(state)},
        limits=Limits(total=config["FLASKCOMPAT_REQUEST_TIMEOUT"], between=config["FLASKCOMPAT_CHUNK_TIMEOUT"]),
        tell=partial(failure, label=f"{model.name}.{method}", tracebacks=config["FLASKCOMPAT_TRACEBACKS"]),
    )
    if (call := calls.current()) is not None:
        made = calls.Call(call.observers, model=model.name, surface="response", background=True, machine=machine)
        job.when_over = made.over_with
    store.begin(owner, response, given, context, state.background.worker, frames)
    with file_access(state.stores.files, owner, state.fetcher), run_contexts(RunContexts(request_waits=False).make):
        state.background.submit(store, job, config["FLASKCOMPAT_MAX_BACKGROUND"] or 1)
    return response


def _task(body: dict[str, Any]) -> dict[str, Any]:
    """What another process has to know of the current request; it is stored, so without what opens doors."""
    principal = current_principal()
    headers = [(name, value) for name, value in current_request().headers if name.lower() not in _SECRET]
    models = getattr(principal, "models", None)
    known = {"name": name_of(principal), "models": list(models) if models is not None else None}
    return {
        "body": body,
        "headers": headers,
        "principal": known if principal is not None else None,
        "request_id": request_id.get(),
    }


def _send(state: State, owner: str, id: str) -> None:
    assert state.send is not None
    try:
        state.send(owner, id)
    except Exception as error:
        log.opt(exception=error).error("a response could not be put into the queue")
        state.stores.responses.fail(id)
        raise QueueUnavailable from None
