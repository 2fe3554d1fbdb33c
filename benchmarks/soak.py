"""Mixed load for a long time: nothing is lost or mixed, and memory, threads and descriptors stay flat.

Whole and streamed answers on both APIs, leavers before and after the first word, failures, wrong requests, uploads,
readers that stall, and more at once than there are places. Ends with status 1 if anything was not as it should be.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
#: What may be left over a sample taken after warming up, and the most that memory may grow in the second half.
MORE_THREADS, MORE_DESCRIPTORS, MORE_MEMORY_MB = 10, 10, 10.0
REFUSED = {429, 503}


class Server:
    """``flaskcompat serve`` in a process of its own."""

    def __init__(self, threads: int, places: int) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        settings = {"FLASKCOMPAT_PIPELINES_DIR": str(HERE / "soak_pipelines"), "FLASKCOMPAT_LOG_LEVEL": "CRITICAL"}
        settings["FLASKCOMPAT_MAX_GENERATIONS"] = str(places)
        command = [sys.executable, "-m", "flaskcompat", "serve", "--port", str(self.port), "--threads", str(threads)]
        self.process = subprocess.Popen(command, env=os.environ | settings, stderr=subprocess.DEVNULL)
        while self.process.poll() is None:
            try:
                self.connect().close()
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit("the server did not start")

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def sample(self) -> dict[str, float]:
        """Resident megabytes, threads and descriptors."""
        proc = Path(f"/proc/{self.process.pid}")
        pages = int((proc / "statm").read_text().split()[1])
        return {
            "rss_mb": pages * os.sysconf("SC_PAGESIZE") / 2**20,
            "threads": len(os.listdir(proc / "task")),
            "descriptors": len(os.listdir(proc / "fd")),
        }


class Lost(Exception):
    """An answer that is not what was asked for."""


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    fixed = {"Host": "x", "Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
    lines = [f"{method} {path} HTTP/1.1", *(f"{k.replace('_', '-')}: {v}" for k, v in (fixed | headers).items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def read_all(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body; chunks are joined."""
    answer = b""
    while data := connection.recv(65536):
        answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 "):
        raise Lost(f"no answer: {answer[:100]!r}")
    if b"transfer-encoding: chunked" in head.lower():
        whole, rest = b"", body
        while True:
            size, _, rest = rest.partition(b"\r\n")
            if not size:
                raise Lost("the stream was cut")
            if int(size, 16) == 0:
                break
            whole, rest = whole + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        body = whole
    return int(head.split()[1]), body


class Client(threading.Thread):
    """Asks for one thing after the other until time is up."""

    def __init__(self, server: Server, seed: int, end: float) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._chance = random.Random(seed)
        self._seed = seed
        self._end = end
        self._number = 0
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.faults: list[str] = []

    def run(self) -> None:
        kinds: list[tuple[int, Callable[[], str]]] = [
            (30, self.answer),
            (8, self.leaver),
            (6, self.failure),
            (4, self.wrong),
            (2, self.upload),
            (4, self.models),
            (1, self.staller),
        ]
        weights = [weight for weight, _ in kinds]
        while time.monotonic() < self._end:
            [(_, kind)] = self._chance.choices(kinds, weights)
            try:
                self.outcomes[kind.__name__, kind()] += 1
            except (Lost, OSError, ValueError, KeyError, IndexError) as error:
                self.outcomes[kind.__name__, "LOST"] += 1
                self.faults.append(f"{kind.__name__}: {type(error).__name__} {error}")

    def send(self, stream: bool, **wish: Any) -> tuple[socket.socket, str, int]:
        """One request for words; gives the connection, its mark and how many words it is to bring."""
        self._number += 1
        mark = f"c{self._seed}n{self._number}"
        words = self._chance.choice((1, 5, 20, 60))
        text = json.dumps({"mark": mark, "words": words, "delay": self._chance.choice((0, 0.005, 0.02)), **wish})
        body: dict[str, Any] = {"model": self._chance.choice(("talk", "talk_async")), "stream": stream}
        if self._chance.random() < 0.5:
            path, body["messages"] = "/v1/chat/completions", [{"role": "user", "content": text}]
        else:
            path, body["input"] = "/v1/responses", text
        data, headers = json.dumps(body).encode(), {}
        if self._chance.random() < 0.2:
            data, headers = gzip.compress(data), {"Content_Encoding": "gzip"}
        connection = self._server.connect()
        connection.sendall(request("POST", path, data, **headers))
        return connection, mark, words

    def answer(self) -> str:
        """A good one: whole, and nobody else's."""
        stream = self._chance.random() < 0.6
        connection, mark, words = self.send(stream)
        with connection:
            status, body = read_all(connection)
        if status in REFUSED:
            return refused(body)
        expected = [f"{mark}-{number}" for number in range(words)]
        found = re.findall(r"c\d+n\d+-\d+", text_of(body, stream))
        if status != 200 or found != expected:
            raise Lost(f"{status}, {len(found)} of {words} words: {body[-300:]!r}")
        if stream and not body.endswith(b"data: [DONE]\n\n"):
            raise Lost(f"no end: {body[-300:]!r}")
        return "whole"

    def leaver(self) -> str:
        before = self._chance.choice((0, 1))
        connection, _, _ = self.send(self._chance.random() < 0.7, words=500, delay=0.01, before=before)
        with connection:
            if not before:
                connection.recv(100)
        return "left"

    def failure(self) -> str:
        """The wrapper fails at once or midway: it is told."""
        stream = self._chance.random() < 0.5
        connection, _, _ = self.send(stream, words=10, fails_at=self._chance.choice((0, 5)))
        with connection:
            status, body = read_all(connection)
        if status in REFUSED:
            return refused(body)
        if b"pipeline_error" not in body or b"as it was told to" in body or status not in (200, 500):
            raise Lost(f"{status} {body[-300:]!r}")
        return "told"

    def wrong(self) -> str:
        path = self._chance.choice(("/v1/chat/completions", "/v1/responses"))
        data = self._chance.choice((b"", b"{", b'{"model": 3}', b'{"model": "none", "messages": [], "input": 4}'))
        with self._server.connect() as connection:
            connection.sendall(request("POST", path, data))
            status, body = read_all(connection)
        if status not in (400, 404) or set(json.loads(body)["error"]) != {"message", "type", "param", "code"}:
            raise Lost(f"{status} {body[:300]!r}")
        return str(status)

    def upload(self) -> str:
        form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n%s\r\n'
        form += b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n--b--\r\n'
        size = self._chance.choice((10, 100_000, 3_000_000))
        head = {"Content_Type": "multipart/form-data; boundary=b"}
        data = request("POST", "/v1/files", form % (b"x" * size))
        data = data.replace(b"Content-Type: application/json", f"Content-Type: {head['Content_Type']}".encode(), 1)
        with self._server.connect() as connection:
            connection.sendall(data)
            status, body = read_all(connection)
        if status != 200 or json.loads(body)["bytes"] != size:
            raise Lost(f"{status} {body[:300]!r}")
        return "counted"

    def models(self) -> str:
        begun = time.monotonic()
        with self._server.connect() as connection:
            connection.sendall(request("GET", "/v1/models"))
            status, body = read_all(connection)
        took = time.monotonic() - begun
        if status != 200 or len(json.loads(body)["data"]) != 2 or took > 2:
            raise Lost(f"{status} after {took:.1f} s {body[:300]!r}")
        return "listed"

    def staller(self) -> str:
        """Asks for much and reads nothing for a while."""
        connection, _, _ = self.send(True, words=20_000, delay=0)
        with connection:
            time.sleep(self._chance.choice((0.5, 3)))
        return "stalled"


