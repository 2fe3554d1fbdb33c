"""The HTTP side (see README.md beside this file)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flask import Blueprint, Flask, Request, Response, current_app
from flask.blueprints import BlueprintSetupState
from werkzeug.exceptions import HTTPException, default_exceptions

from flaskcompat.blueprints import (
    calls,
    chat_completions,
    conversations,
    files,
    health,
    models,
    responses,
    stored_completions,
    stored_responses,
)
from flaskcompat.blueprints.access import authenticate
from flaskcompat.blueprints.failures import error_response, warn_of_pages
from flaskcompat.blueprints.fallback import add_fallback
from flaskcompat.blueprints.requests import (
    current_request,
    is_own_context,
    own_context,
    request_id_of,
    set_current_state,
)
from flaskcompat.blueprints.routes import APIBlueprint, Routes, endpoint_prefix
from flaskcompat.fork import check_process
from flaskcompat.log import request_id
from flaskcompat.runtime.state import State

_MODULES = (models, chat_completions, stored_completions, responses, stored_responses, conversations, files)
_TOKEN = "flaskcompat.request_id_token"


def make_blueprint(name: str, extras: Callable[[Flask, str], Iterable[Routes]]) -> Blueprint:
    """The blueprint of an API, to be registered on applications that have a :class:`State` of that *name*.

    View functions have OpenAI's operation names: ``<name>.create_chat_completion``, ``<name>.list_models`` and so on.

    :param extras: returns further routes for an application and its API of that name.
    """
    blueprint = APIBlueprint(name, __name__)
    for module in _MODULES:
        module.routes.add_to(blueprint)
    add_fallback(blueprint)

    @blueprint.record
    def register(setup: BlueprintSetupState) -> None:
        app = setup.app
        assert isinstance(app, Flask)
        for routes in extras(app, name):
            routes.add_to(setup)
        app.extensions[name].prefixes.append(endpoint_prefix(setup))

    @blueprint.before_request
    def begin() -> None:
        begin_request()
        state: State = current_app.extensions[name]
        set_current_state(state)
        authenticate(state)

    blueprint.after_request(finish_response)
    blueprint.after_request(warn_of_pages)
    blueprint.teardown_request(end_request)
    # Under each status of its own as well: a host's handler for a status would come before one for all errors.
    for status in default_exceptions:
        blueprint.register_error_handler(status, _handle_error)
    blueprint.register_error_handler(Exception, _handle_error)
    return blueprint


def _handle_error(error: Exception) -> Response | HTTPException:
    begin_request()  # a host's hook may have failed before ours ran
    return error_response(error)


def make_health_blueprint(state: State) -> Blueprint:
    """``/healthz`` and ``/readyz``, for applications that are ours alone."""
    blueprint = health.make_blueprint(state)
    blueprint.before_request(_begin)
    blueprint.after_request(finish_response)
    blueprint.teardown_request(end_request)
    return blueprint


def _begin() -> None:
    begin_request()


def unrouted_error(error: Exception) -> Response:
    """An error of a request that reached no blueprint; error handler of an application that is ours alone."""
    begin_request()
    try:
        response = current_app.make_response(error_response(error))
        finish_response(response)
        return response
    finally:
        end_request(None)


def begin_request() -> Request:
    """Give the current request its id, once."""
    # Kept with the request: `g` may be shared with another request, made inside of this one.
    request = current_request()
    environ = request.environ
    if _TOKEN not in environ:
        check_process()
        environ[_TOKEN] = request_id.set(request_id_of(environ)), own_context()
        calls.begin(environ)
    return request


def finish_response(response: Response) -> Response:
    """Give the response its id."""
    begin_request()  # a host's own hook may have answered before ours ran
    response.headers["x-request-id"] = request_id.get()
    return response


def end_request(_: BaseException | None) -> None:
    """Take the id off the thread, which serves other requests next.

    Flask calls this teardown function for the contexts of the request's runs, too.
    """
    environ = current_request().environ
    token, context = environ.get(_TOKEN, (None, None))
    if token is not None and is_own_context(context):
        del environ[_TOKEN]
        request_id.reset(token)
