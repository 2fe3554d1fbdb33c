"""More than there are places: each answer is whole or refused in order."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx

from ..support import chat_text, events_of, eventually
from .processes import SLACK, Server, kinds, serving

THREADS = 8


def outcome(server: Server, number: int, model: str, seconds: float) -> str:
    words = 20
    answer = server.ask(model, stream=True, words=words, delay=seconds / words, mark=f"s{number}-", timeout=60)
    if answer.status_code == 200:
        assert chat_text(events_of(answer.text)) == "".join(f"s{number}-{n} " for n in range(words))
        assert answer.text.endswith("data: [DONE]\n\n")
        return "whole"
    assert answer.status_code in (429, 503) and answer.headers["retry-after"] == "1", answer.text
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    return str(answer.json()["error"]["code"])


@kinds
def test_four_times_as_many_streams_as_places(kind: str) -> None:
    limits = {"FLASKCOMPAT_MAX_GENERATIONS": str(THREADS)} if kind == "runner" else {}
    with serving(kind, THREADS, **limits) as server, ThreadPoolExecutor(4 * THREADS) as pool:
        begun = [pool.submit(outcome, server, n, ("words", "async_words")[n % 2], 1.0) for n in range(4 * THREADS)]
        slowest = 0.0
        while not all(future.done() for future in begun):
            start = time.monotonic()
            assert httpx.get(f"{server.url}/v1/models", timeout=20).status_code == 200
            slowest = max(slowest, time.monotonic() - start)
        outcomes = Counter(future.result() for future in begun)
        assert set(outcomes) <= {"whole", "concurrency_limit"} and outcomes["whole"] >= THREADS
        if kind == "runner":
            assert outcomes["whole"] == 4 * THREADS, "waiting costs no thread there"
        assert slowest < 2 + SLACK


def test_waiting_ends_in_a_refusal_after_ten_seconds() -> None:
    with serving("runner", 2, FLASKCOMPAT_MAX_GENERATIONS="2") as server, ThreadPoolExecutor(40) as pool:
        held = [pool.submit(outcome, server, n, "words", 15.0) for n in range(2)]
        assert eventually(lambda: httpx.get(f"{server.url}/healthz").status_code == 200)
        start = time.monotonic()
        late = [pool.submit(outcome, server, n, "words", 0.1) for n in range(2, 22)]
        refused = Counter(future.result() for future in late)
        took = time.monotonic() - start
        assert refused["concurrency_limit"] >= 18 and took < 14
        assert all(future.result() == "whole" for future in held)


@kinds
def test_limit_of_one_model_leaves_the_others_alone(kind: str) -> None:
    with serving(kind, THREADS) as server, ThreadPoolExecutor(20) as pool:
        own = [pool.submit(outcome, server, n, "one_at_a_time", 0.5) for n in range(10)]
        assert eventually(lambda: server.open_runs().get("words") == 1)
        start = time.monotonic()
        assert outcome(server, 99, "async_words", 0.2) == "whole"
        assert time.monotonic() - start < 2 + SLACK
        assert server.open_runs().get("words", 0) <= 1
        outcomes = Counter(future.result() for future in own)
        assert outcomes["whole"] >= 2 and outcomes["concurrency_limit"] >= 1
