"""Fixtures: every kind of store, for tests that all of them must pass."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from flaskcompat.stores.memory import MemoryRecords
from flaskcompat.stores.records import Records

POSTGRES = "FLASKCOMPAT_TEST_POSTGRES_URL"


class Clock:
    """Time as a test says it."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """A schema of its own in the database that the environment names."""
    if POSTGRES not in os.environ:
        pytest.skip(f"{POSTGRES} is not set")
    import sqlalchemy

    from flaskcompat.stores.sql import check_url

    schema = f"flaskcompat_{secrets.token_hex(8)}"
    url = check_url(os.environ[POSTGRES])
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.schema.CreateSchema(schema))
    try:
        yield url.update_query_dict({"options": f"-csearch_path={schema}"}).render_as_string(hide_password=False)
    finally:
        with engine.begin() as connection:
            connection.execute(sqlalchemy.schema.DropSchema(schema, cascade=True))
        engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url"))


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def records(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Records]:
    made: Records
    if request.param == "memory":
        made = MemoryRecords(clock=clock)
    else:
        from flaskcompat.stores.sql import SqlRecords

        url = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
        made = SqlRecords(url, clock)
    yield made
    made.close()
