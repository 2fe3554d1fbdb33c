"""Clients that leave, by the hundred: what they asked for ends, and nothing of it stays."""

from __future__ import annotations

import time

from ..support import eventually
from .processes import SLACK, Server, kinds, serving

MODELS = ("words", "async_words", "pipeline", "async_pipeline")


def leave(server: Server, model: str, *, stream: bool, first_token: bool) -> None:
    wish = {"words": 2000, "delay": 0.05} if first_token else {"before": 3, "words": 1}
    if not first_token and "pipeline" in model:
        wish = {"words": 1, "delay": 3}
    with server.send(model, stream=stream, **wish) as connection:
        if first_token and stream:
            connection.recv(1000)


@kinds
def test_hundreds_of_leavers_cost_nothing(kind: str) -> None:
    with serving(kind, 16) as server:
        for model in MODELS:
            server.ask(model, stream=True)
        # The first round starts what is kept: threads of the pool, memory of the allocator.
        crowd(server, 40)
        threads, descriptors = server.threads_and_descriptors
        memory = server.memory
        begun = time.monotonic()
        crowd(server, 320)
        took = time.monotonic() - begun
        assert eventually(lambda: not any(server.open_runs().values()))
        assert eventually(lambda: server.threads_and_descriptors[0] <= threads + 10), server.threads_and_descriptors
        assert eventually(lambda: server.threads_and_descriptors[1] <= descriptors + 3), server.threads_and_descriptors
        assert server.memory <= memory + 32
        assert "Traceback" not in server.log
        # Each was away within seconds: with their full length 16 at a time would have taken many minutes.
        assert took < 120
        assert server.ask("plain").json()["choices"][0]["message"]["content"] == "plain"


def crowd(server: Server, number: int) -> None:
    for n in range(number):
        model = MODELS[n % len(MODELS)]
        leave(server, model, stream=n % 8 < 6, first_token=n % 3 > 0)
        if n % 16 == 15:
            assert eventually(lambda: sum(server.open_runs().values()) <= 8)


@kinds
def test_each_is_noticed_within_two_seconds(kind: str) -> None:
    with serving(kind, 16) as server:
        for model in MODELS:
            for stream in (True, False):
                connection = server.send(model, stream=stream, words=2000, delay=0.05)
                if stream:
                    connection.recv(1000)
                assert eventually(lambda m=model: server.open_runs().get(m) == 1)  # type: ignore[misc]
                begun = time.monotonic()
                connection.close()
                assert eventually(lambda m=model: server.open_runs().get(m) == 0)  # type: ignore[misc]
                assert time.monotonic() - begun < 2 + SLACK, (model, stream)
