"""What no plain route of ours matches: paths without ``/v1``, doubled slashes, unknown paths and methods, WebSockets.

One rule of the least weight takes them all, so that any route of the host's wins over it, whichever was registered
first; and where the host has a route for a path under other methods, the host's own 405 is left standing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NoReturn

from flask import Blueprint, Flask, current_app, request
from flask.blueprints import BlueprintSetupState
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import MethodNotAllowed as HTTPMethodNotAllowed
from werkzeug.exceptions import NotFound as HTTPNotFound
from werkzeug.routing import BaseConverter, Map, Rule, ValidationError

from flaskcompat.blueprints.routes import endpoint_prefix
from flaskcompat.errors import MethodNotAllowed, NotFound, UpgradeRequired

_CONVERTER = "flaskcompat_fallback"


class _Fallback(BaseConverter):
    """Matches all that may be ours: ``v1`` and below, and the same families without it.

    :param prefix: of the endpoints that are ours.
    :param mount: the blueprint's URL prefix.
    :param domain: the blueprint's subdomain, or its host in an application that matches hosts.
    """

    regex = r"/*(?:v1(?:/[\s\S]*)?|(?:models|responses|files|conversations|chat/+completions)(?:/[\s\S]*)?)"
    weight = 1_000_000
    part_isolating = False

    def __init__(self, map: Map, prefix: str, mount: str, domain: str) -> None:
        super().__init__(map)
        self._prefix = prefix
        self._mount = mount
        self._domain = domain

    def to_python(self, value: str) -> str:
        path = f"{self._mount}/{_plain(value)}".split("/")
        for rule in self.map.iter_rules():
            is_own = rule.endpoint.startswith(self._prefix) or _domain_of(rule) != self._domain
            if not is_own and _covers(rule.rule, path):
                raise ValidationError
        return value


def _domain_of(rule: Rule) -> str:
    return rule.host or rule.subdomain or ""


def _covers(rule: str, path: list[str]) -> bool:
    """Whether a host's *rule* is about *path*, by its segments; one that starts with a variable is about all."""
    parts = rule.rstrip("/").split("/")
    if len(parts) < 2 or parts[1].startswith("<"):
        return False
    for index, part in enumerate(parts):
        if part.startswith("<path:"):
            return len(path) > index
        if index >= len(path) or not (part.startswith("<") or part == path[index]):
            return False
    return len(parts) == len(path)


def _plain(path: str) -> str:
    """*path* without doubled, leading and trailing slashes."""
    return re.sub("/{2,}", "/", path).strip("/")


def add_fallback(blueprint: Blueprint) -> None:
    """Give *blueprint* the rule; its endpoint is ``fallback``."""

    @blueprint.record
    def register(state: BlueprintSetupState) -> None:
        app = state.app
        assert isinstance(app, Flask)
        app.url_map.converters.setdefault(_CONVERTER, _Fallback)
        own = endpoint_prefix(state)
        mount = (state.url_prefix or "").rstrip("/")
        routes: list[Map] = []

        def fallback(path: str) -> ResponseReturnValue:
            if not routes:
                routes.append(_own_routes(current_app, own, mount))
            return _dispatch(routes[0], _plain(path))

        # Where the blueprint's other routes are: below a parent that has a subdomain, or under one host.
        [plain] = app.url_map.iter_rules(f"{own}list_models")
        domain: dict[str, Any] = {"subdomain": plain.subdomain, "host": plain.host}
        rule = f"/<{_CONVERTER}({own!r}, {mount!r}, {_domain_of(plain)!r}):path>"
        # Straight into the map: a rule of Flask's own names its methods, and these would show in the Allow header
        # of every path that the rule might match, the host's included.
        for endpoint, view, websocket in (("fallback", fallback, False), ("websocket", _refuse_websocket, True)):
            options = {"endpoint": f"{own}{endpoint}", "websocket": websocket, **domain}
            app.url_map.add(app.url_rule_class(f"{mount}{rule}", **options))
            app.view_functions[f"{own}{endpoint}"] = view


def _refuse_websocket(path: str) -> NoReturn:
    raise UpgradeRequired


def _own_routes(app: Flask, own: str, mount: str) -> Map:
    """The plain routes of this blueprint as a map of their own."""
    rules = [
        Rule(rule.rule.removeprefix(mount), endpoint=rule.endpoint, methods=rule.methods, strict_slashes=False)
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith(own) and not rule.rule.startswith(f"{mount}/<{_CONVERTER}")
    ]
    return Map(rules, merge_slashes=False)


def _dispatch(routes: Map, path: str) -> ResponseReturnValue:
    # The prefix once, also where a base URL with it met a client that adds its own.
    path = "v1/" + re.sub("^(v1(/|$))+", "", path)
    adapter = routes.bind("")
    try:
        endpoint, values = adapter.match(f"/{path}", request.method)
    except HTTPMethodNotAllowed as error:
        allowed = {*(error.valid_methods or ()), "OPTIONS"}
        if request.method == "OPTIONS":
            return current_app.response_class(headers={"Allow": ", ".join(sorted(allowed))})
        raise MethodNotAllowed(allowed) from None
    except HTTPNotFound:
        raise NotFound from None
    view: Callable[..., ResponseReturnValue] = current_app.ensure_sync(current_app.view_functions[endpoint])
    return view(**values)
