from __future__ import annotations

from pathlib import Path

import pytest

from flaskcompat import Registry
from flaskcompat.errors import PipelineLoadError
from flaskcompat.runtime.loader import load_folder

WRAPPER = """
from flaskcompat import BasePipelineWrapper
{top}
class PipelineWrapper(BasePipelineWrapper):
    def setup(self):
        {setup}
    def run_chat_completion(self, model, messages, body):
        return {answer}
"""


def write(folder: Path, name: str, *, top: str = "", setup: str = "pass", answer: str = "'hi'") -> Path:
    directory = folder / name
    directory.mkdir(parents=True)
    (directory / "pipeline_wrapper.py").write_text(WRAPPER.format(top=top, setup=setup, answer=answer))
    return directory


def answer(registry: Registry, name: str) -> str:
    return str(registry[name].wrapper.run_chat_completion(name, [], {}))


def test_folder_names_are_model_names(tmp_path: Path) -> None:
    write(tmp_path, "chat-1.5")
    write(tmp_path, "chat-1_5", answer="'other'")
    write(tmp_path, "_private")
    write(tmp_path, ".hidden")
    (tmp_path / "no_wrapper").mkdir()
    (tmp_path / "file.py").write_text("raise SystemExit")
    registry = Registry()
    load_folder(tmp_path, registry)
    assert [model.name for model in registry] == ["chat-1.5", "chat-1_5"]
    assert (answer(registry, "chat-1.5"), answer(registry, "chat-1_5")) == ("hi", "other")
    assert registry.failed == {}


def test_modules_beside_a_wrapper_import_relatively(tmp_path: Path) -> None:
    directory = write(tmp_path, "a", top="from .helper import TEXT\nfrom .._shared import MORE", answer="TEXT + MORE")
    (directory / "helper.py").write_text("TEXT = 'helped'")
    (tmp_path / "_shared.py").write_text("MORE = ' twice'")
    registry = Registry()
    load_folder(tmp_path, registry)
    assert answer(registry, "a") == "helped twice"


def test_file_is_the_wrapper_s_own(tmp_path: Path) -> None:
    directory = write(
        tmp_path,
        "a",
        top="from pathlib import Path",
        setup="self.text = (Path(__file__).parent / 'pipeline.yml').read_text()",
        answer="self.text",
    )
    (directory / "pipeline.yml").write_text("yaml")
    registry = Registry()
    load_folder(tmp_path, registry)
    assert answer(registry, "a") == "yaml"


def test_package_of_the_user_s_own_is_run(tmp_path: Path) -> None:
    directory = write(tmp_path, "a", top="from . import VALUE", answer="VALUE")
    (directory / "__init__.py").write_text("VALUE = 'from init'")
    registry = Registry()
    load_folder(tmp_path, registry)
    assert answer(registry, "a") == "from init"


def test_two_registries_share_no_module(tmp_path: Path) -> None:
    write(tmp_path, "a", top="SEEN = []", answer="SEEN.append(1) or str(len(SEEN))")
    first, second = Registry(), Registry()
    load_folder(tmp_path, first)
    load_folder(tmp_path, second)
    assert (answer(first, "a"), answer(first, "a"), answer(second, "a")) == ("1", "2", "1")


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"top": "import nowhere_to_be_found"}, "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ({"top": "raise SystemExit(3)"}, "SystemExit: 3"),
        ({"top": "this is no python"}, "SyntaxError"),
        ({"setup": "raise ValueError('many\\nlines')"}, "ValueError: many lines"),
        ({"setup": "raise ValueError()"}, "ValueError"),
    ],
)
def test_one_that_fails_leaves_the_others_alone(
    tmp_path: Path, broken: dict[str, str], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "broken", **broken)
    write(tmp_path, "good")
    registry = Registry()
    load_folder(tmp_path, registry)
    assert [model.name for model in registry] == ["good"]
    assert registry.failed["broken"].startswith(reason)
    assert "model 'broken' failed to load" in caplog.text and "Traceback" in caplog.text
    with pytest.raises(PipelineLoadError, match="model 'broken' failed to load"):
        load_folder(tmp_path, Registry(), strict=True)


def test_file_without_the_class_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "pipeline_wrapper.py").write_text("PipelineWrapper = 3")
    registry = Registry()
    load_folder(tmp_path, registry)
    assert "has no class PipelineWrapper" in registry.failed["a"]


def test_interrupt_ends_the_loading(tmp_path: Path) -> None:
    write(tmp_path, "a", setup="raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load_folder(tmp_path, Registry())


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PipelineLoadError, match="does not exist"):
        load_folder(tmp_path / "nothing", Registry())
