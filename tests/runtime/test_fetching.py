"""What requests name by a URL."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from flask import Flask
from haystack.dataclasses import FileContent, ImageContent

from flaskcompat import (
    BasePipelineWrapper,
    FlaskCompat,
    chat_messages_from_openai_messages,
    chat_messages_from_openai_response,
)
from flaskcompat.errors import InvalidValue, RequestTooLarge
from flaskcompat.runtime.fetching import Fetcher
from flaskcompat.runtime.input_files import file_access
from flaskcompat.stores.files import FileStore
from flaskcompat.stores.memory import MemoryRecords

from ..support import TIMEOUT


class Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/open/away"):
            self.send_response(302)
            self.send_header("Location", "/closed/secret")
        elif self.path.startswith("/open/"):
            self.send_response(200)
            self.send_header("Content-Type", "image/png" if self.path.endswith("png") else "text/plain; charset=x")
        else:
            self.send_response(404)
        self.end_headers()
        self.wfile.write(b"0123456789")

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def pages() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(TIMEOUT)
    server.server_close()


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://a.example/open/x.png", True),
        ("https://a.example:443/open/y/z", True),
        ("https://A.example/open", True),
        ("https://a.example/opened/x", False),
        ("https://a.example/closed/x", False),
        ("https://a.example/open/../closed/x", False),
        ("https://a.example/open/%2e%2e/closed/x", False),
        ("https://a.example/open/%252e%252e/closed/x", False),
        ("https://a.example/open/..\\closed", False),
        ("http://a.example/open/x", False),
        ("https://a.example:444/open/x", False),
        ("https://a.example.evil.example/open/x", False),
        ("https://a.example@evil.example/open/x", False),
        ("https://evil.example/https://a.example/open/x", False),
        ("https://a.example:bad/open/x", False),
        ("file:///open/x", False),
        ("http://b.example:8080/anything", True),
    ],
)
def test_only_what_lies_below_an_allowed_address(url: str, allowed: bool) -> None:
    assert Fetcher("https://a.example/open/, http://b.example:8080", 10).allows(url) == allowed


@pytest.mark.parametrize("wrong", ["a.example", "ftp://a.example/", "file:///etc", "https://user@a.example/"])
def test_what_is_no_address_is_refused_at_the_start(wrong: str) -> None:
    with pytest.raises(ValueError, match="^FLASKCOMPAT_FETCH_URLS: address 2 must be a URL such as https://host/path/"):
        Fetcher(f"https://a.example/, {wrong}", 10)


def test_fetches(pages: str) -> None:
    found = Fetcher(f"{pages}/open/", 10).fetch(f"{pages}/open/a%20b.txt?x=1")
    assert (found.data, found.mime_type, found.filename) == (b"0123456789", "text/plain", "a b.txt")
    with pytest.raises(RequestTooLarge):
        Fetcher(f"{pages}/open/", 9).fetch(f"{pages}/open/a")
    for path in ("open/away", "closed/x"):  # a redirect is not followed
        with pytest.raises(InvalidValue):
            Fetcher(pages, 10).fetch(f"{pages}/{path}")
    with pytest.raises(InvalidValue):
        Fetcher("http://127.0.0.1:9", 10).fetch("http://127.0.0.1:9/")


def user(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": "see"}, *parts]}]


def test_parts_of_messages(pages: str) -> None:
    store = FileStore(MemoryRecords(), None, max_age=0, most=None)
    image = {"type": "image_url", "image_url": {"url": f"{pages}/open/a.png", "detail": "low"}}
    file = {"type": "input_file", "file_url": f"{pages}/open/a.txt"}
    with file_access(store, "alice", Fetcher(f"{pages}/open/", 10)):
        [message] = chat_messages_from_openai_messages(user(image))
        made = message._content[1]
        assert isinstance(made, ImageContent) and (made.mime_type, made.detail) == ("image/png", "low")
        [message] = chat_messages_from_openai_response(user(file))
        assert isinstance(message._content[1], FileContent) and message._content[1].filename == "a.txt"
        other = {"type": "image_url", "image_url": {"url": f"{pages}/closed/a.png"}}
        [message] = chat_messages_from_openai_messages(user(other))
        assert message.meta["openai_parts"] == [other]
    with file_access(store, "alice"):
        [message] = chat_messages_from_openai_messages(user(image))
        assert message.meta["openai_parts"] == [image]


class Images(BasePipelineWrapper):
    """Tells how many images a message has; the responses method on the event loop."""

    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> str:
        [message] = chat_messages_from_openai_messages(messages)
        return f"{len(message.images)} images"

    async def run_response_async(self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]) -> str:
        [here] = chat_messages_from_openai_response(input_items)
        [there] = await asyncio.to_thread(chat_messages_from_openai_response, input_items)
        return f"{len(here.images)} on the loop, {len(there.images)} off it"


@pytest.mark.parametrize("switched_on", [False, True])
def test_by_the_setting_alone_and_never_on_the_event_loop(pages: str, switched_on: bool) -> None:
    app = Flask("host")
    app.config["FLASKCOMPAT_FETCH_URLS"] = f"{pages}/open/" if switched_on else None
    FlaskCompat(app).registry.add("m", Images())
    image = {"type": "image_url", "image_url": {"url": f"{pages}/open/a.png"}}
    answer = app.test_client().post("/v1/chat/completions", json={"model": "m", "messages": user(image)})
    assert answer.json["choices"][0]["message"]["content"] == f"{int(switched_on)} images"
    image = {"type": "input_image", "image_url": f"{pages}/open/a.png"}
    answer = app.test_client().post("/v1/responses", json={"model": "m", "input": user(image)})
    said = answer.json["output"][0]["content"][0]["text"]
    assert said == f"0 on the loop, {int(switched_on)} off it"
