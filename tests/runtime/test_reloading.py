from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from flaskcompat import Registry
from flaskcompat.runtime.loader import load_folder
from flaskcompat.runtime.reloading import Reloader

from ..support import eventually

WRAPPER = """
from flaskcompat import BasePipelineWrapper
class PipelineWrapper(BasePipelineWrapper):
    def run_chat_completion(self, model, messages, body):
        return {answer}
"""


def write(folder: Path, name: str, answer: str, top: str = "") -> None:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "pipeline_wrapper.py").write_text(top + WRAPPER.format(answer=answer))


def answer(registry: Registry, name: str) -> str:
    return str(registry[name].wrapper.run_chat_completion(name, [], {}))


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def reloader(tmp_path: Path, registry: Registry) -> Iterator[Reloader]:
    write(tmp_path, "a", "'one'")
    write(tmp_path, "b", "TEXT", top="from helper import TEXT\n")
    (tmp_path / "b" / "helper.py").write_text("TEXT = 'one'")
    folder = load_folder(tmp_path, registry)
    yield Reloader(folder)  # which does not keep it


def test_changed_model_alone_is_loaded_again(reloader: Reloader, registry: Registry, tmp_path: Path) -> None:
    before = registry["a"].wrapper, registry["b"].wrapper
    reloader.look()
    assert (registry["a"].wrapper, registry["b"].wrapper) == before
    write(tmp_path, "a", "'two'")  # as long as before, and within the same second
    reloader.look()
    assert answer(registry, "a") == "two" and registry["b"].wrapper is before[1]
    assert before[0].run_chat_completion("a", [], {}) == "one"  # which may be answering
    (tmp_path / "b" / "helper.py").write_text("TEXT = 'two'")
    reloader.look()
    assert answer(registry, "b") == "two"


def test_broken_edit_keeps_the_one_before(
    reloader: Reloader, registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "a", "(")
    reloader.look()
    reloader.look()
    assert answer(registry, "a") == "one" and registry.failed == {}
    [told] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "'a' failed to load: it is served as it was before" in told.getMessage()
    assert "SyntaxError" in caplog.text
    write(tmp_path, "a", "'mended'")
    reloader.look()
    assert answer(registry, "a") == "mended"


def test_models_come_and_go(reloader: Reloader, registry: Registry, tmp_path: Path) -> None:
    write(tmp_path, "c", "(")
    reloader.look()
    assert "c" not in registry and registry.failed["c"].startswith("SyntaxError")
    write(tmp_path, "c", "'new'")
    reloader.look()
    assert answer(registry, "c") == "new" and registry.failed == {}
    (tmp_path / "a" / "pipeline_wrapper.py").unlink()
    reloader.look()
    assert "a" in registry  # an editor may be about to put another one there
    reloader.look()
    assert [model.name for model in registry] == ["b", "c"]


def test_what_all_have_in_common_is_of_all(reloader: Reloader, registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "common.py").write_text("TEXT = 'one'")
    write(tmp_path, "a", "common.TEXT", top="import common\n")
    reloader.look()
    assert answer(registry, "a") == "one"
    other = registry["b"].wrapper
    (tmp_path / "common.py").write_text("TEXT = 'two'")
    reloader.look()
    assert answer(registry, "a") == "two" and registry["b"].wrapper is not other


def test_package_beside_the_models_is_of_all(reloader: Reloader, registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "__init__.py").write_text("TEXT = 'one'")
    write(tmp_path, "a", "lib.TEXT", top="import lib\n")
    reloader.look()
    (tmp_path / "lib" / "__init__.py").write_text("TEXT = 'two'")
    reloader.look()
    assert answer(registry, "a") == "two"


@pytest.mark.parametrize("broken", ["(", "raise SystemExit(3)"])
def test_what_all_have_in_common_may_be_broken_for_a_while(
    reloader: Reloader, registry: Registry, tmp_path: Path, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "__init__.py").write_text(broken)
    reloader.start()
    try:
        assert eventually(lambda: "could not be looked at" in caplog.text)
        (tmp_path / "__init__.py").write_text("")
        write(tmp_path, "a", "'mended'")
        assert eventually(lambda: answer(registry, "a") == "mended")
    finally:
        reloader.end()
    assert caplog.text.count("could not be looked at") == 1 and "Traceback" in caplog.text


def test_what_python_and_editors_leave_is_nobody_s(reloader: Reloader, registry: Registry, tmp_path: Path) -> None:
    before = registry["a"].wrapper
    (tmp_path / "a" / "__pycache__").mkdir(exist_ok=True)
    for name in ("__pycache__/x.pyc", ".pipeline_wrapper.py.swp", "pipeline_wrapper.py~"):
        (tmp_path / "a" / name).write_text("x")
    reloader.look()
    assert registry["a"].wrapper is before
