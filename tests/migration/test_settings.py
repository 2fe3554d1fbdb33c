"""Settings and requirements, and the texts of a folder together."""

from __future__ import annotations

from pathlib import PurePath

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flaskcompat.config import HAYHOOKS_SETTINGS
from flaskcompat.migration import FILES, Migrated, migrate_texts
from flaskcompat.migration.settings import in_place_of, look_through, migrate_environment, migrate_requirements


def told(migrated: Migrated) -> list[tuple[int, str]]:
    return [(note.line, note.text) for note in migrated.notes]


def test_settings_of_an_environment_s_file() -> None:
    text = (
        "# HAYHOOKS_PIPELINES_DIR=old\r\n export  HAYHOOKS_PIPELINES_DIR = 'a b' # here\r\nHAYHOOKS_SHOW_TRACEBACKS=1\n"
        "OTHER=HAYHOOKS_PORT=1\nHAYHOOKS_PORT=1416\nHAYHOOKS_CORS_MAX_AGE=1\nHAYHOOKS_MCP_PORT=2"
    )
    done = migrate_environment(text)
    assert done.text == text.replace("export  HAYHOOKS_PIPELINES_DIR", "export  FLASKCOMPAT_PIPELINES_DIR").replace(
        "HAYHOOKS_SHOW_TRACEBACKS", "FLASKCOMPAT_TRACEBACKS"
    )
    assert [(line, text.split(":")[0]) for line, text in told(done)] == [
        (5, "`HAYHOOKS_PORT` has no counterpart"),
        (6, "`HAYHOOKS_CORS_MAX_AGE` has no counterpart"),
        (7, "`HAYHOOKS_MCP_PORT` has no counterpart"),
    ]
    assert migrate_environment(done.text) == done


def test_every_setting_of_the_table_is_renamed() -> None:
    for ours, theirs in HAYHOOKS_SETTINGS.items():
        assert migrate_environment(f"{theirs}=x\n") == Migrated(f"{ours}=x\n")
        assert in_place_of(theirs) == f"`{theirs}` is `{ours}` here"


def test_setting_that_is_there_under_both_names_or_read_elsewhere_is_left() -> None:
    both = "HAYHOOKS_PIPELINES_DIR=a\nFLASKCOMPAT_PIPELINES_DIR=b\n"
    assert migrate_environment(both).text == both and told(migrate_environment(both))[0][0] == 1
    texts = {
        PurePath(
            "x/.env"
        ): "HAYHOOKS_PIPELINES_DIR=a\nHAYHOOKS_SHOW_TRACEBACKS=0\nP=${HAYHOOKS_ADDITIONAL_PYTHON_PATH}",
        PurePath("local.env"): "HAYHOOKS_ADDITIONAL_PYTHON_PATH=y",
        PurePath("compose.yml"): "volumes: ['${HAYHOOKS_PIPELINES_DIR}:/p']",
    }
    done = migrate_texts(texts)
    assert done[PurePath("x/.env")].text == texts[PurePath("x/.env")].replace("HAYHOOKS_SHOW_", "FLASKCOMPAT_")
    assert done[PurePath("local.env")].text == texts[PurePath("local.env")]
    assert told(done[PurePath("compose.yml")]) == [(1, "`HAYHOOKS_PIPELINES_DIR` is `FLASKCOMPAT_PIPELINES_DIR` here")]


@pytest.mark.parametrize(
    ("line", "after"),
    [
        ("hayhooks", "flaskcompat"),
        (" Hayhooks == 2.1.0  # served", " flaskcompat  # served"),
        ("hayhooks>=1.0, <3 ; python_version > '3'", "flaskcompat ; python_version > '3'"),
        ("hayhooks~=2.1", "flaskcompat"),
    ],
)
def test_requirement(line: str, after: str) -> None:
    text = f"haystack-ai\r\n{line}\r\nhayhooks-tools\nx # hayhooks"
    assert migrate_requirements(text, is_needed=False) == Migrated(text.replace(line, after, 1))
    assert told(migrate_requirements(text, is_needed=True))[0][0] == 2


@pytest.mark.parametrize(
    "text", ["hayhooks[a2a]", "hayhooks @ file:///x", "hayhooks==1 \\\n --hash=sha256:0", "hayhooks\nflaskcompat>=0"]
)
def test_requirement_that_is_not_plain_is_left(text: str) -> None:
    done = migrate_requirements(text, is_needed=False)
    assert done.text == text and [line for line, _ in told(done)] == [1]


