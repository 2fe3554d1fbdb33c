"""Who may do what: keys and a host's own login."""

from __future__ import annotations

from typing import Any

from flask import request

from flaskcompat.blueprints import calls
from flaskcompat.blueprints.requests import current_request
from flaskcompat.errors import ModelNotFound, Unauthorized
from flaskcompat.log import log
from flaskcompat.protocol.ids import new_id
from flaskcompat.runtime.keys import may_use, owner_of
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
    principal = state.authenticate(request) if state.authenticate is not None else None
    if principal is None:
        principal = state.keys.find(request.headers.get("Authorization"))
    if principal is None:
        log.info("refused: no valid API key")
        raise Unauthorized
    request.environ[_PRINCIPAL] = principal
    calls.note(principal=principal)


def current_principal() -> Any:
    """Whom the current request comes from; None where nobody is asked."""
    return current_request().environ.get(_PRINCIPAL)


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
