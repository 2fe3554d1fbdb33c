"""The wrappers of Hayhooks' source distribution after ``flask flaskcompat migrate``: as before, without the alias."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from openai import OpenAI

from flaskcompat.commands.migrate import migrate_command

from ..support import TIMEOUT
from .conftest import serving
from .test_hayhooks_wrappers import METHOD, SURFACES, client, needs, said, upstream, wrappers  # noqa: F401

pytestmark = pytest.mark.clients

#: What was left to do for a wrapper, done as it was told.
BY_HAND = {
    "examples-pipeline_wrappers-chainlit_weather_agent": (
        "from hayhooks.chainlit_events import create_custom_element_event\n",
        "\n\ndef create_custom_element_event(name, props):\n"
        '    return PipelineEvent("custom_element", {"name": name, "props": props})\n\n\n',
    )
}


@pytest.fixture(scope="module")
def migrated(wrappers: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    folder = tmp_path_factory.mktemp("migrated")
    for name, place in wrappers.items():
        shutil.copytree(place, folder / name)
    done = CliRunner().invoke(migrate_command, [str(folder)])
    assert done.exit_code == 0, done.output
    told = [line for line in done.output.splitlines() if line.startswith(f"{folder}/")]
    others = [line for line in told if not re.search(r": `run_api(_async)?` is not served", line)]
    assert [Path(line.partition(":")[0]).parent.name for line in others] == list(BY_HAND)
    for name, (left, instead) in BY_HAND.items():
        path = folder / name / "pipeline_wrapper.py"
        text = path.read_text(encoding="utf-8")
        assert left in text
        path.write_text(text.replace(left, instead), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def migrated_client(migrated: Path, upstream: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:  # noqa: F811
    settings = {"OPENAI_BASE_URL": upstream, "OPENAI_API_KEY": "not-used", "FLASKCOMPAT_HAYHOOKS_ALIAS": "off"}
    with serving(migrated, tmp_path_factory.mktemp("state"), **settings) as url:
        yield OpenAI(base_url=url, api_key="not-used", max_retries=0, timeout=TIMEOUT)


def test_nothing_names_hayhooks_any_more(migrated: Path) -> None:
    sources = [path.read_text(encoding="utf-8") for path in migrated.rglob("*.py")]
    assert len(sources) > 20
    assert not [text for text in sources if re.search(r"^\s*(from|import) +hayhooks", text, re.M)]


def test_they_answer_as_before(wrappers: dict[str, Path], client: OpenAI, migrated_client: OpenAI) -> None:  # noqa: F811
    assert {model.id for model in migrated_client.models.list()} == {model.id for model in client.models.list()}
    answered = 0
    for name, place in wrappers.items():
        if needs(place) is not None:
            continue
        own = set(METHOD.findall((place / "pipeline_wrapper.py").read_text(encoding="utf-8")))
        for surface in own.intersection(SURFACES):
            text = said(migrated_client, name, surface, True)
            assert text.strip() and text == said(client, name, surface, True), (name, surface)
            answered += 1
    assert answered >= 15
