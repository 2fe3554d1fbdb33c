"""Clients that are programs of the command line, run as their users do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..support import eventually

#: Seconds after which a run is ended, on a machine that is busy with more.
TIMEOUT = 90.0


@dataclass(frozen=True)
class Ran:
    """What came of a run. *code* is ``None`` if it did not end by itself."""

    code: int | None
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of JSON."""
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]


def run(
    command: list[str], folder: Path, home: Path, environ: dict[str, str], until: Callable[[Ran], bool] | None = None
) -> Ran:
    """Run *command* in *folder* to its end or, for those that never end, till *until* is true of what it printed.

    It gets nothing of our environment but where programs are, and *home* as its user's folder.
    """
    out, err = home / "out.txt", home / "err.txt"
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **environ}
    with out.open("wb") as to_out, err.open("wb") as to_err:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=to_out,
            stderr=to_err,
            start_new_session=True,
        )

    def so_far() -> Ran:
        return Ran(process.poll(), out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8"))

    try:
        eventually(lambda: process.poll() is not None or (until is not None and until(so_far())), TIMEOUT)
        return so_far()
    finally:
        if process.poll() is None:  # with all that it started
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
