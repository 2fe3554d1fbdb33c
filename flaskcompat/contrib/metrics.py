"""Metrics for Prometheus, of each model: ``GET /metrics``.

They are kept in the registry of ``prometheus_client`` itself: an application that exports that one has them there, too.
With several processes, ``PROMETHEUS_MULTIPROC_DIR`` names an empty folder that they share: whichever process is asked
then answers for all.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from time import monotonic

from flask import Response, current_app, request
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from flaskcompat.blueprints.access import current_principal
from flaskcompat.blueprints.calls import CLIENT_LEFT, Call
from flaskcompat.blueprints.requests import current_state
from flaskcompat.blueprints.routes import Routes
from flaskcompat.errors import APIError, ConcurrencyLimit
from flaskcompat.protocol.machine import Machine
from flaskcompat.runtime.state import states_of

# Seconds: from an answer that needs no model to one of an agent that works for long.
_ANSWERS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
# What is counted under its own name; a wrapper's may hold anything.
_CODE = re.compile("[A-Za-z0-9_.-]{1,64}")
_WAITS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """Counts calls as they end; a streamed answer has ended when its stream has."""

    def __init__(self) -> None:
        by = ["model", "surface"]
        self._requests = Counter(
            "flaskcompat_requests", "Requests that were answered, by status.", [*by, "stream", "status"]
        )
        self._seconds = Histogram(
            "flaskcompat_request_seconds", "From a request to the end of its answer.", [*by, "stream"], buckets=_ANSWERS
        )
        self._first = Histogram(
            "flaskcompat_first_token_seconds", "From a request to the first of its stream.", by, buckets=_ANSWERS
        )
        self._queued = Histogram(
            "flaskcompat_queue_seconds", "That a request waited for a thread and a place.", by, buckets=_WAITS
        )
        self._tokens = Counter("flaskcompat_tokens", "Tokens that models have read and written.", [*by, "kind"])
        self._open = Gauge("flaskcompat_streams_open", "Streams that are being made.", by, multiprocess_mode="livesum")
        self._left = Counter("flaskcompat_clients_left", "Clients that did not wait for the end.", by)
        self._errors = Counter("flaskcompat_errors", "Answers that failed, by the code of the error.", [*by, "code"])
        self._background = Histogram(
            "flaskcompat_background_seconds",
            "From the request for a background response to its end.",
            ["model"],
            buckets=_ANSWERS,
        )

    def call_over(self, call: Call) -> None:
        labels = _labels(call)
        seconds = monotonic() - call.begun
        if call.background:
            self._background.labels(labels[0]).observe(seconds)
        else:
            stream = str(call.stream).lower()
            self._requests.labels(*labels, stream, str(call.status)).inc()
            self._seconds.labels(*labels, stream).observe(seconds)
        if (call.model is not None or call.error == ConcurrencyLimit.code) and not call.background:
            self._queued.labels(*labels).observe(call.queued)
        if isinstance(call.machine, Machine):  # rather than the log of one, which has been counted
            if call.first is not None:
                self._first.labels(*labels).observe(call.first - call.begun)
            self._tokens.labels(*labels, "input").inc(call.machine.usage.input)
            self._tokens.labels(*labels, "output").inc(call.machine.usage.output)
        if call.error == CLIENT_LEFT:
            self._left.labels(*labels).inc()
        elif call.error is not None:
            self._errors.labels(*labels, call.error if _CODE.fullmatch(call.error) else "other").inc()

    def stream_opened(self, call: Call) -> None:
        self._open.labels(*_labels(call)).inc()

    def stream_closed(self, call: Call) -> None:
        self._open.labels(*_labels(call)).dec()


def _labels(call: Call) -> tuple[str, str]:
    """The model, if there is one of that name, and the surface: nothing that a client could make up."""
    return call.model or "", call.surface or ""


@lru_cache(maxsize=1)
def metrics() -> Metrics:
    """Those of this process."""
    return Metrics()


routes = Routes(merge_slashes=False)


@routes.get("/metrics")
def list_metrics() -> Response:
    """The metrics of this process, or of all that share a folder, for principals who may use all models.

    The APIs of an application are counted together: where another one asks who comes in, this one must, too.
    """
    states = states_of(current_app.extensions)
    is_open = not current_state().guarded and any(state.guarded for state in states)
    if is_open or getattr(current_principal(), "models", None) is not None:
        raise APIError("The metrics are of all models.", status=403, code="permission_denied")
    try:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    except Exception:  # it reads version numbers
        encode, content_type = choose_encoder("")
    return Response(encode(_registry()), content_type=content_type)


def check_folder() -> None:
    """:raises ValueError: if several processes are to share a folder that is not there."""
    folder = os.environ.get(_FOLDER)
    if folder is not None and not os.path.isdir(folder):
        raise ValueError(f"{_FOLDER}={folder!r} is no folder")


def _registry() -> CollectorRegistry:
    if _FOLDER not in os.environ:
        return REGISTRY
    shared = CollectorRegistry()
    MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
    return shared
