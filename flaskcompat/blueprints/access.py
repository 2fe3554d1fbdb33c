"""Who may do what: keys and a host's own login."""

from __future__ import annotations

from typing import Any
from weakref import ref

from flask import request
from werkzeug.local import LocalProxy

from flaskcompat.blueprints import calls
from flaskcompat.blueprints.host_database import in_current_session, is_row
from flaskcompat.blueprints.requests import current_request, is_own_context, own_context
from flaskcompat.errors import ModelNotFound, Unauthorized
from flaskcompat.log import log
from flaskcompat.protocol.ids import new_id
from flaskcompat.runtime.keys import may_use, name_of, owner_of
from flaskcompat.runtime.registry import Model
from flaskcompat.runtime.state import State

_PRINCIPAL = "flaskcompat.principal"
_OWNER = "flaskcompat.owner"


def authenticate(state: State) -> None:
    """Find out whom the current request comes from, before anything of its body is read.

    :raises Unauthorized: if that is nobody.
    """
    # A browser asks with OPTIONS, before it sends a key; the answer names methods and nothing else.
    if not state.guarded or request.method == "OPTIONS":
        return
    principal = _host_principal(state)
    if principal is None:
        principal = state.keys.find(request.headers.get("Authorization"))
    if principal is None:
        log.info("refused: no valid API key")
        raise Unauthorized
    request.environ[_PRINCIPAL] = principal, ref(own_context())
    if (call := calls.current()) is not None:
        calls.note(call, principal=name_of(principal))  # a row of a database may not be readable at the call's end


def current_principal() -> Any:
    """Whom the current request comes from; None where nobody is asked."""
    principal, _ = current_request().environ.get(_PRINCIPAL, (None, None))
    return principal


def principal_for_run(state: State) -> Any:
    """The principal as the code of a run gets it, in the context where it is called.

    A row of a database belongs to the session of the request's own context, which ends before a stream does: a run
    gets the row in a session of its own, so that relations load. Only where that is not Flask-SQLAlchemy's is the
    application's login asked again.
    """
    principal, context = current_request().environ.get(_PRINCIPAL, (None, lambda: None))
    if not is_row(principal) or is_own_context(context()):
        return principal
    try:
        return in_current_session(principal)
    except LookupError:
        pass
    try:
        found = _host_principal(state)
    except Exception as error:
        log.opt(exception=error).warning("authenticate() failed in a run: the wrapper gets the request's principal")
        return principal
    return principal if found is None else found


def _host_principal(state: State) -> Any:
    principal = state.authenticate(request) if state.authenticate is not None else None
    if isinstance(principal, LocalProxy):  # Flask-Login's current_user: another one in another context
        principal = principal._get_current_object()
    return principal


def current_owner() -> str:
    """Whose is what the current request stores, and what it may see of what is stored."""
    environ = current_request().environ
    owner: str | None = environ.get(_OWNER)
    if owner is None:
        owner = owner_of(current_principal())
        if owner is None:
            log.warning("what a request stores is lost: authenticate() gave somebody who has neither id nor name")
            owner = new_id("nobody:")
        environ[_OWNER] = owner
    return owner


def find_model(state: State, name: str) -> Model:
    """The model *name*.

    :raises ModelNotFound: if it is not served, or not to this principal.
    """
    model = state.registry[name]
    if not may_use(current_principal(), name):
        raise ModelNotFound(name)
    return model


def allowed_models(state: State) -> list[Model]:
    """The models that the current principal may use, by name."""
    principal = current_principal()
    return [model for model in state.registry if may_use(principal, model.name)]
