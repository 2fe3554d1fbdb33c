"""Checks folders of wrappers as tests: ``pytest -p flaskcompat.contrib.pytest_plugin --flaskcompat-check DIR``.

Or ``pytest_plugins = ["flaskcompat.contrib.pytest_plugin"]`` in a ``conftest.py``, and the ini option
``flaskcompat_check``, for whatever runs without naming some of the tests. Each model gives an item for each of load,
chat, chat stream, responses, responses stream and files; those that it does not answer are skipped.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from flaskcompat.checking.checker import Checker, FolderModels, bare_app
from flaskcompat.checking.findings import COLUMNS, Column, Result
from flaskcompat.checking.options import Options
from flaskcompat.runtime.loader import PIPELINE_FILES, WRAPPER_FILE

_FILES = (WRAPPER_FILE, *PIPELINE_FILES)


def pytest_addoption(parser: pytest.Parser) -> None:
    about = "check the flaskcompat wrappers in this folder, against scripted models"
    group = parser.getgroup("flaskcompat")
    group.addoption("--flaskcompat-check", metavar="DIR", action="append", default=[], help=f"{about}; may be repeated")
    parser.addini("flaskcompat_check", type="paths", default=[], help=f"{about}; several on lines of their own")


def pytest_configure(config: pytest.Config) -> None:
    start = config.invocation_params.dir
    given = [start / name for name in config.getoption("--flaskcompat-check")]
    folders = [path.resolve() for path in given or config.getini("flaskcompat_check")]
    config.stash[_CHECKED] = {folder: _Checked(folder) for folder in folders}
    if given or config.args_source is not pytest.Config.ArgsSource.ARGS:
        named = [(start / arg.partition("::")[0]).resolve() for arg in config.args]
        # Unless something of the folder is asked for alone.
        config.args += [str(f) for f in folders if not any(path.is_relative_to(f) for path in named)]


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> Generator[None, Any, Any]:
    found = yield
    if file_path.name not in _FILES:
        return found
    directory = file_path.parent.resolve()
    folders = parent.config.stash[_CHECKED]
    checked = folders.get(directory.parent) or folders.get(directory)
    if checked is None or directory.name not in checked.checker.names:
        return found
    is_first = next(name for name in _FILES if (directory / name).is_file()) == file_path.name
    # In place of a module of tests, for which it may be taken where it is named.
    return [Wrapper.from_parent(parent, path=file_path, checked=checked)] if is_first else []


class _Checked:
    """A folder of wrappers, or of one; nothing of it is loaded before the first of its items runs."""

    def __init__(self, folder: Path) -> None:
        models = FolderModels(folder) if folder.is_dir() else None
        if models is None or not models.names:
            raise pytest.UsageError(f"the folder {folder} of flaskcompat-check does not exist, or has no models")
        try:
            self.checker = Checker(models, bare_app(), Options())
        except ValueError as error:  # a setting
            raise pytest.UsageError(str(error)) from None
        self._results: dict[str, Result] = {}

    def result(self, model: str) -> Result:
        if model not in self._results:
            self._results[model] = self.checker.check(model)
        return self._results[model]


_CHECKED = pytest.StashKey[dict[Path, _Checked]]()


class Wrapper(pytest.File):
    """The file of a model."""

    def __init__(self, *, checked: _Checked, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._checked = checked

    def collect(self) -> Iterator[pytest.Item]:
        model = self.path.resolve().parent.name
        for column in COLUMNS:
            name = f"{model}[{column}]"
            # As a text, of which pytest knows what stands in brackets; by the name alone --lf finds nothing.
            id = f"{self.nodeid}::{name}"
            yield WrapperItem.from_parent(self, name=name, nodeid=id, checked=self._checked, model=model, column=column)


class Unsound(Exception):
    """What a check found."""


class WrapperItem(pytest.Item):
    """One model in one of its columns."""

    def __init__(self, *, checked: _Checked, model: str, column: Column, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._checked, self._model, self._column = checked, model, column

    def runtest(self) -> None:
        result = self._checked.result(self._model)
        if failures := result.failures(self._column):
            raise Unsound("\n".join(finding.text for finding in failures))
        if self._column not in result.looked_at:
            refused = next((finding.text for finding in result.findings if finding.column == self._column), None)
            unloaded = result.failures("load")
            pytest.skip(refused or f"{self._model} {'is not loaded' if unloaded else 'does not answer there'}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **kwargs: Any) -> Any:
        if isinstance(excinfo.value, Unsound):
            return f"{self._model}, {self._column}:\n{excinfo.value}"
        return super().repr_failure(excinfo, *args, **kwargs)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, f"{self._model}: {self._column}"
