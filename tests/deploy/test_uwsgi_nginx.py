"""nginx in front of uWSGI, both with the recipe's own configuration."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from ..support import TIMEOUT, chat_body, eventually
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
    replaced,
    running,
    start_of_nginx,
)

FOLDER = RECIPES / "uwsgi_nginx"
MB = 1 << 20
SETTINGS = {
    **KEYS,
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "FLASKCOMPAT_PIPELINES_DIR": str(PIPELINES),
    "FLASKCOMPAT_KEEP_ALIVE": "0",  # nothing is written in silence: who has left is found in another way
}


def start_of_uwsgi(folder: Path, **changes: str) -> list[str]:
    """The command that starts uWSGI with the recipe's file, of which these lines are different."""
    uwsgi = SCRIPTS / "uwsgi"
    if not uwsgi.exists():
        pytest.skip("uWSGI is not installed in this environment (pip install uwsgi; it needs gcc and Python's headers)")
    (folder / "uwsgi.ini").write_text(replaced((FOLDER / "uwsgi.ini").read_text(), changes))
    return [str(uwsgi), "--ini", str(folder / "uwsgi.ini")]


class Site(SimpleNamespace):
    """What is served: ``url`` is nginx's; ``uwsgi`` is a process."""

    url: str
    folder: Path
    uwsgi: Process


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    nginx = program("nginx", "nginx-light")
    folder = tmp_path_factory.mktemp("site")
    front, back = free_ports(2)
    settings = {
        **SETTINGS,
        "FLASKCOMPAT_DATABASE_URL": f"sqlite:///{folder / 'state.db'}",
        "FLASKCOMPAT_FILES_URL": (folder / "files").as_uri(),
        "FLASKCOMPAT_MAX_UPLOAD_BYTES": str(8 * MB),
    }
    web = start_of_uwsgi(folder, **{"127.0.0.1:1416": f"127.0.0.1:{back}"})
    proxy = start_of_nginx(FOLDER, nginx, folder, front, back)
    url = f"http://127.0.0.1:{front}"

    def is_ready() -> bool:
        # Both: one that loads is not told to stop.
        return (folder / "uwsgi.log").read_text().count("ready in") == 2 and answers(url)()

    with (
        running(proxy, folder / "nginx.log", is_ready=lambda: True),
        running(web, folder / "uwsgi.log", is_ready=is_ready, **settings) as uwsgi,
    ):
        yield Site(url=url, folder=folder, uwsgi=uwsgi)


def test_stream_arrives_word_by_word(site: Site) -> None:
    assert_streams_live(site.url)


def test_leaver_ends_the_run(site: Site) -> None:
    assert_leaver_ends_the_run(site.url)


def test_leaver_of_a_whole_answer_ends_the_run(site: Site) -> None:
    with gate() as own, httpx.Client() as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post(
                f"{site.url}/v1/chat/completions", json=chat_body("gated", text=own.address), headers=HEADERS, timeout=1
            )
        with own.run() as run:
            assert run.is_over


def test_keys_are_asked(site: Site) -> None:
    assert_keys_are_asked(site.url)


def test_upload_of_several_megabytes_is_known_to_both_processes(site: Site) -> None:
    assert_file_is_kept(site.url, os.urandom(6 * MB))


def test_request_id_is_the_clients_own_and_logged(site: Site) -> None:
    asked = httpx.get(f"{site.url}/v1/models", headers={**HEADERS, "X-Request-Id": "mine-1"}, timeout=TIMEOUT)
    assert asked.headers["x-request-id"] == "mine-1"
    log = site.folder / "access.log"
    assert eventually(lambda: '"GET /v1/models HTTP/1.1" 200' in log.read_text() and " mine-1\n" in log.read_text())


def test_head_may_be_longer_than_uwsgi_takes_by_default(site: Site) -> None:
    headers = {**HEADERS, **{f"X-Long-{number}": "x" * 5000 for number in range(4)}}
    assert httpx.get(f"{site.url}/v1/models", headers=headers, timeout=TIMEOUT).status_code == 200


def test_body_without_a_length(site: Site) -> None:
    parts = (b'{"model": "nobody", "messages": [', b'{"role": "user", "content": "hi"}]}')
    headers = {**HEADERS, "Content-Type": "application/json"}
    asked = httpx.post(f"{site.url}/v1/chat/completions", content=iter(parts), headers=headers, timeout=TIMEOUT)
    assert (asked.status_code, asked.json()["error"]["code"]) == (404, "model_not_found")


def test_what_is_too_large_is_told_by_flaskcompat_and_beyond_by_nginx(site: Site) -> None:
    asked = httpx.post(f"{site.url}/v1/files", headers=HEADERS, files={"file": b"x" * 10 * MB}, timeout=TIMEOUT)
    assert (asked.status_code, asked.json()["error"]["code"]) == (413, "request_too_large")
    assert asked.headers["x-request-id"]
    head = "POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 200000000\r\n\r\n"
    status, body = exchange(site.url, head)
    assert (status, body["error"]["code"]) == (413, "request_too_large")


def test_numbers_are_for_those_who_run_the_server(site: Site) -> None:
    asked = httpx.get(f"{site.url}/metrics", headers=HEADERS, timeout=TIMEOUT)
    assert (asked.status_code, asked.json()["error"]["code"]) == (404, "not_found")


def test_log_has_no_errors_of_all_this(site: Site) -> None:
    assert "Traceback" not in site.uwsgi.log and "rror:" not in site.uwsgi.log


# -- without nginx, with fewer threads ---------------------------------------------------------------------


@contextmanager
def alone(folder: Path, **changes: str) -> Iterator[tuple[str, Process]]:
    (port,) = free_ports(1)
    lines = {"uwsgi-socket = 127.0.0.1:1416": f"http-socket = 127.0.0.1:{port}", "threads = 72": "threads = 2"}
    command = start_of_uwsgi(folder, **{**lines, "processes = 2": "processes = 1"}, **changes)
    served = f"http://127.0.0.1:{port}"
    with running(command, folder / "uwsgi.log", is_ready=answers(served), **SETTINGS) as process:
        yield served, process


def test_places_are_what_its_threads_allow_and_sigterm_lets_an_answer_end(tmp_path: Path) -> None:
    with alone(tmp_path) as (url, process), gate() as own, Asker(url, own) as asker, own.run() as run:
        run.say("one ")
        assert asker.next_word() == "one "
        refused = httpx.post(f"{url}/v1/chat/completions", json=chat_body("gated"), headers=HEADERS, timeout=TIMEOUT)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "concurrency_limit")
        process.popen.send_signal(signal.SIGTERM)
        assert eventually(lambda: "graceful shutdown triggered" in process.log)
        run.say("two ")
        assert asker.next_word() == "two "
        run.finish()
        assert asker.next_word() is None
        assert process.popen.wait(TIMEOUT) == 0


def test_forks_of_a_process_that_has_answered_requests(tmp_path: Path) -> None:
    forked = {"lazy-apps = true": "", "flaskcompat:create_app()": "tests.deploy.forked"}
    with alone(tmp_path, **forked) as (url, _):
        assert_streams_live(url)
