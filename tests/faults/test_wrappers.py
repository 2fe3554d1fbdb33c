"""What a wrapper can do to the server: nothing."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product

from ..support import eventually
from .processes import SLACK, kinds, read_all, serving

ERRORS = ["ValueError", "KeyboardInterrupt", "SystemExit", "GeneratorExit", "StopIteration", "StopAsyncIteration"]
ERRORS += ["CancelledError", "MemoryError", "RecursionError", "TimeoutError", "BrokenPipeError", "Odd", "Own"]
ERRORS += ["ExceptionGroup", "Shy"]
WHERE = ("call", "midway", "close")


# These end an iteration and are no failures there.
ENDS = {"raises": {"StopIteration"}, "async_raises": {"StopIteration", "StopAsyncIteration"}}


@kinds
def test_error_of_any_class_at_any_moment_ends_its_own_request_alone(kind: str) -> None:
    with serving(kind, 16) as server:
        server.ask("plain")
        threads = server.threads_and_descriptors[0]
        for model, error, where, stream in product(("raises", "async_raises"), ERRORS, WHERE, (False, True)):
            answer = server.ask(model, error=error, where=where, stream=stream)
            told = (model, error, where, stream, answer.text)
            assert "s3cret" not in answer.text, told
            if where == "close" or (where == "midway" and error in ENDS[model]):
                assert answer.status_code == 200 and "pipeline_error" not in answer.text, told
            else:
                assert "pipeline_error" in answer.text and '"finish_reason":"stop"' not in answer.text, told
                assert answer.status_code == (200 if stream and where == "midway" else 500), told
        assert server.ask("async_plain").status_code == server.ask("plain").status_code == 200
        assert eventually(lambda: server.threads_and_descriptors[0] <= threads + 10)


@kinds
def test_code_of_a_wrapper_s_own_holds_up_its_own_stream_alone(kind: str) -> None:
    with serving(kind, 16) as server:
        slow = server.send("slow_events")
        answer = b""
        while b'"a"' not in answer:
            answer += slow.recv(1000)
        begun = time.monotonic()
        for model in ("words", "pipeline"):
            assert server.ask(model, stream=True).status_code == 200
        assert time.monotonic() - begun < 2
        assert b"[DONE]" in read_all(slow)


@kinds
def test_stream_from_the_depth_of_a_recursion_ends_with_an_error(kind: str) -> None:
    with serving(kind, 16) as server:
        for stream in (True, False):
            answer = server.ask("deep", stream=stream)
            assert "pipeline_error" in answer.text and '"finish_reason":"stop"' not in answer.text
        assert server.log.count("RecursionError") >= 2


@kinds
def test_wrapper_that_blocks_the_loop_is_named_and_left_to_itself(kind: str) -> None:
    with serving(kind, 16) as server, ThreadPoolExecutor() as pool:
        server.ask("async_plain")
        blockers = [pool.submit(server.ask, "blocks_loop", seconds=2) for _ in range(3)]
        assert eventually(lambda: "something" in server.log or "the model 'blocks_loop' blocks" in server.log)
        for model in ("plain", "async_plain", "async_words", "async_pipeline"):
            start = time.monotonic()
            assert server.ask(model, stream=True).status_code == 200
            assert time.monotonic() - start < 2 + SLACK
        assert all(future.result().status_code == 200 for future in blockers)
        assert "blocks_loop" in server.log and "time.sleep(told(messages)" in server.log


@kinds
def test_requests_that_wait_behind_a_blocked_loop_move_on(kind: str) -> None:
    with serving(kind, 16) as server, ThreadPoolExecutor() as pool:
        server.ask("async_plain")
        blocker = pool.submit(server.ask, "blocks_loop", seconds=6)
        took = []
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            start = time.monotonic()
            assert server.ask("async_plain").status_code == 200
            took.append(time.monotonic() - start)
        assert max(took) < 2 + SLACK
        assert blocker.result().status_code == 200


def test_answer_that_never_ends_is_refused_before_it_fills_the_memory() -> None:
    with serving("runner", 4) as server:
        server.ask("plain")
        before = server.memory
        endless = server.ask("endless", size=100_000)
        assert endless.status_code == 500 and endless.json()["error"]["code"] == "pipeline_error"
        assert eventually(lambda: server.open_runs().get("endless") == 0)
        assert server.memory < before + 200


@kinds
def test_time_limits(kind: str) -> None:
    limits = {"FLASKCOMPAT_REQUEST_TIMEOUT": "1.5", "FLASKCOMPAT_CHUNK_TIMEOUT": "0.7"}
    with serving(kind, 16, **limits) as server:
        for model in ("words", "async_words"):
            for stream in (False, True):
                late = server.ask(model, stream=stream, before=1)
                assert late.status_code == 504 and late.json()["error"]["code"] == "pipeline_timeout"
            slow = server.ask(model, stream=True, words=100, delay=0.1)
            assert slow.status_code == 200 and "pipeline_timeout" in slow.text and "w9 " in slow.text
            assert '"finish_reason":"stop"' not in slow.text
            assert server.ask(model, stream=False, words=100, delay=0.1).status_code == 504
            assert server.ask(model, words=3).status_code == 200
        blocked = server.ask("blocks_thread", seconds=5)
        assert blocked.status_code == 504 and blocked.elapsed.total_seconds() < 3
        assert eventually(lambda: not any(server.open_runs().values()))
