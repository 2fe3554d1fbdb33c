"""Whatever a recipe names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flaskcompat.config import SETTINGS

from .recipes import RECIPES

FILES = sorted(path for path in RECIPES.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(RECIPES)))
def test_settings_exist(path: Path) -> None:
    named = set(re.findall(r"FLASKCOMPAT_[A-Z_]*[A-Z]", path.read_text(encoding="utf-8")))
    assert named <= {setting.name for setting in SETTINGS}


def test_every_recipe_has_a_row_and_a_readme() -> None:
    folders = {path.name for path in RECIPES.iterdir() if path.is_dir()}
    assert all((RECIPES / folder / "README.md").exists() for folder in folders)
    rows = re.findall(r"^\| \[(\w+)\]\((\w+)/README\.md\) \|", (RECIPES / "README.md").read_text(), re.MULTILINE)
    assert {name for name, _ in rows} == {folder for _, folder in rows} == folders
