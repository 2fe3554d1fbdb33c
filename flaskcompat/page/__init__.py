"""A page to try the models in a browser: chat on both APIs, and each request as a command or a program.

The page itself needs no key; the API that it asks does. All that is served is in this folder, and known by name.
"""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Response, abort, redirect, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from flaskcompat.blueprints import begin_request, end_request, finish_response

_HERE = Path(__file__).parent
_SCRIPT = "text/javascript; charset=utf-8"
_ASSETS = {
    "page.css": "text/css; charset=utf-8",
    "page.js": _SCRIPT,
    "answer.js": _SCRIPT,
    "apis.js": _SCRIPT,
    "requests.js": _SCRIPT,
    "snippets.js": _SCRIPT,
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Asked for each time, and answered with 304 as long as it is the same: a new version is seen at once.
    "Cache-Control": "no-cache",
}


def make_page_blueprint(name: str = "flaskcompat_page") -> Blueprint:
    """The page at ``/`` and its files below ``/page/``, for applications that have the API at ``/v1`` beside it."""
    # Endpoints that begin with `flaskcompat_` are ours to a server that looks for a host's own routes.
    blueprint = Blueprint(name, __name__)
    index = (_HERE / "index.html").read_bytes()
    assets = {name: (_HERE / name).read_bytes() for name in _ASSETS}

    @blueprint.get("/", strict_slashes=False, merge_slashes=False, provide_automatic_options=False)
    def page() -> BaseResponse:
        if not request.environ["PATH_INFO"].endswith("/"):
            # What the page names is relative to it. The redirect that Werkzeug makes repeats the Host header.
            return redirect(url_for(".page"), 308)
        return _file(index, "text/html; charset=utf-8")

    @blueprint.get("/page/<name>", merge_slashes=False, provide_automatic_options=False)
    def asset(name: str) -> BaseResponse:
        if name not in assets:
            abort(404)
        return _file(assets[name], _ASSETS[name])

    blueprint.before_request(_begin)
    blueprint.after_request(_protect)
    blueprint.after_request(finish_response)
    blueprint.teardown_request(end_request)
    return blueprint


def _begin() -> None:
    begin_request()


def _file(content: bytes, content_type: str) -> BaseResponse:
    response = Response(content, content_type=content_type)
    response.add_etag()
    return response.make_conditional(request)


def _protect(response: Response) -> Response:
    response.headers.update(_HEADERS)
    return response
