"""Wrappers that were written for Hayhooks."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

import flaskcompat
from flaskcompat import Registry
from flaskcompat.runtime import hayhooks
from flaskcompat.runtime.hayhooks import Alias
from flaskcompat.runtime.loader import load_folder

from ..support import TIMEOUT

Load = Callable[..., Registry]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.setattr(hayhooks, "_is_installed", lambda name: False)

    def write_and_load(files: dict[str, str], alias: Alias = "auto", python_path: str | None = None) -> Registry:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text), encoding="utf-8")
        registry = Registry()
        load_folder(tmp_path, registry, alias=alias, python_path=python_path)
        return registry

    return write_and_load


WRAPPER = """
    from hayhooks import BasePipelineWrapper, log
    from hayhooks.open_webui import create_status_event

    class PipelineWrapper(BasePipelineWrapper):
        def run_chat_completion(self, model, messages, body):
            import hayhooks.server.pipelines.utils as utils  # when it runs, too
            import hayhooks.events
            return [hayhooks.events.PipelineEvent, utils.get_last_user_message, create_status_event, log]
"""


def test_names_are_those_of_this_package(load: Load) -> None:
    wrapper = load({"m/pipeline_wrapper.py": WRAPPER})["m"].wrapper
    assert isinstance(wrapper, flaskcompat.BasePipelineWrapper)
    assert wrapper.run_chat_completion("m", [], {}) == [
        flaskcompat.PipelineEvent,
        flaskcompat.get_last_user_message,
        flaskcompat.open_webui.create_status_event,
        flaskcompat.log,
    ]


def test_nothing_is_left_for_others(load: Load) -> None:
    before = list(sys.path)
    load({"m/pipeline_wrapper.py": WRAPPER})
    assert not [name for name in sys.modules if name.partition(".")[0] in ("hayhooks", "fastapi", "starlette")]
    assert sys.path == before
    with pytest.raises(ImportError):
        __import__("hayhooks")


@pytest.mark.parametrize(
    ("alias", "installed", "loads"), [("on", True, True), ("auto", True, False), ("off", False, False)]
)
def test_alias_is_switched(
    load: Load, monkeypatch: pytest.MonkeyPatch, alias: Alias, installed: bool, loads: bool
) -> None:
    monkeypatch.setattr(hayhooks, "_is_installed", lambda name: installed)
    registry = load({"m/pipeline_wrapper.py": WRAPPER}, alias)
    assert ("m" in registry.failed) != loads


@pytest.mark.parametrize(
    "line",
    [
        "from hayhooks import DurableContext",
        "from hayhooks.durable import current_durable_context",
        "import hayhooks.durable",
        "from hayhooks import create_app",
        "from hayhooks.server import app",
        "from fastapi import FastAPI",
    ],
)
def test_what_is_not_offered_is_said_in_one_sentence(load: Load, line: str) -> None:
    registry = load({"m/pipeline_wrapper.py": line})
    assert "is not offered by flaskcompat" in registry.failed["m"]


def test_names_of_fastapi(load: Load) -> None:
    text = """
        from fastapi import HTTPException, UploadFile
        from starlette.datastructures import Headers
        from hayhooks import BasePipelineWrapper

        class PipelineWrapper(BasePipelineWrapper):
            def run_api(self, files: list[UploadFile], headers: Headers) -> str: ...

            def run_chat_completion(self, model, messages, body):
                raise HTTPException(status_code=403, detail="Not you.", headers={"X-Why": "1"})
    """
    wrapper = load({"m/pipeline_wrapper.py": text})["m"].wrapper
    with pytest.raises(flaskcompat.APIError) as caught:
        wrapper.run_chat_completion("m", [], {})
    error = caught.value
    assert (error.status, error.message, error.type, error.headers) == (
        403, "Not you.", "permission_error", {"X-Why": "1"}
    )  # fmt: skip


def test_modules_beside_a_wrapper_are_its_own(load: Load) -> None:
    registry = load(
        {
            "a/helper.py": "NAME = 'a'",
            "a/part/__init__.py": "",
            "a/part/deep.py": "from hayhooks import log\nfrom ..helper import NAME",
            "a/pipeline_wrapper.py": WRAPPER
            + """
    import helper
    import part.deep
    from part.deep import NAME
    names = [helper.NAME, part.deep.NAME, NAME]
""",
            "b/helper.py": "NAME = 'b'",
            "b/json.py": "raise RuntimeError('the standard library comes first')",
            "b/pipeline_wrapper.py": WRAPPER
            + """
    import json
    import helper
    from .helper import NAME
    names = [helper.NAME, NAME]
""",
        }
    )
    assert not registry.failed
    names = [sys.modules[type(registry[name].wrapper).__module__].names for name in "ab"]
    assert names == [["a"] * 3, ["b"] * 2]
    assert "helper" not in sys.modules


def test_further_folders_of_modules(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    more = tmp_path / "_more"
    more.mkdir()
    (more / "shared_by_all_of_them.py").write_text("X = 1")
    wrapper = WRAPPER + "\n    from shared_by_all_of_them import X"
    registry = load({"m/pipeline_wrapper.py": wrapper}, python_path=str(more))
    assert not registry.failed
    del sys.modules["shared_by_all_of_them"]


def test_many_folders_at_once(load: Load) -> None:
    load({"m/pipeline_wrapper.py": WRAPPER})
    registries: list[Registry] = []
    threads = [threading.Thread(target=lambda: registries.append(load({}))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert len(registries) == 8 and not any(registry.failed for registry in registries)


def test_every_name_of_hayhooks_that_is_ours_is_offered() -> None:
    ours = set(flaskcompat.__all__)
    assert {name for name in hayhooks.HAYHOOKS["hayhooks"] if name != "log"} <= ours
