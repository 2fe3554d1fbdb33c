"""The README tells what the clients have shown in this run; ``FLASKCOMPAT_WRITE_README=1`` has it written anew."""

from __future__ import annotations

import os

import pytest

from .conftest import passed
from .scenarios import check
from .test_programs import PROGRAMS, told
from .works_with import MODULES, README, section, written

pytestmark = pytest.mark.clients


def test_readme_tells_what_was_run() -> None:
    if told().keys() != PROGRAMS.keys() or not passed.keys() >= set(MODULES.values()):
        pytest.skip("not all clients ran")
    good = {
        client: {name: result for name, result in results.items() if check(name, result)}
        for client, results in told().items()
    }
    text = README.read_text(encoding="utf-8")
    new = written(text, section(good, passed))
    if os.environ.get("FLASKCOMPAT_WRITE_README"):
        README.write_text(new, encoding="utf-8")
    else:
        assert text == new
