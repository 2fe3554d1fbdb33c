"""``/metrics``: what is counted, when, and for whom."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask import Flask, Response
from haystack.dataclasses import StreamingChunk
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from flaskcompat import APIError, FlaskCompat, create_app

from ..faults import processes
from ..support import Raise, chat_body, eventually, post, response_body, returning, scripted, serving

USAGE = {"usage": {"prompt_tokens": 3, "completion_tokens": 4}}
ITEMS: list[Any] = ["some ", "words", StreamingChunk("", meta=USAGE, finish_reason="stop")]
SURFACES = (("chat_completion", "/v1/chat/completions", chat_body), ("response", "/v1/responses", response_body))


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"flaskcompat_{name}", labels) or 0.0


def metered(**settings: Any) -> Flask:
    app = Flask("host")
    app.config.update(FLASKCOMPAT_METRICS=True, **settings)
    FlaskCompat(app)
    return app


def add(app: Flask, name: str, wrapper: Any) -> None:
    app.extensions["flaskcompat"].registry.add(name, wrapper)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("surface", "path", "body"), SURFACES)
def test_requests_seconds_and_tokens(surface: str, path: str, body: Any, stream: bool) -> None:
    app, name = metered(), f"good-{surface}-{stream}"
    add(app, name, scripted(ITEMS))
    for _ in range(2):
        answer = post(app, path, body(name, stream=stream))
        answer.close()
    on = {"model": name, "surface": surface}
    assert value("requests_total", **on, stream=str(stream).lower(), status="200") == 2
    assert value("request_seconds_count", **on, stream=str(stream).lower()) == 2
    assert value("queue_seconds_count", **on) == 2
    assert value("first_token_seconds_count", **on) == (2 if stream else 0)
    assert value("tokens_total", **on, kind="input") == 6
    assert value("tokens_total", **on, kind="output") == 8
    assert value("streams_open", **on) == 0


@pytest.mark.parametrize("stream", [False, True])
def test_errors_by_their_code(stream: bool) -> None:
    app, name = metered(), f"bad-{stream}"
    add(app, name, scripted(["a", Raise(ValueError("s3cret"))]))
    add(app, f"{name}-odd", scripted([Raise(APIError("no", status=418, code="s3cret \N{BELL}" * 99))]))
    post(app, "/v1/chat/completions", chat_body(name, stream=stream)).close()
    post(app, "/v1/chat/completions", chat_body(f"{name}-odd", stream=stream)).close()
    on = {"model": name, "surface": "chat_completion"}
    assert value("errors_total", **on, code="pipeline_error") == 1
    assert value("requests_total", **on, stream=str(stream).lower(), status="200" if stream else "500") == 1
    assert value("errors_total", model=f"{name}-odd", surface="chat_completion", code="other") == 1
    assert "s3cret" not in app.test_client().get("/metrics").text


def test_client_makes_up_no_labels() -> None:
    app = metered()
    before = value("errors_total", model="", surface="", code="model_not_found")
    post(app, "/v1/chat/completions", chat_body("made-up")).close()
    post(app, "/v1/made-up", {}).close()
    assert value("errors_total", model="", surface="", code="model_not_found") == before + 1
    assert "made-up" not in app.test_client().get("/metrics").text


def test_stream_is_timed_to_its_end_and_open_until_then() -> None:
    app, go_on = metered(), threading.Event()

    def words() -> Iterator[str]:
        yield "one "
        go_on.wait(20)
        yield "two"

    add(app, "slow", returning(words))
    on = {"model": "slow", "surface": "chat_completion"}
    with (
        serving(app) as url,
        httpx.stream("POST", f"{url}/v1/chat/completions", json=chat_body("slow", stream=True)) as r,
    ):
        lines = r.iter_lines()
        assert any("one" in line for line in lines)
        assert value("streams_open", **on) == 1
        assert value("request_seconds_count", **on, stream="true") == 0
        assert (
            'flaskcompat_streams_open{model="slow",surface="chat_completion"} 1.0' in httpx.get(f"{url}/metrics").text
        )
        go_on.set()
        assert "data: [DONE]" in list(lines)
        assert eventually(lambda: value("request_seconds_count", **on, stream="true") == 1)
    assert value("streams_open", **on) == 0
    assert value("first_token_seconds_sum", **on) < value("request_seconds_sum", **on, stream="true")


def test_client_that_leaves_is_counted() -> None:
    app, closed = metered(), threading.Event()

    def words() -> Iterator[str]:
        try:
            while True:
                yield "word "
                closed.wait(0.01)
        finally:
            closed.set()

    add(app, "endless", returning(words))
    on = {"model": "endless", "surface": "response"}
    with serving(app) as url:
        with httpx.stream("POST", f"{url}/v1/responses", json=response_body("endless", stream=True)) as r:
            assert any("word" in line for line in r.iter_lines())
        assert eventually(lambda: value("clients_left_total", **on) == 1)
        assert eventually(lambda: value("streams_open", **on) == 0)
    assert closed.wait(20)


def test_wait_for_a_place_is_timed() -> None:
    app, entered, go_on = metered(FLASKCOMPAT_MAX_GENERATIONS=1), threading.Event(), threading.Event()

    def answer() -> str:
        entered.set()
        go_on.wait(20)
        return "x"

    add(app, "narrow", returning(answer))
    on = {"model": "narrow", "surface": "chat_completion"}
    with serving(app) as url, ThreadPoolExecutor(2) as pool:
        ask = [pool.submit(httpx.post, f"{url}/v1/chat/completions", json=chat_body("narrow"), timeout=20)]
        assert entered.wait(20)
        ask.append(pool.submit(httpx.post, f"{url}/v1/chat/completions", json=chat_body("narrow"), timeout=20))
        assert not threading.Event().wait(0.2)  # that long at least
        go_on.set()
        assert [answer.result().status_code for answer in ask] == [200, 200]
    assert eventually(lambda: value("queue_seconds_count", **on) == 2)
    quick, all_of_them = value("queue_seconds_bucket", **on, le="0.05"), value("queue_seconds_bucket", **on, le="+Inf")
    assert (quick, all_of_them) == (1, 2)


def test_background_response_is_counted_when_it_is_made() -> None:
    app = metered()
    add(app, "later", scripted(ITEMS))
    post(app, "/v1/responses", response_body("later", background=True))
    assert eventually(lambda: value("background_seconds_count", model="later") == 1)
    on = {"model": "later", "surface": "response"}
    assert eventually(lambda: value("tokens_total", **on, kind="output") == 4)
    # Whoever reads its log again makes no tokens.
    answer = post(app, "/v1/responses", response_body("later", background=True, stream=True))
    answer.close()
    assert eventually(lambda: value("background_seconds_count", model="later") == 2)
    assert value("tokens_total", **on, kind="output") == 8


def test_keys_guard_the_metrics() -> None:
    app = metered(FLASKCOMPAT_API_KEYS="ann=a, bob=b demo-*")
    client = app.test_client()
    assert client.get("/metrics").status_code == 401
    seen = client.get("/metrics", headers={"Authorization": "Bearer a"})
    assert seen.status_code == 200 and seen.content_type.startswith("text/plain")
    assert list(text_string_to_metric_families(seen.text))
    limited = client.get("/metrics", headers={"Authorization": "Bearer b"})
    assert limited.status_code == 403 and limited.json["error"]["code"] == "permission_denied"
    with serving(app) as url:
        before = value("errors_total", model="", surface="", code="invalid_api_key")
        assert httpx.post(f"{url}/v1/responses", json={}).status_code == 401  # by its head
        assert value("errors_total", model="", surface="", code="invalid_api_key") == before + 1


def test_off_by_default_and_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = {"FLASKCOMPAT_PIPELINES_DIR": str(tmp_path)}
    assert create_app(folder).test_client().get("/metrics").status_code == 404
    monkeypatch.setitem(sys.modules, "flaskcompat.contrib.metrics", None)
    with pytest.raises(ValueError, match=re.escape("flaskcompat[metrics]")):
        create_app({**folder, "FLASKCOMPAT_METRICS": True})


def test_any_of_several_processes_answers_for_all(tmp_path: Path) -> None:
    settings = {"FLASKCOMPAT_METRICS": "1", "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    with processes.serving("worker", 8, ["-w", "2"], **settings) as server:
        for number in range(16):
            assert server.ask("plain", stream=number % 2 == 0).status_code == 200

        def counted() -> dict[str, float]:
            families = text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text)
            samples = [sample for family in families for sample in family.samples]
            return {s.name: s.value for s in samples if s.labels.get("model") == "plain" and "le" not in s.labels} | {
                f"stream {s.labels['stream']}": s.value
                for s in samples
                if s.name == "flaskcompat_requests_total" and s.labels["model"] == "plain"
            }

        assert eventually(lambda: counted().get("stream true") == 8)
        assert len({process.name for process in tmp_path.iterdir() if process.name.startswith("counter_")}) == 2
        for _ in range(6):  # whichever process is asked
            seen = counted()
            assert (seen["stream true"], seen["stream false"]) == (8, 8)
            assert seen["flaskcompat_streams_open"] == 0 and seen["flaskcompat_first_token_seconds_count"] == 8


def test_several_apis_are_counted_together_and_shown_to_who_may_see_all() -> None:
    app = Flask("host")
    app.config["FLASKCOMPAT_METRICS"] = True
    FlaskCompat(app, url_prefix="/open")
    guarded = FlaskCompat(
        app, url_prefix="/guarded", name="guarded", authenticate=lambda request: request.headers.get("X-User")
    )
    guarded.registry.add("behind a login", scripted(ITEMS))
    post(app, "/guarded/v1/responses", response_body("behind a login"), headers={"X-User": "ann"}).close()
    seen = app.test_client().get("/open/metrics")
    assert seen.status_code == 403 and "behind a login" not in seen.text
    assert value("requests_total", model="behind a login", surface="response", stream="false", status="200") == 1


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text; version=abc", "application/openmetrics-text", "\xff"]
)
def test_whatever_is_accepted(accept: str) -> None:
    assert metered().test_client().get("/metrics", headers={"Accept": accept}).status_code == 200


def test_call_is_counted_whatever_a_hook_of_the_host_s_makes_of_it() -> None:
    app = metered()
    app.after_request(lambda response: Response(response.get_data(), 202))
    add(app, "hooked", returning("hi"))
    post(app, "/v1/chat/completions", chat_body("hooked")).close()
    assert value("requests_total", model="hooked", surface="chat_completion", stream="false", status="202") == 1


def test_refusal_is_timed_with_its_wait_and_who_leaves_is_counted() -> None:
    app, entered, go_on = metered(FLASKCOMPAT_MAX_GENERATIONS=1), threading.Event(), threading.Event()

    def answer() -> str:
        entered.set()
        go_on.wait(20)
        return "x"

    add(app, "busy", returning(answer))
    before = {code: value("clients_left_total", model=code, surface=surface) for code, surface in (("", ""),)}
    with serving(app, threads=1) as url, ThreadPoolExecutor(1) as pool:
        first = pool.submit(httpx.post, f"{url}/v1/chat/completions", json=chat_body("busy"), timeout=20)
        assert entered.wait(20)
        with pytest.raises(httpx.ReadTimeout):  # waits for the place
            httpx.post(f"{url}/v1/chat/completions", json=chat_body("busy"), timeout=0.2)
        assert eventually(lambda: value("clients_left_total", model="", surface="") == before[""] + 1)
        go_on.set()
        assert first.result().status_code == 200


def test_client_that_leaves_a_whole_answer_is_counted() -> None:
    app, entered, go_on = metered(), threading.Event(), threading.Event()

    def answer() -> str:
        entered.set()
        go_on.wait(20)
        return "x"

    add(app, "left", returning(answer))
    with serving(app) as url:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/v1/chat/completions", json=chat_body("left"), timeout=0.2)
        assert entered.wait(20)
        # What its server has seen of it by then.
        assert not threading.Event().wait(0.3)
        go_on.set()
        assert eventually(lambda: value("clients_left_total", model="left", surface="chat_completion") == 1)


def test_folder_that_processes_share_has_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "nowhere")
    with pytest.raises(ValueError, match="PROMETHEUS_MULTIPROC_DIR='nowhere'"):
        metered()
