"""A real Apache with mod_wsgi, with the recipe's own configuration."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from ..support import TIMEOUT, chat_body
from .recipes import (
    HEADERS,
    KEY,
    PIPELINES,
    RECIPES,
    ROOT,
    Asker,
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
)

FOLDER = RECIPES / "apache"
MODULES = Path("/usr/lib/apache2/modules")
MB = 1 << 20
#: An Apache as Debian sets it up, as far as it matters here, with mod_deflate at its keenest.
FRAME = """
ServerRoot {folder}
ServerName localhost
PidFile {folder}/pid
Mutex file:{folder}
ErrorLog {folder}/error.log
WSGISocketPrefix {folder}/wsgi
{modules}
RequestReadTimeout header=20-40,minrate=500
RequestReadTimeout body=10,minrate=500
SetOutputFilter DEFLATE
Include {folder}/flaskcompat.conf
"""
LOADED = ("mpm_event", "authz_core", "authz_host", "env", "filter", "deflate", "reqtimeout", "wsgi")


def make_environment(folder: Path) -> None:
    """An environment of the Python that mod_wsgi was built for, with what is installed in this one."""
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", str(folder)], check=True, timeout=TIMEOUT)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "tests.pth").write_text(f"{ROOT}\n{sysconfig.get_path('purelib')}\n")


def start_of_apache(folder: Path, port: int, threads: int) -> list[str]:
    """The command that starts Apache with all of its files in *folder*; skips the test where it cannot be."""
    apache = program("apache2", "apache2")
    version = "{}.{}".format(*sys.version_info[:2])
    if not (MODULES / "mod_wsgi.so").exists():
        pytest.skip("mod_wsgi is not installed (Debian: libapache2-mod-wsgi-py3)")
    if not (MODULES / f"mod_wsgi.so-{version}").exists():
        pytest.skip(f"this machine's mod_wsgi is of another Python than {version}")
    settings = {
        '"/opt/flaskcompat/pipelines"': repr(str(PIPELINES)),
        "/opt/flaskcompat/keys": str(folder / "keys"),
        "/var/lib/flaskcompat": str(folder),
        '"FLASKCOMPAT_KEEP_ALIVE": 5.0': '"FLASKCOMPAT_KEEP_ALIVE": 0.1, "FLASKCOMPAT_MAX_UPLOAD_BYTES": 8 << 20',
    }
    (folder / "flaskcompat.wsgi").write_text(replaced((FOLDER / "flaskcompat.wsgi").read_text(), settings))
    (folder / "keys").write_text(f"alice={KEY}\n")
    places = {
        "127.0.0.1:8081": f"127.0.0.1:{port}",
        "/opt/flaskcompat": str(folder),
        "threads=72": f"threads={threads}",
    }
    make_environment(folder / "venv")
    (folder / "flaskcompat.conf").write_text(replaced((FOLDER / "flaskcompat.conf").read_text(), places))
    modules = "\n".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in LOADED)
    (folder / "apache2.conf").write_text(FRAME.format(folder=folder, modules=modules))
    command = [apache, "-f", str(folder / "apache2.conf"), "-DFOREGROUND"]
    if os.geteuid() != 0:
        return command
    # mod_wsgi does not run as root, and another user may not be able to read what is installed here, but with this
    # capability.
    user = program("setpriv", "util-linux")
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, "www-data", "www-data")
    may = "+dac_read_search"
    identity = ["--reuid", "www-data", "--regid", "www-data", "--clear-groups"]
    return [user, *identity, "--inh-caps", may, "--ambient-caps", may, *command]


@contextmanager
def apache(threads: int = 72) -> Iterator[str]:
    """The base URL of what it serves."""
    with tempfile.TemporaryDirectory() as name:  # a short name: there is a Unix socket in it
        (port,) = free_ports(1)
        command = start_of_apache(Path(name), port, threads)
        served = f"http://127.0.0.1:{port}"
        try:
            # As with most users that serve, there is no home that may be written to.
            with running(command, Path(name) / "log.txt", is_ready=answers(served), HOME=os.devnull):
                yield served
        finally:
            for log in Path(name).glob("error.log"):
                print(log.read_text())  # shown where a test fails


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with apache() as served:
        yield served


def test_some_of_its_threads_are_kept_for_short_requests() -> None:
    with apache(threads=2) as served, gate() as own, Asker(served, own) as asker, own.run() as run:
        run.say("one ")
        assert asker.answer.status == 200
        refused = httpx.post(f"{served}/v1/chat/completions", json=chat_body("gated"), headers=HEADERS, timeout=TIMEOUT)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "concurrency_limit")
        assert httpx.get(f"{served}/v1/models", headers=HEADERS, timeout=TIMEOUT).status_code == 200


def test_stream_arrives_word_by_word(url: str) -> None:
    assert_streams_live(url)


def test_compressed_stream_arrives_word_by_word(url: str) -> None:
    with gate() as own, Asker(url, own, **{"Accept-Encoding": "gzip"}) as asker, own.run() as run:
        run.say("one ")
        assert asker.answer.getheader("Content-Encoding") == "gzip"
        inflate, arrived = zlib.decompressobj(31), b""
        for said, next_one in ((b'"one "', "two "), (b'"two "', "three ")):
            while said not in arrived:
                data = asker.answer.read1(65536)
                assert data
                arrived += inflate.decompress(data)
            run.say(next_one)


def test_keys_are_asked(url: str) -> None:
    assert_keys_are_asked(url)


def test_upload_of_several_megabytes(url: str) -> None:
    assert_file_is_kept(url, os.urandom(6 * MB))


def test_leaver_ends_the_run(url: str) -> None:
    # Apache sees it at one of the next writes: here those of comments in a silent stream.
    assert_leaver_ends_the_run(url)


def test_body_without_a_length(url: str) -> None:
    parts = (b'{"model": "nobody", "messages": [', b'{"role": "user", "content": "hi"}]}')
    headers = {**HEADERS, "Content-Type": "application/json"}
    asked = httpx.post(f"{url}/v1/chat/completions", content=iter(parts), headers=headers, timeout=TIMEOUT)
    assert (asked.status_code, asked.json()["error"]["code"]) == (404, "model_not_found")


def test_what_is_too_large_is_told_by_flaskcompat_and_beyond_by_apache(url: str) -> None:
    asked = httpx.post(f"{url}/v1/files", headers=HEADERS, files={"file": b"x" * 10 * MB}, timeout=TIMEOUT)
    assert (asked.status_code, asked.json()["error"]["code"]) == (413, "request_too_large")
    assert asked.headers["x-request-id"]
    status, body = exchange(url, "POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 200000000\r\n\r\n")
    assert (status, body["error"]["code"]) == (413, "request_too_large")
