"""From a request to the response: a stream of events, or one whole answer, out of the same machine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf
from time import monotonic
from typing import Any

from flask import Config, Response, current_app

from flaskcompat.blueprints import calls
from flaskcompat.blueprints.access import current_owner, principal_for_run
from flaskcompat.blueprints.event_stream import EventStream, StreamResponse
from flaskcompat.blueprints.failures import failure
from flaskcompat.blueprints.requests import current_request
from flaskcompat.blueprints.run_context import RunContexts
from flaskcompat.blueprints.servers import (
    Environ,
    client_probe,
    cutter,
    detaches,
    offer_thread,
    places,
    stop_check,
)
from flaskcompat.errors import APIError
from flaskcompat.log import log
from flaskcompat.protocol import sse
from flaskcompat.protocol.machine import Machine, StreamMachine
from flaskcompat.protocol.replay import Replay
from flaskcompat.runtime.admission import Left, Ticket
from flaskcompat.runtime.following import LogRun
from flaskcompat.runtime.input_files import file_access
from flaskcompat.runtime.invoke import Ready, Run, invoke, method_of
from flaskcompat.runtime.registry import Model
from flaskcompat.runtime.run_context import run_contexts
from flaskcompat.runtime.state import State
from flaskcompat.runtime.watch import STALL_WHILE_OTHERS_WAIT, Limits, Watch, Writes
from flaskcompat.runtime.wrapper import Headers, Surface
from flaskcompat.stores.saving import Keep


def reply(
    state: State,
    machine: Machine,
    model: Model,
    surface: Surface,
    payload: list[dict[str, Any]],
    body: dict[str, Any],
    keep: Keep | None = None,
) -> Response:
    """Answer the current request with what *model* gives for *payload* on *surface*.

    :param keep: how the answer is kept, before its client sees the end of it.
    :raises APIError: if the run fails before anything of it is known, or there is no place for it.
    """
    method = method_of(model, surface)
    label, stream = f"{model.name}.{method}", bool(body.get("stream"))
    request = current_request()
    config, environ = current_app.config, request.environ
    calls.note(calls.current(environ), model=model.name, surface=surface, stream=stream, machine=machine)
    limits = Limits(
        keep_alive=config["FLASKCOMPAT_KEEP_ALIVE"] if stream else 0.0,
        total=config["FLASKCOMPAT_REQUEST_TIMEOUT"],
        between=config["FLASKCOMPAT_CHUNK_TIMEOUT"],
    )
    owner = current_owner()
    try:
        ticket = admit(state, model)
    except Left:
        return client_gone()
    with RunContexts(request_waits=not stream) as contexts:
        try:
            # What is to stream or has a time limit must not be waited for here; nor anything where this thread would be
            # lost to a client that leaves.
            replaceable = offer_thread(environ, ticket.reader_done)
            elsewhere = stream or limits.total > 0 or limits.between > 0 or not replaceable
            extras = {"headers": lambda: Headers(request.headers), "principal": lambda: principal_for_run(state)}
            tell = partial(failure, label=label, tracebacks=config["FLASKCOMPAT_TRACEBACKS"])
            with file_access(state.stores.files, owner, state.fetcher), run_contexts(contexts.make):
                run = invoke(model, method, payload, body, extras, ticket, elsewhere=elsewhere, tell=tell)
        except BaseException as error:
            ticket.reader_done()
            raise failure(error, label) from None
        try:
            if isinstance(run, Ready):
                response = _whole(machine, run, keep)
                if calls.current(environ) is not None and client_probe(environ)():
                    calls.note(error=calls.CLIENT_LEFT)
                return response
            watch = Watch(run, limits, client_probe(environ), _stop_check(state, environ, config), _writes(state))
            watch.begin()
            if stream:
                _count_stream(environ, ticket)
                return _streamed(machine, run, watch, keep)
            try:
                return _whole(machine, run, keep)
            finally:
                watch.end()
        except BaseException:
            run.close()
            raise


def replay(state: State, owner: str, id: str, number: int, ticket: Ticket) -> Response:
    """Answer the current request with the log of a response, as it is being made.

    :param number: the sequence number of the first event that is wanted.
    :param ticket: the place of the stream, which is given back at its end.
    """
    config, environ = current_app.config, current_request().environ
    machine = Replay(number)
    calls.note(calls.current(environ), surface="response", stream=True, machine=machine)
    run = LogRun(owner, id, number, ticket, partial(failure, label=f"the log of {id}"))
    try:
        limits = Limits(keep_alive=config["FLASKCOMPAT_KEEP_ALIVE"])
        watch = Watch(run, limits, client_probe(environ), _stop_check(state, environ, config), _writes(state))
        watch.begin()
        state.followers.add(run)
        _count_stream(environ, ticket)
        return _streamed(machine, run, watch, None)
    except BaseException:
        run.close()
        raise


def admit(state: State, model: Model | None) -> Ticket:
    """A place for an answer to the current request; the caller gives it back.

    :param model: None where nothing is run.

    :raises APIError: if there is none.
    :raises Left: if the client has left meanwhile.
    """
    config, environ = current_app.config, current_request().environ
    _stop_check(state, environ, config)()
    limits = places(environ, config["FLASKCOMPAT_MAX_GENERATIONS"])
    name, limit = (model.name, model.wrapper.max_generations) if model is not None else ("", None)
    call, begun = calls.current(environ), monotonic()
    try:
        return state.admission.enter(name, limits, limit, client_probe(environ))
    except APIError as error:
        log.info("no place for {}: {}", name or "a log", error.code)
        raise
    finally:
        if call is not None:
            call.queued += monotonic() - begun


def _count_stream(environ: Environ, ticket: Ticket) -> None:
    """Tell whoever wants to know that the stream of *ticket* is open, until its place is given back."""
    if (call := calls.current(environ)) is not None:
        ticket.tell_when_done(call.stream_opened())


def client_gone() -> Response:
    """The response that nobody reads; its status is what servers log for a client that has closed."""
    calls.note(error=calls.CLIENT_LEFT)
    return Response(status=499)


def _stop_check(state: State, environ: Environ, config: Config) -> Callable[[], None]:
    return stop_check(environ, state.admission.begin_stop, config["FLASKCOMPAT_SHUTDOWN_GRACE"])


def _writes(state: State) -> Writes | None:
    cut = cutter(current_request().environ)
    if cut is None:
        return None
    timeout: float = current_app.config["FLASKCOMPAT_STALL_TIMEOUT"] or inf

    def limit() -> float:
        return min(STALL_WHILE_OTHERS_WAIT, timeout) if state.admission.waiting else timeout

    return Writes(limit, cut)


def _whole(machine: Machine, run: Run | Ready, keep: Keep | None) -> Response:
    try:
        while not run.ended:
            for item in run.take():
                machine.take(item)
            machine.check_size()
            if run.left:
                return client_gone()
        if run.error is not None:
            raise run.error
        machine.end()
        answer = machine.result()
        text = sse.dumps(answer)
        if keep is not None:
            keep.save(answer, text)
        return Response(text, content_type="application/json")
    except BaseException as error:
        raise failure(error, run.label) from None
    finally:
        run.close()


def _streamed(machine: StreamMachine, run: Run, watch: Watch, keep: Keep | None) -> Response:
    stream = EventStream(machine, run, watch.end, keep)
    watch.follow(stream)
    # A server that waits for the first step elsewhere still needs the response to be of our class then.
    if not (detaches(current_request().environ) and issubclass(StreamResponse, current_app.response_class)):
        stream.begin()
    return StreamResponse(stream)
