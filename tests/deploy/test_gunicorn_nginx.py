"""nginx in front of gunicorn, both with the recipe's own configuration."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from ..support import TIMEOUT, eventually
from .recipes import (
    HEADERS,
    KEYS,
    PIPELINES,
    RECIPES,
    SCRIPTS,
    Asker,
    Process,
    answers,
    assert_file_is_kept,
    assert_keys_are_asked,
    assert_leaver_ends_the_run,
    assert_streams_live,
    exchange,
    free_ports,
    gate,
    program,
    running,
    start_of_nginx,
)

FOLDER = RECIPES / "gunicorn_nginx"
MB = 1 << 20


class Site(SimpleNamespace):
    """What is served: ``url`` is nginx's, ``behind`` gunicorn's; ``gunicorn`` and ``nginx`` are processes."""

    url: str
    behind: str
    folder: Path
    gunicorn: Process
    nginx: Process


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    nginx = program("nginx", "nginx-light")
    pytest.importorskip("gunicorn")
    pytest.importorskip("prometheus_client")
    folder = tmp_path_factory.mktemp("site")
    front, back = free_ports(2)
    settings = {
        **KEYS,
        "HAYSTACK_TELEMETRY_ENABLED": "False",
        "FLASKCOMPAT_PIPELINES_DIR": str(PIPELINES),
        "FLASKCOMPAT_DATABASE_URL": f"sqlite:///{folder / 'state.db'}",
        "FLASKCOMPAT_FILES_URL": (folder / "files").as_uri(),
        "FLASKCOMPAT_MAX_UPLOAD_BYTES": str(8 * MB),
        "FLASKCOMPAT_METRICS": "on",
        "PROMETHEUS_MULTIPROC_DIR": str(folder / "numbers"),
        "FLASKCOMPAT_SHUTDOWN_GRACE": "25",  # as little as graceful_timeout leaves
    }
    url = f"http://127.0.0.1:{front}"
    web = [str(SCRIPTS / "gunicorn"), "-c", str(FOLDER / "gunicorn.conf.py"), "-b", f"127.0.0.1:{back}"]
    (folder / "numbers").mkdir()
    proxy = start_of_nginx(FOLDER, nginx, folder, front, back)
    with (
        running(web, folder / "gunicorn.log", is_ready=answers(f"http://127.0.0.1:{back}"), **settings) as gunicorn,
        running(proxy, folder / "nginx.log", is_ready=answers(url)) as process,
    ):
        yield Site(url=url, behind=f"http://127.0.0.1:{back}", folder=folder, gunicorn=gunicorn, nginx=process)


def test_stream_arrives_word_by_word(site: Site) -> None:
    assert_streams_live(site.url)


def test_leaver_ends_the_run(site: Site) -> None:
    assert_leaver_ends_the_run(site.url)


def test_keys_are_asked(site: Site) -> None:
    assert_keys_are_asked(site.url)


def test_upload_of_several_megabytes_is_known_to_both_processes(site: Site) -> None:
    assert len(site.gunicorn.children) == 2
    assert_file_is_kept(site.url, os.urandom(6 * MB))


def test_request_id_is_the_clients_own_and_logged(site: Site) -> None:
    asked = httpx.get(f"{site.url}/v1/models", headers={**HEADERS, "X-Request-Id": "mine-1"}, timeout=TIMEOUT)
    assert asked.headers["x-request-id"] == "mine-1"
    log = site.folder / "access.log"
    assert eventually(lambda: '"GET /v1/models HTTP/1.1" 200' in log.read_text() and " mine-1\n" in log.read_text())


def test_what_is_too_large_is_told_by_flaskcompat_and_beyond_by_nginx(site: Site) -> None:
    asked = httpx.post(f"{site.url}/v1/files", headers=HEADERS, files={"file": b"x" * 10 * MB}, timeout=TIMEOUT)
    assert (asked.status_code, asked.json()["error"]["code"]) == (413, "request_too_large")
    assert asked.headers["x-request-id"]
    head = "POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 200000000\r\n\r\n"
    status, body = exchange(site.url, head)
    assert (status, body["error"]["code"]) == (413, "request_too_large")


def test_numbers_are_behind_nginx_alone(site: Site) -> None:
    asked = httpx.get(f"{site.url}/metrics", headers=HEADERS, timeout=TIMEOUT)
    assert (asked.status_code, asked.json()["error"]["code"]) == (404, "not_found")
    assert_streams_live(site.url)
    asked = httpx.get(f"{site.behind}/metrics", headers=HEADERS, timeout=TIMEOUT)
    assert 'flaskcompat_requests_total{model="gated"' in asked.text


def numbers_of(site: Site, pids: set[int]) -> set[int]:
    """Those of *pids* that count as processes with something open."""
    named = {int(path.stem.rpartition("_")[2]) for path in (site.folder / "numbers").glob("gauge_live*")}
    return named & pids


def test_nothing_is_lost_while_workers_are_replaced(site: Site) -> None:
    before = site.gunicorn.children
    done: list[bool] = []

    def ask_on() -> int:
        asked = 0
        with httpx.Client(headers=HEADERS, timeout=TIMEOUT) as client:
            while not done:
                body = {"model": "nobody", "messages": [{"role": "user", "content": "hi"}]}
                answer = client.post(f"{site.url}/v1/chat/completions", json=body)
                assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found"), answer.text
                asked += 1
        return asked

    with ThreadPoolExecutor(4) as pool, gate() as own, Asker(site.url, own) as asker, own.run() as run:
        run.say("before ")
        assert asker.next_word() == "before "
        assert numbers_of(site, before)
        asking = [pool.submit(ask_on) for _ in range(4)]
        site.gunicorn.popen.send_signal(signal.SIGHUP)
        try:
            assert eventually(lambda: len(site.gunicorn.children - before) == 2, 60)
            # The stream is the old worker's, and goes on there within its grace.
            run.say("after ")
            assert asker.next_word() == "after "
            run.finish()
            assert asker.next_word() is None
            assert eventually(lambda: not site.gunicorn.children & before, 60)
            assert eventually(lambda: not numbers_of(site, before))
        finally:
            done.append(True)
        assert min(each.result() for each in asking) > 1
    assert "Traceback" not in site.gunicorn.log


def test_nginx_alone_says_that_nobody_is_there(tmp_path: Path) -> None:
    nginx = program("nginx", "nginx-light")
    front, back = free_ports(2)
    command = start_of_nginx(FOLDER, nginx, tmp_path, front, back)
    subprocess.run([*command, "-t"], check=True, capture_output=True, timeout=TIMEOUT)
    url = f"http://127.0.0.1:{front}/v1/models"

    def is_up() -> bool:
        try:
            return httpx.get(url, timeout=TIMEOUT).status_code == 502
        except httpx.ConnectError:
            return False

    with running(command, tmp_path / "nginx.log", is_ready=is_up):
        asked = httpx.get(url, timeout=TIMEOUT)
        assert (asked.status_code, asked.json()["error"]["code"]) == (502, "server_unavailable")


def test_hook_for_numbers_does_nothing_where_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    child_exit = runpy.run_path(str(FOLDER / "gunicorn.conf.py"))["child_exit"]
    assert child_exit(None, SimpleNamespace(pid=7)) is None
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "somewhere")
    with pytest.raises(ImportError):  # what it would have asked for otherwise
        child_exit(None, SimpleNamespace(pid=7))
