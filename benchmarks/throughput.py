"""Requests and streamed words per second of `flaskcompat serve`, against bare Flask under waitress, in turn."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
WORD = re.compile(rb'"content": ?"w\d')
HEADERS = {"Content-Type": "application/json"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server in a process of its own, until the block ends."""

    def __init__(self, *command: str) -> None:
        self.port = free_port()
        environ = os.environ | {"FLASKCOMPAT_PIPELINES_DIR": str(HERE / "pipelines"), "FLASKCOMPAT_LOG_LEVEL": "ERROR"}
        parts = [sys.executable, *(part.format(port=self.port) for part in command)]
        self.process = subprocess.Popen(parts, env=environ, stderr=subprocess.DEVNULL)

    def __enter__(self) -> Server:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return self
            except OSError:
                time.sleep(0.05)
        raise TimeoutError

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)


def body(model: str, text: str, stream: bool) -> bytes:
    return json.dumps({"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]}).encode()


def in_parallel(clients: int, seconds: float, work: Callable[[float], int]) -> float:
    """What *clients* threads get done together, per second."""
    started = time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        counts = list(pool.map(work, [started + seconds] * clients))
    return sum(counts) / (time.monotonic() - started)


def requests_per_second(port: int, clients: int, seconds: float) -> float:
    data = body("echo", "hello", False)

    def work(end: float) -> int:
        connection, count = http.client.HTTPConnection("127.0.0.1", port), 0
        while time.monotonic() < end:
            connection.request("POST", "/v1/chat/completions", data, HEADERS)
            response = connection.getresponse()
            assert b"hello" in response.read() and response.status == 200
            count += 1
        connection.close()
        return count

    return in_parallel(clients, seconds, work)


def words_per_second(port: int, model: str, clients: int, seconds: float) -> float:
    data = body(model, "2000", True)

    def work(end: float) -> int:
        count = 0
        while time.monotonic() < end:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("POST", "/v1/chat/completions", data, HEADERS)
            found = len(WORD.findall(connection.getresponse().read()))
            assert found == 2000, found
            count += found
            connection.close()
        return count

    return in_parallel(clients, seconds, work)


MEASUREMENTS: dict[str, Callable[[int, float], float]] = {
    "requests/s, 1 connection": lambda port, s: requests_per_second(port, 1, s),
    "requests/s, 16 connections": lambda port, s: requests_per_second(port, 16, s),
    "words/s, sync, 1 stream": lambda port, s: words_per_second(port, "words", 1, s),
    "words/s, sync, 16 streams": lambda port, s: words_per_second(port, "words", 16, s),
    "words/s, async, 1 stream": lambda port, s: words_per_second(port, "words_async", 1, s),
    "words/s, async, 16 streams": lambda port, s: words_per_second(port, "words_async", 16, s),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each measurement")
    args = parser.parse_args()
    ratios: dict[str, list[float]] = {name: [] for name in MEASUREMENTS}
    for _ in range(args.rounds):
        with (
            Server("-m", "flask", "--app", "flaskcompat", "serve", "--port", "{port}") as ours,
            Server(str(HERE / "bare.py"), "{port}") as bare,
        ):
            for name, measure in MEASUREMENTS.items():
                measure(ours.port, 0.5)  # warm
                ratios[name].append(measure(ours.port, args.seconds) / measure(bare.port, args.seconds))
    print(f"{'':28} ratio to bare Flask and waitress")
    for name, found in ratios.items():
        print(f"{name:28} {statistics.median(found):.2f}x ({min(found):.2f}..{max(found):.2f})")


if __name__ == "__main__":
    main()
