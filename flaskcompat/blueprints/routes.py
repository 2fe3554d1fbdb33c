"""The routes of a module of views, and the one blueprint that they all belong to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from weakref import ref

from flask import Blueprint
from flask.blueprints import BlueprintSetupState

View = TypeVar("View", bound=Callable[..., Any])
Hook = TypeVar("Hook", bound=Callable[..., Any])


class Routes:
    """Views at module level with their rules, to be added to a blueprint."""

    def __init__(self, **options: Any) -> None:
        self._options = {"provide_automatic_options": False, **options}
        self._routes: list[tuple[str, str, Callable[..., Any]]] = []

    def get(self, rule: str) -> Callable[[View], View]:
        return self._route("GET", rule)

    def post(self, rule: str) -> Callable[[View], View]:
        return self._route("POST", rule)

    def delete(self, rule: str) -> Callable[[View], View]:
        return self._route("DELETE", rule)

    def _route(self, method: str, rule: str) -> Callable[[View], View]:
        def add(view: View) -> View:
            self._routes.append((method, rule, view))
            return view

        return add

    def add_to(self, place: Blueprint | BlueprintSetupState) -> None:
        """Add all routes to *place*: a blueprint, or one that is being registered."""
        for method, rule, view in self._routes:
            place.add_url_rule(rule, view.__name__, view, methods=[method], **self._options)


class APIBlueprint(Blueprint):
    """A blueprint that also takes hooks after it has been registered.

    ``FlaskCompat(app)`` registers it at once, and an extension that is given it later, such as Flask-CORS, adds hooks.
    """

    def __init__(self, name: str, import_name: str) -> None:
        super().__init__(name, import_name)
        self._registered: list[tuple[ref[Any], str]] = []
        self.record(self._note_registration)

    def _note_registration(self, setup: BlueprintSetupState) -> None:
        self._registered.append((ref(setup.app), endpoint_prefix(setup).rstrip(".")))
        parent = setup.app.blueprints.get(setup.name_prefix)
        if parent is not None:
            # Old versions of extensions compare it with `request.blueprint`.
            self.name = endpoint_prefix(setup).rstrip(".")
            if setup.subdomain is None:  # Flask 2.2 does not hand it down
                setup.subdomain = parent.subdomain

    def before_request(self, f: Hook) -> Hook:
        return self._add_hook("before_request_funcs", f)

    def after_request(self, f: Hook) -> Hook:
        return self._add_hook("after_request_funcs", f)

    def teardown_request(self, f: Hook) -> Hook:
        return self._add_hook("teardown_request_funcs", f)

    def _add_hook(self, kind: str, hook: Hook) -> Hook:
        getattr(self, kind).setdefault(None, []).append(hook)
        for reference, name in self._registered:
            if (app := reference()) is not None:
                getattr(app, kind).setdefault(name, []).append(hook)
        return hook


def endpoint_prefix(setup: BlueprintSetupState) -> str:
    """What the names of a blueprint's endpoints begin with, where it is being registered."""
    return f"{setup.name_prefix}.{setup.name}.".lstrip(".")