def test_requirement_stays_while_a_source_needs_it() -> None:
    texts = {PurePath("requirements-dev.txt"): "hayhooks\n", PurePath("a.py"): "from hayhooks import log, SSEStream\n"}
    first = migrate_texts(texts)
    assert first[PurePath("requirements-dev.txt")].text == "hayhooks\n"
    assert "from hayhooks import SSEStream" in first[PurePath("a.py")].text
    texts[PurePath("a.py")] = "from hayhooks import log\n"
    assert migrate_texts(texts)[PurePath("requirements-dev.txt")] == Migrated("flaskcompat\n")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("CMD hayhooks run --host 0.0.0.0", "flaskcompat serve"),
        ("FROM deepset/hayhooks:main", "image"),
        ("RUN pip install hayhooks", "in place of hayhooks"),
        ('dependencies = ["hayhooks[mcp]>=2"]', "in place of hayhooks"),
        ("    hayhooks>=2", "in place of hayhooks"),
        ("    hayhooks==1.0", "in place of hayhooks"),
        ("  - hayhooks>=2", "in place of hayhooks"),
        ("command: [hayhooks, run]", "flaskcompat serve"),
        ('CMD ["hayhooks", "run", "--host", "x"]', "flaskcompat serve"),
        ("- 'hayhooks'\n  - run", "flaskcompat serve"),
        ('"from hayhooks import log\\n",', "import from flaskcompat"),
        ("ENV HAYHOOKS_HOST=0.0.0.0", "--host"),
    ],
)
def test_other_files_are_looked_through(line: str, says: str) -> None:
    text = f"# {line.splitlines()[0]}\n{line}\n  hayhooks:\n    container_name: hayhooks\n"
    done = look_through(text)
    [(number, advice)] = told(done)
    assert done.text == text and number == 2 and says in advice


def test_kinds_of_files_that_are_looked_through() -> None:
    texts = {PurePath(name): "name: HAYHOOKS_PORT" for name in ("k8s.yaml", "ci.yml", "compose.yml", "note.ipynb")}
    texts[PurePath("setup.py")] = (
        "from hayhooks import log\nsetup(install_requires=['hayhooks>=1'], x='HAYHOOKS_PORT')\n"
    )
    done = migrate_texts(texts)
    assert done[PurePath("setup.py")].text.startswith("from flaskcompat import log\n")
    assert [line for line, _ in told(done[PurePath("setup.py")])] == [2, 2]
    assert len(done) == 5 and all(len(migrated.notes) == 1 for path, migrated in done.items() if path.suffix != ".py")


@given(st.sampled_from([name.replace("*", "x") for name in FILES]), st.text())
def test_text_of_any_kind_with_none_of_the_names_is_left(name: str, text: str) -> None:
    names = ("hayhooks", "fastapi", "starlette", "asyncpipeline", "replies", "run_api")
    assume(not any(known in text.lower() for known in names))
    assert migrate_texts({PurePath(name): text}) == {PurePath(name): Migrated(text)}


@pytest.mark.parametrize(
    "other",
    [
        "from fastapi import HTTPException as E\ntry: f()\nexcept E as error: log(error)",
        "def f(error):\n    return error.detail",
        "x = getattr(error, 'status_code', 500)",
        "import fastapi\nx = fastapi.HTTPException",
        "from helper import HTTPException",
        "HTTPException = (",
    ],
)
def test_exception_stays_while_another_file_needs_it(other: str) -> None:
    own = "from fastapi import HTTPException\n\ndef f():\n    raise HTTPException(404, 'x')\n"
    here, there = PurePath("m", "helper.py"), PurePath("m", "b.py")
    done = migrate_texts({here: own, there: other})
    assert done[here].text == own and done[there].text == other
    [(line, says)] = told(done[here])
    assert line == 1 and "`HTTPException` is left as it is" in says
    assert "from helper" in other or f" of {there}: raise flaskcompat.APIError" in says
    without = migrate_texts({here: own, there: "r = client.get(url)\nx = r.status_code"})
    assert without[here].text.startswith("from flaskcompat import APIError\n") and not without[here].notes


def test_texts_of_other_names_are_left_out() -> None:
    assert migrate_texts({PurePath("notes.md"): "import hayhooks"}) == {}
