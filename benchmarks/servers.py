"""The servers that are measured, each in a process of its own, and what its processes use."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
HAYHOOKS = "hayhooks==2.1.0"
# Seconds that a server may take to start, and to end.
_START, _END = 60.0, 6.0
_TICKS = os.sysconf("SC_CLK_TCK")
_ENVIRON = {
    "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]),
    "FLASKCOMPAT_PIPELINES_DIR": str(HERE / "pipelines"),
    "HAYHOOKS_PIPELINES_DIR": str(HERE / "pipelines"),
    "HAYSTACK_TELEMETRY_ENABLED": "False",
}
_GUNICORN = "-m gunicorn -k flaskcompat.server.gunicorn.Worker -b 127.0.0.1:{port}"
#: What follows the interpreter, by the name of a server.
COMMANDS = {
    "flaskcompat": "-m flaskcompat serve --port {port}",
    # What is to be kept is kept in an embedded database and a folder.
    "kept": "-m flaskcompat serve --port {port} --data {folder}",
    # The same application where each stream holds a thread.
    "threads": "-m waitress --host 127.0.0.1 --port {port} --threads 1100 --connection-limit 2000 --backlog 2048"
    " --channel-request-lookahead 1 --asyncore-use-poll --call flaskcompat:create_app",
    "gunicorn-1": f"{_GUNICORN} -w 1 flaskcompat:create_app()",
    "gunicorn-2": f"{_GUNICORN} -w 2 flaskcompat:create_app()",
    "bare": f"{shlex.quote(str(HERE / 'bare.py'))} {{port}}",
}


def command(name: str) -> list[str]:
    """How the server of that *name* is started: a key of :data:`COMMANDS`, ``hayhooks``, or ``LABEL=COMMAND``."""
    if "=" in name:
        return shlex.split(name.partition("=")[2])
    if name == "hayhooks":
        return [str(_hayhooks()), "run", "--host", "127.0.0.1", "--port", "{port}"]
    return [sys.executable, *shlex.split(COMMANDS[name])]


def _hayhooks() -> Path:
    """Hayhooks' command, in an environment that is made at the first use."""
    folder = HERE / ".hayhooks"
    script = folder / "bin" / "hayhooks"
    if not script.exists():
        print(f"installing {HAYHOOKS} into {folder.relative_to(HERE.parent)}", file=sys.stderr)
        venv.create(folder, with_pip=True)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", HAYHOOKS], check=True)
    return script


class Server:
    """A server that answers.

    :ivar started_in: seconds until it did.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int, started_in: float) -> None:
        self.process = process
        self.port = port
        self.started_in = started_in

    def _processes(self) -> list[int]:
        found, rest = [], [self.process.pid]
        while rest:
            pid = rest.pop()
            found.append(pid)
            try:
                rest += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
            except OSError:
                pass
        return found

    def cpu(self) -> float:
        """Seconds of processor time until now."""
        total = 0
        for pid in self._processes():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                total += int(fields[11]) + int(fields[12])
            except OSError:
                pass
        return total / _TICKS

    def memory(self, *, peak: bool = False) -> float:
        """Resident MB; with *peak*, the most since :meth:`forget_peak`."""
        total = 0
        for pid in self._processes():
            try:
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith("VmHWM:" if peak else "VmRSS:"):
                        total += int(line.split()[1])
            except OSError:
                pass
        return total / 1024

    def threads(self) -> int:
        return sum(len(os.listdir(f"/proc/{pid}/task")) for pid in self._processes())

    def forget_peak(self) -> None:
        for pid in self._processes():
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return connection.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


@contextmanager
def running(name: str, log: str = os.devnull) -> Iterator[Server]:
    """The server of that *name*, until the block ends; what it writes goes to the file *log*."""
    port, parts, begun = _free_port(), command(name), time.perf_counter()
    environ = os.environ | _ENVIRON | {"BENCHMARK_API": "hayhooks" if name.startswith("hayhooks") else "flaskcompat"}
    folder = tempfile.TemporaryDirectory()
    with open(log, "ab") as out:
        process = subprocess.Popen(
            [part.format(port=port, folder=folder.name) for part in parts],
            env=environ,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        while not _answers(port):
            if process.poll() is not None or time.perf_counter() - begun > _START:
                raise SystemExit(f"{name} did not start: {shlex.join(parts)}")
            time.sleep(0.005)
        yield Server(process, port, time.perf_counter() - begun)
    finally:
        process.terminate()
        try:
            process.wait(_END)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        folder.cleanup()