def refused(body: bytes) -> str:
    return str(json.loads(body)["error"]["code"])


def text_of(body: bytes, stream: bool) -> str:
    """The text of an answer on either API, in one."""
    if not stream:
        answer = json.loads(body)
        if "choices" in answer:
            return str(answer["choices"][0]["message"]["content"])
        return str(answer["output"][0]["content"][0]["text"])
    text = ""
    for line in body.decode().splitlines():
        if line.startswith("data: {"):
            event = json.loads(line.removeprefix("data: "))
            if event.get("choices"):
                text += event["choices"][0]["delta"].get("content") or ""
            elif event.get("type") == "response.output_text.delta":
                text += event["delta"]
    return text


def growth(samples: list[dict[str, float]]) -> float:
    """Megabytes that memory grew in the second half: the slope of a line through it, over its length."""
    half = [sample["rss_mb"] for sample in samples[len(samples) // 2 :]]
    middle, mean = (len(half) - 1) / 2, sum(half) / len(half)
    spread = sum((x - middle) ** 2 for x in range(len(half)))
    return sum((x - middle) * (y - mean) for x, y in enumerate(half)) / spread * len(half) if spread else 0.0


def load(server: Server, clients: int, seconds: float, seed: int) -> tuple[list[Client], list[dict[str, float]]]:
    end = time.monotonic() + seconds
    running = [Client(server, seed + number, end) for number in range(clients)]
    samples = []
    for client in running:
        client.start()
    while time.monotonic() < end:
        samples.append(server.sample())
        time.sleep(1)
    for client in running:
        client.join(60)
    return running, samples


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--clients", type=int, default=40)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--places", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    server = Server(options.threads, options.places)
    try:
        load(server, options.clients, 5, 10_000)
        time.sleep(5)
        warm = server.sample()
        clients, samples = load(server, options.clients, options.seconds, options.seed)
        time.sleep(5)
        idle = server.sample()
    finally:
        server.process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        status = server.process.wait(30)
    took = time.monotonic() - begun
    outcomes: Counter[tuple[str, str]] = sum((client.outcomes for client in clients), Counter())
    faults = [fault for client in clients for fault in client.faults]
    result = {
        "requests": sum(outcomes.values()),
        "outcomes": {f"{kind}: {outcome}": count for (kind, outcome), count in sorted(outcomes.items())},
        "faults": faults[:20],
        "warm": warm,
        "at": {f"{share} %": samples[int((len(samples) - 1) * share / 100)] for share in (10, 50, 100)},
        "idle": idle,
        "growth_mb_in_second_half": round(growth(samples), 2),
        "stop": {"status": status, "seconds": round(took, 2)},
    }
    flat = (
        idle["threads"] <= warm["threads"] + MORE_THREADS
        and idle["descriptors"] <= warm["descriptors"] + MORE_DESCRIPTORS
        and growth(samples) < MORE_MEMORY_MB
    )
    result["good"] = flat and not faults and status == 0
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0 if result["good"] else 1


if __name__ == "__main__":
    sys.exit(main())
