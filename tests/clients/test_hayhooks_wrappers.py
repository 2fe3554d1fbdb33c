"""Wrappers of Hayhooks' own examples and tests, as they are in its source distribution, served without Hayhooks."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import APIStatusError, OpenAI

from ..support import TIMEOUT
from .conftest import HERE, serving
from .environments import environment

pytestmark = pytest.mark.clients

SURFACES = ("chat_completion", "response")
METHOD = re.compile(r"def run_(chat_completion|response)(?:_async)?\(")
# What a wrapper needs beside Hayhooks and Haystack, where it is not installed.
ABSENT = {"trafilatura": "HTMLToDocument", "haystack_integrations.tools.mcp": "haystack_integrations"}


@pytest.fixture(scope="module")
def wrappers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every wrapper that has a chat or responses method, by a name for it."""
    [source] = environment("hayhooks").glob("hayhooks-*/")
    found = {}
    for path in sorted(source.glob("examples/**/pipeline_wrapper.py")) + sorted(
        source.glob("tests/**/pipeline_wrapper.py")
    ):
        if METHOD.search(path.read_text(encoding="utf-8")):
            found["-".join(path.parent.relative_to(source).parts)] = path.parent
    return found


@pytest.fixture(scope="module")
def upstream(wrappers: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What stands for the OpenAI API: the scripted model, under the names that the wrappers ask for."""
    folder = tmp_path_factory.mktemp("upstream")
    shutil.copy(HERE / "pipelines" / "_scripted.py", folder)
    asked = {
        name
        for place in wrappers.values()
        for path in place.rglob("*.*")
        if path.suffix in (".py", ".yml")
        for name in re.findall(r"\bgpt-[0-9a-z.-]*[0-9a-z]", path.read_text(encoding="utf-8"))
    }
    for name in asked:
        shutil.copytree(HERE / "pipelines" / "scripted", folder / name)
    with serving(folder, tmp_path_factory.mktemp("state")) as url:
        yield url


@pytest.fixture(scope="module")
def client(wrappers: dict[str, Path], upstream: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    folder = tmp_path_factory.mktemp("wrappers")
    for name, place in wrappers.items():
        shutil.copytree(place, folder / name)
    settings = {"OPENAI_BASE_URL": upstream, "OPENAI_API_KEY": "not-used"}
    with serving(folder, tmp_path_factory.mktemp("state"), **settings) as url:
        yield OpenAI(base_url=url, api_key="not-used", max_retries=0, timeout=TIMEOUT)


def needs(place: Path) -> str | None:
    """A package that a wrapper needs and that is not here."""
    text = "".join(path.read_text(encoding="utf-8") for path in place.rglob("*.*") if path.suffix in (".py", ".yml"))
    return next((package for package, mark in ABSENT.items() if mark in text), None)


def test_all_of_them_load(wrappers: dict[str, Path], client: OpenAI) -> None:
    assert len(wrappers) > 20
    assert {model.id for model in client.models.list()} == {n for n, place in wrappers.items() if needs(place) is None}


def test_each_answers_on_its_surfaces(wrappers: dict[str, Path], client: OpenAI) -> None:
    answered = 0
    for name, place in wrappers.items():
        if needs(place) is not None:
            continue
        own = set(METHOD.findall((place / "pipeline_wrapper.py").read_text(encoding="utf-8")))
        for surface in SURFACES:
            if surface in own:
                text = said(client, name, surface, False)
                assert text.strip() and text == said(client, name, surface, True), (name, surface)
                answered += 1
            else:
                with pytest.raises(APIStatusError, match="has no run_"):
                    said(client, name, surface, True)
    assert answered >= 15


def said(client: OpenAI, model: str, surface: str, stream: bool) -> str:
    """The text that a model gives."""
    question = "weather in Paris"
    if surface == "response":
        if not stream:
            return client.responses.create(model=model, input=question).output_text
        with client.responses.stream(model=model, input=question) as events:
            return events.get_final_response().output_text
    messages: Any = [{"role": "user", "content": question}]
    if not stream:
        return client.chat.completions.create(model=model, messages=messages).choices[0].message.content or ""
    chunks = client.chat.completions.create(model=model, messages=messages, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
