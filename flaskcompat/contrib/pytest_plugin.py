"""Checks folders of wrappers as tests: ``pytest -p flaskcompat.contrib.pytest_plugin --flaskcompat-check DIR``.

Or ``pytest_plugins = ["flaskcompat.contrib.pytest_plugin"]`` in a ``conftest.py``, and the ini option
``flaskcompat_check``. Each model gives an item for each of load, chat, chat stream, responses, responses stream and
files; those that it does not answer are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flaskcompat.checking.checker import Checker, FolderModels, bare_app
from flaskcompat.checking.findings import COLUMNS, Column, Result
from flaskcompat.checking.options import Options


def pytest_addoption(parser: pytest.Parser) -> None:
    about = "check the flaskcompat wrappers in this folder, against scripted models"
    group = parser.getgroup("flaskcompat")
    group.addoption("--flaskcompat-check", metavar="DIR", action="append", default=[], help=f"{about}; may be repeated")
    parser.addini("flaskcompat_check", type="paths", default=[], help=f"{about}; several on lines of their own")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    # Before others choose among the items, as -k does.
    given = [config.invocation_params.dir / name for name in config.getoption("--flaskcompat-check")]
    for folder in given or config.getini("flaskcompat_check"):
        if not Path(folder).is_dir():
            raise pytest.UsageError(f"the folder {folder} of --flaskcompat-check does not exist")
        collector: Wrappers = Wrappers.from_parent(session, name=Path(folder).name, path=Path(folder))
        items.extend(collector.collect())


class Wrappers(pytest.Collector):
    """A folder of wrappers; nothing of it is loaded before the first of its items runs."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._checker = Checker(FolderModels(self.path), bare_app(), Options())
        self._results: dict[str, Result] = {}

    def collect(self) -> Iterator[pytest.Item]:
        for model in self._checker.names:
            for column in COLUMNS:
                yield WrapperItem.from_parent(self, name=f"{model}[{column}]", model=model, column=column)

    def result(self, model: str) -> Result:
        if model not in self._results:
            self._results[model] = self._checker.check(model)
        return self._results[model]


class Unsound(Exception):
    """What a check found."""


class WrapperItem(pytest.Item):
    """One model in one of its columns."""

    def __init__(self, *, model: str, column: Column, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._model, self._column = model, column

    def runtest(self) -> None:
        assert isinstance(self.parent, Wrappers)
        result = self.parent.result(self._model)
        if failures := result.failures(self._column):
            raise Unsound("\n".join(finding.text for finding in failures))
        if self._column not in result.looked_at:
            unloaded = result.failures("load")
            pytest.skip(f"{self._model} is not loaded" if unloaded else f"{self._model} does not answer there")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **kwargs: Any) -> Any:
        if isinstance(excinfo.value, Unsound):
            return f"{self._model}, {self._column}:\n{excinfo.value}"
        return super().repr_failure(excinfo, *args, **kwargs)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, f"{self._model}: {self._column}"
