"""Wrappers that were written for Hayhooks."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest

import flaskcompat
from flaskcompat import Registry
from flaskcompat.runtime import hayhooks
from flaskcompat.runtime.hayhooks import Alias
from flaskcompat.runtime.loader import load_folder

from ..support import TIMEOUT, Raise, make_app, response_body, scripted

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


def test_modules_of_the_pipelines_folder_and_of_parts_of_a_wrapper(load: Load) -> None:
    registry = load(
        {
            "shared.py": "SHARED = 1",
            "tools/of/all.py": "ALL = 2",
            "m/helper.py": "HELP = 3",
            "m/lib/__init__.py": "",
            "m/lib/b.py": "B = 4",
            "m/lib/a.py": "from lib.b import B\nimport helper\nfrom b import B as again\nA = B + helper.HELP",
            "m/pipeline_wrapper.py": WRAPPER
            + """
    from shared import SHARED
    from tools.of.all import ALL
    from m.helper import HELP
    from lib.a import A
    import m.lib.b
    names = [SHARED, ALL, HELP, A, m.lib.b.B]
""",
        }
    )
    assert not registry.failed
    assert sys.modules[type(registry["m"].wrapper).__module__].names == [1, 2, 3, 7, 4]
    assert not {"shared", "tools", "m", "helper", "lib"} & sys.modules.keys()


def test_what_is_nowhere_is_said_as_by_python(load: Load) -> None:
    registry = load({"m/pipeline_wrapper.py": WRAPPER + "\n    import nowhere.at.all"})
    assert registry.failed["m"] == "ModuleNotFoundError: No module named 'nowhere'"


def test_names_can_be_asked_for(load: Load) -> None:
    text = (
        WRAPPER
        + """
    import hayhooks
    found = (hasattr(hayhooks, "DurableContext"),)
    try:
        import fastapi.responses
    except ModuleNotFoundError as error:
        found += (error.name,)
"""
    )
    wrapper = load({"m/pipeline_wrapper.py": text})["m"].wrapper
    assert sys.modules[type(wrapper).__module__].found == (False, "fastapi.responses")


def test_folder_is_no_package_that_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hayhooks").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "hayhooks" in hayhooks.stand_ins("auto")
    monkeypatch.setitem(sys.modules, "hayhooks", ModuleType("hayhooks"))
    assert "hayhooks" not in hayhooks.stand_ins("auto")


def test_exception_of_fastapi_itself_is_told_as_it_says() -> None:
    kind = type("HTTPException", (Exception,), {"__module__": "starlette.exceptions"})
    error = kind()
    error.status_code, error.detail, error.headers = 404, "No such.", None
    answer = make_app(m=scripted([Raise(error)])).test_client().post("/v1/responses", json=response_body())
    assert (answer.status_code, answer.json["error"]["message"]) == (404, "No such.")
    error.status_code = 304  # none of an error
    odd = type("Odd", (kind,), {"status_code": property(lambda self: 1 / 0)})()
    for raised in (error, odd):
        answer = make_app(m=scripted([Raise(raised)])).test_client().post("/v1/responses", json=response_body())
        assert (answer.status_code, answer.json["error"]["code"]) == (500, "pipeline_error")
    assert hayhooks.HTTPException(404).message == "Not Found"


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
