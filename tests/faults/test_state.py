"""What was acknowledged survives the death of the process, and any process of several answers for all."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from flaskcompat.runtime import following
from flaskcompat.stores import responses

from ..support import TIMEOUT, eventually
from .processes import Server, serving

#: Seconds until a response whose process has ended must have failed, here and in earnest.
LOST_AFTER, NOTICED = 4.0, 60.0


def client_of(server: Server) -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0, timeout=TIMEOUT)


def wish(words: int, delay: float = 0.0) -> str:
    return json.dumps({"words": words, "delay": delay})


def settings_of(database: str, folder: Path) -> dict[str, str]:
    return {
        "FLASKCOMPAT_DATABASE_URL": database,
        "FLASKCOMPAT_FILES_URL": (folder / "files").as_uri(),
        "LOST_AFTER": str(LOST_AFTER),
        # Other models of the site take uploads over.
        "FLASKCOMPAT_API_KEYS": "x story",
    }


def until_it_is_lost(stream: Iterator[Any]) -> list[Any]:
    """The events of a stream before the error that tells that its process has ended."""
    events = []
    try:
        for event in stream:
            events.append(event)  # noqa: PERF402 - those before the error are wanted
    except openai.APIError as error:
        assert "has ended" in str(error)
        return events
    raise AssertionError("no error was told")


@pytest.fixture
def two(database_url: str, tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    settings = settings_of(database_url, tmp_path)
    with serving("worker", **settings) as one, serving("worker", **settings) as other:
        yield one, other


def test_process_that_makes_a_stream_is_killed(two: tuple[Server, Server]) -> None:
    one, other = two
    with client_of(one) as here, client_of(other) as there:
        seen: list[Any] = []
        with pytest.raises((openai.APIError, httpx.TransportError)):
            for event in here.responses.create(model="story", input=wish(2000, 0.02), background=True, stream=True):
                seen.append(event)
                if len(seen) == 40:
                    os.kill(one.pid, signal.SIGKILL)
        id = seen[0].response.id
        rest = until_it_is_lost(there.responses.retrieve(id, stream=True, timeout=NOTICED))
        # All that was seen was in the log before; what follows has no gap, and ends.
        assert [event.to_dict() for event in rest[: len(seen)]] == [event.to_dict() for event in seen]
        assert [event.sequence_number for event in rest] == list(range(len(rest)))
        assert rest[-1].type == "response.failed"
        assert there.responses.retrieve(id).status == "failed"
        after = until_it_is_lost(there.responses.retrieve(id, stream=True, starting_after=seen[-1].sequence_number))
        assert [event.to_dict() for event in after] == [event.to_dict() for event in rest[len(seen) :]]


def test_it_would_be_noticed_within_a_minute() -> None:
    assert responses.LOST_AFTER + 2 * following._LOOK_FOR_LOST < NOTICED


def test_any_process_answers_for_all(two: tuple[Server, Server]) -> None:
    with client_of(two[0]) as here, client_of(two[1]) as there:
        first = here.responses.create(model="story", input=wish(3))
        second = there.responses.create(model="story", input=wish(2), previous_response_id=first.id)
        assert here.responses.retrieve(second.id).output_text == "0 1 "
        file = here.files.create(file=("a.txt", b"x" * 100_000), purpose="user_data")
        assert there.files.content(file.id).read() == b"x" * 100_000
        running = here.responses.create(model="story", input=wish(2000, 0.02), background=True)
        assert eventually(lambda: there.responses.retrieve(running.id).status == "in_progress")
        assert there.responses.cancel(running.id).status == "cancelled"
        assert here.responses.retrieve(running.id).status == "cancelled"
        stream = there.responses.create(model="story", input=wish(50, 0.01), background=True, stream=True)
        id = next(iter(stream)).response.id  # type: ignore[union-attr]
        stream.close()
        texts = [event.delta for event in here.responses.retrieve(id, stream=True) if hasattr(event, "delta")]
        assert "".join(map(str, texts)) == "".join(f"{number} " for number in range(50))


def test_nothing_acknowledged_is_lost(database_url: str, tmp_path: Path) -> None:
    settings = settings_of(database_url, tmp_path)
    made: list[str] = []
    files: dict[str, bytes] = {}
    background: list[str] = []

    def respond(client: OpenAI) -> None:
        while True:
            stream = client.responses.create(model="story", input=wish(3), stream=True)
            made.extend(event.response.id for event in stream if event.type == "response.completed")

    def upload(client: OpenAI) -> None:
        while True:
            content = os.urandom(300_000)
            files[client.files.create(file=("f", content), purpose="user_data").id] = content

    def begin(client: OpenAI) -> None:
        while True:
            background.append(client.responses.create(model="story", input=wish(3), background=True).id)

    def until_it_dies(work: Any, server: Server) -> None:
        with client_of(server) as client:
            try:
                work(client)
            except openai.APIError:
                pass

    for round in range(2):
        with serving("runner", **settings) as server:
            works = [respond, respond, upload, upload, begin]
            threads = [threading.Thread(target=until_it_dies, args=(work, server)) for work in works]
            for thread in threads:
                thread.start()
            wanted = 10 * (round + 1)
            assert eventually(lambda n=wanted: min(map(len, (made, files, background))) >= n, 20), (
                len(made),
                len(files),
                len(background),
                server.log,
            )
            server.process.kill()
            for thread in threads:
                thread.join(TIMEOUT)
    with serving("runner", **settings) as server, client_of(server) as client:
        for id in made:
            assert client.responses.retrieve(id).status == "completed"
        listed = {file.id: file for file in client.files.list()}
        assert files.keys() <= listed.keys()
        for id, file in listed.items():
            content = client.files.content(id).read()
            assert len(content) == file.bytes and files.get(id, content) == content
        for id in background:
            assert client.responses.retrieve(id).status in ("completed", "queued", "in_progress", "failed")
