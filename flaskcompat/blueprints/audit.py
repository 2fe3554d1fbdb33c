"""One line of JSON for each call: who asked which model, and what came of it. Never what was said."""

from __future__ import annotations

import json
import logging
import time

from flaskcompat.blueprints.calls import Call
from flaskcompat.errors import LOG_LIMIT, shorten

_logger = logging.getLogger("flaskcompat.audit")


class Audit:
    """Writes the lines."""

    def call_over(self, call: Call) -> None:
        if call.background:  # the request for it has its line
            return
        usage = call.machine.usage if call.machine is not None else None
        record = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "request_id": call.request_id,
            "method": call.method,
            "path": call.path,
            "status": call.status,
            "principal": shorten(call.principal, LOG_LIMIT) if call.principal is not None else None,
            "model": call.model,
            "surface": call.surface,
            "stream": call.stream,
            "error": call.error,
            "input_tokens": usage.input if usage else None,
            "output_tokens": usage.output if usage else None,
            "milliseconds": round((time.monotonic() - call.begun) * 1000, 1),
        }
        _logger.info("%s", json.dumps(record))

    def stream_opened(self, call: Call) -> None:
        pass

    def stream_closed(self, call: Call) -> None:
        pass
