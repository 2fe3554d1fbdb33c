"""The API inside of applications that others wrote the frame of, behind their own login."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import httpx
import openai
import pytest
from flask import Flask

from ..support import chat_body, chat_text, response_body, serving

# Old hosts stand on what their own libraries call old.
pytestmark = pytest.mark.filterwarnings("ignore")

_HOSTS = {"flask_appbuilder": "app_builder", "dash": "dash_page"}


@dataclass
class Host:
    """A host that is being served.

    :param module: how it is made, and logged in to.
    :param cookie: of a session that is logged in.
    """

    module: ModuleType
    url: str
    cookie: str

    def client(self, *, logged_in: bool, alone: Flask | None = None) -> httpx.Client:
        """A client of the host; of the same one without the API if *alone* is it."""
        headers = {"Cookie": self.cookie} if logged_in else {}
        transport = httpx.WSGITransport(alone) if alone is not None else None
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, transport=transport)


@pytest.fixture(scope="module", params=_HOSTS)
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    pytest.importorskip(request.param)
    module = importlib.import_module(f"{__package__}.{_HOSTS[request.param]}")
    app = module.make_host(tmp_path_factory.mktemp("host"), embedding=True)
    with serving(app) as url:
        with httpx.Client(base_url=url, timeout=30) as client:
            module.log_in(client)
            cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        yield Host(module, url, cookie)


@pytest.fixture
def client(host: Host) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{host.url}/ai/v1", api_key="not-used", default_headers={"Cookie": host.cookie}, max_retries=0
    ) as client:
        yield client


def test_whole_answers(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["greeter"]
    completion = client.chat.completions.create(model="greeter", messages=[{"role": "user", "content": "hi"}])
    assert completion.choices[0].message.content == "Hello ada"
    assert client.responses.create(model="greeter", input="hi").output_text == "Hello ada"


def test_streamed_answers(client: openai.OpenAI) -> None:
    chunks = client.chat.completions.create(model="greeter", messages=[{"role": "user", "content": "hi"}], stream=True)
    assert chat_text([chunk.to_dict() for chunk in chunks]) == "Hello ada"
    events = list(client.responses.create(model="greeter", input="hi", stream=True))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == "Hello ada"
    assert events[-1].type == "response.completed"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/ai/v1/chat/completions", "/ai/responses"])
def test_without_a_login_no_redirect_to_a_page(host: Host, path: str, stream: bool) -> None:
    body = (chat_body if "chat" in path else response_body)("greeter", stream=stream)
    with host.client(logged_in=False) as client:
        answer = client.post(path, json=body)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_errors_below_the_prefix_have_the_api_s_shape(host: Host) -> None:
    with host.client(logged_in=True) as client:
        assert client.get("/ai/v1/nothing").json()["error"]["code"] == "not_found"
        assert client.get("/ai/v1/responses").json()["error"]["code"] == "method_not_allowed"
        assert client.post("/ai/v1/responses", content=b"{").json()["error"]["code"] == "unsupported_media_type"


@pytest.mark.parametrize("logged_in", [False, True])
def test_pages_of_the_host_answer_as_without_the_api(host: Host, logged_in: bool, tmp_path: Path) -> None:
    alone = host.module.make_host(tmp_path, embedding=False)
    with host.client(logged_in=logged_in) as ours, host.client(logged_in=logged_in, alone=alone) as before:
        for page, statuses in host.module.PAGES.items():
            found, expected = ours.get(page), before.get(page)
            assert found.status_code == expected.status_code == statuses[logged_in], page
            assert found.headers.get("Content-Type") == expected.headers.get("Content-Type"), page
            assert found.headers.get("Location") == expected.headers.get("Location"), page
            assert len(found.text) == len(expected.text), page
