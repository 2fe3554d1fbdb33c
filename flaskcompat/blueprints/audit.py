"""One line of JSON for each call: who asked which model, and what came of it. Never what was said."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass, field
from typing import Any

from flask import Response, current_app, has_request_context, request

from flaskcompat.blueprints.servers import Environ
from flaskcompat.errors import LOG_LIMIT, APIError, shorten
from flaskcompat.log import request_id
from flaskcompat.protocol.machine import StreamMachine
from flaskcompat.runtime.keys import name_of

_CALL = "flaskcompat.call"
_logger = logging.getLogger("flaskcompat.audit")


@dataclass
class Call:
    """What is known of one call by now."""

    begun: float = field(default_factory=time.perf_counter)
    principal: Any = None
    model: str | None = None
    surface: str | None = None
    stream: bool = False
    machine: StreamMachine | None = None
    error: str | None = None
    is_finishing: bool = False
    status: int | None = None  # where it is another than the response had at first


def begin(environ: Environ) -> None:
    """Begin the record of the request of that *environ*, where audit is on."""
    if current_app.config["FLASKCOMPAT_AUDIT"]:
        environ.setdefault(_CALL, Call())


def current(environ: Environ | None = None) -> Call | None:
    """The record of the request of that *environ*, of the current one by default; None where audit is off."""
    if environ is None:
        environ = request.environ if has_request_context() else {}
    return environ.get(_CALL)


def note(call: Call | None = None, **known: Any) -> None:
    """Add what is *known* to *call*, that of the current request by default."""
    call = call or current()
    if call is not None:
        for name, value in known.items():
            setattr(call, name, value)


def finish(environ: Environ, response: Response) -> None:
    """Write the record of the current request, of that *environ*, when *response* is over."""
    call = current(environ)
    if call is None or call.is_finishing:
        return
    call.is_finishing = True
    fixed = _fixed(request.method, request.path, response.status_code)
    response.call_on_close(lambda: _write(call, fixed))


def refused(method: str, path: str, error: APIError) -> None:
    """Write the record of a request that was answered with *error* before the application saw it."""
    fixed = _fixed(method, path, error.status)
    _write(Call(error=error.code or error.type), fixed)


def _fixed(method: str, path: str, status: int) -> dict[str, Any]:
    return {
        "request_id": request_id.get(),
        "method": shorten(method),
        "path": shorten(path, LOG_LIMIT),
        "status": status,
    }


def _write(call: Call, fixed: dict[str, Any]) -> None:
    usage = call.machine.usage if call.machine is not None else None
    record = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **fixed,
        **({"status": call.status} if call.status is not None else {}),
        "principal": shorten(name, LOG_LIMIT) if (name := name_of(call.principal)) is not None else None,
        "model": call.model,
        "surface": call.surface,
        "stream": call.stream,
        "error": call.error,
        "input_tokens": usage.input if usage else None,
        "output_tokens": usage.output if usage else None,
        "milliseconds": round((time.perf_counter() - call.begun) * 1000, 1),
    }
    _logger.info("%s", json.dumps(record))
