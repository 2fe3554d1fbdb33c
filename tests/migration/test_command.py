"""``flask flaskcompat migrate``: what it reads, shows and writes, and that the wrappers answer as before."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from haystack import Pipeline

from flaskcompat import FlaskCompat
from flaskcompat.commands.migrate import migrate_command
from flaskcompat.runtime import hayhooks

from ..support import chat_body, make_app, post, response_body

Write = Callable[[dict[str, str]], None]


def run(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(migrate_command, [str(folder), *options])


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(files: dict[str, str]) -> None:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(dedent(text).encode())

    return write


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


WRAPPERS = {
    "plain/pipeline_wrapper.py": """
        import hayhooks
        from fastapi import HTTPException
        from hayhooks.server.utils.base_pipeline_wrapper import BasePipelineWrapper
        from .helper import status

        class PipelineWrapper(BasePipelineWrapper):
            def run_chat_completion(self, model, messages, body):
                question = hayhooks.get_last_user_message(messages)
                if question == "refuse":
                    raise HTTPException(status_code=403, detail=f"Not {model}.")
                if question == "nothing":
                    raise HTTPException(404)
                return [status(question), question.upper()]
    """,
    "plain/helper.py": """
        from hayhooks.events import PipelineEvent, create_status_event

        def status(text) -> PipelineEvent:
            return create_status_event(text)
    """,
    "whole/pipeline_wrapper.py": """
        from haystack import AsyncPipeline, Pipeline, component
        from haystack.dataclasses import ChatMessage
        from hayhooks import BasePipelineWrapper as Base, get_last_user_input_text, open_webui
        from hayhooks.server.pipelines import utils as u
        from hayhooks.server.logger import log  # of the run
        from shared import LOUD

        @component
        class Answer:
            @component.output_types(replies=list[ChatMessage])
            def run(self, text: str):
                return {"replies": [ChatMessage.from_assistant(text + LOUD)]}

        class PipelineWrapper(Base):
            def setup(self):
                self.pipeline = AsyncPipeline()
                self.pipeline.add_component("answer", Answer())

            async def run_response_async(self, model, input_items, body):
                assert u.get_last_user_input_text(input_items) == get_last_user_input_text(input_items)
                result = await self.pipeline.run_async({"answer": {"text": get_last_user_input_text(input_items)}})
                return open_webui.create_details_tag("a", "b", result["answer"]["replies"][0].content)
    """,
    "shared.py": "from hayhooks import log\nLOUD = '!'\n",
}


def answers(folder: Path, alias: str) -> Iterator[tuple[int, str]]:
    """What the model ``plain`` says to several questions, and then the model ``whole``, but for ids and times."""
    app = Flask("host")
    app.config.update(FLASKCOMPAT_HAYHOOKS_ALIAS=alias, FLASKCOMPAT_STRICT=True)
    FlaskCompat(app, pipelines=folder)
    for question in ("hello", "refuse", "nothing"):
        for stream in (False, True):
            yield said(post(app, "/v1/chat/completions", chat_body("plain", text=question, stream=stream)))
    yield said(post(app, "/v1/responses", response_body("whole")))


def said(answer: Any) -> tuple[int, str]:
    return answer.status_code, re.sub(r'"(id|created)": ?("[^"]*"|\d+)', "", answer.text)


def test_migrated_wrappers_answer_the_same_without_the_alias(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hayhooks, "_is_installed", lambda name: False)
    write(WRAPPERS)
    with monkeypatch.context() as haystack_2:
        haystack_2.setattr("haystack.AsyncPipeline", Pipeline, raising=False)
        *before, dead = answers(tmp_path, "on")
    done = run(tmp_path)
    assert (done.exit_code, done.output.splitlines()[-1]) == (0, "4 files changed, 0 places left to do by hand")
    *after, alive = answers(tmp_path, "off")
    assert after == before and [status for status, _ in after] == [200, 200, 403, 403, 404, 404]
    assert dead[0] == 500 and alive[0] == 200 and "hi!" in alive[1]  # Haystack 3 has no `.content` of a message


def test_changes_are_shown_with_what_is_left(write: Write, tmp_path: Path) -> None:
    write(
        {
            "a/pipeline_wrapper.py": "x = 1\n\ny = 2\nfrom hayhooks import log, run_app, Pipeline\n",
            ".env": "HAYHOOKS_SHOW_TRACEBACKS=1\n",
            "requirements.txt": "hayhooks\n",
            "README.md": "import hayhooks",
            "broken.py": "import hayhooks (",
        }
    )
    done = run(tmp_path)
    wrapper = tmp_path / "a" / "pipeline_wrapper.py"
    assert done.exit_code == 0
    assert done.output.replace(f"{tmp_path}{os.sep}", "") == dedent("""\
        --- .env
        +++ .env
        @@ -1 +1 @@
        -HAYHOOKS_SHOW_TRACEBACKS=1
        +FLASKCOMPAT_TRACEBACKS=1
        --- a/pipeline_wrapper.py
        +++ a/pipeline_wrapper.py
        @@ -3,2 +3,3 @@
         y = 2
        -from hayhooks import log, run_app, Pipeline
        +from hayhooks import run_app
        +from flaskcompat import log, Pipeline
        broken.py:1: left as it is: it does not compile
        requirements.txt:1: require flaskcompat in place of hayhooks, once nothing needs that
        a/pipeline_wrapper.py:4: `run_app` of `hayhooks` has no counterpart: serve with `flaskcompat serve`
        2 files changed, 3 places left to do by hand
    """)
    assert wrapper.read_text().endswith("from hayhooks import run_app\nfrom flaskcompat import log, Pipeline\n")
    before = contents(tmp_path)
    again = run(tmp_path)
    assert again.output.splitlines() == [
        *done.output.splitlines()[-4:-1],
        "0 files changed, 3 places left to do by hand",
    ]
    assert contents(tmp_path) == before


def test_check_changes_nothing_and_tells_by_its_exit_status(write: Write, tmp_path: Path) -> None:
    write({"a.py": "from hayhooks import log\n"})
    before = contents(tmp_path)
    done = run(tmp_path, "--check")
    assert done.exit_code == 1 and "+from flaskcompat import log" in done.output
    assert done.output.endswith("1 file would change, 0 places left to do by hand\n")
    assert contents(tmp_path) == before
    run(tmp_path)
    done = run(tmp_path, "--check")
    assert (done.exit_code, done.output) == (0, "0 files would change, 0 places left to do by hand\n")
    write({"b.py": "from hayhooks import SSEStream\n"})
    assert run(tmp_path, "--check").exit_code == 1 and run(tmp_path).exit_code == 0


@pytest.mark.parametrize(
    "head",
    [b"", b"\xef\xbb\xbf", b"# -*- coding: latin-1 -*-\r\n# \xe4\r", b"#!/usr/bin/python\n# coding: cp1252\n# \x80\n"],
)
def test_bytes_around_the_change_and_the_mode_stay(head: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(head + b"from hayhooks import log\r\n\x0c\r# end")
    path.chmod(0o751)
    assert run(tmp_path).exit_code == 0
    assert path.read_bytes() == head + b"from flaskcompat import log\r\n\x0c\r# end"
    assert path.stat().st_mode & 0o777 == 0o751 and [*tmp_path.iterdir()] == [path]


def test_files_that_are_not_the_folder_s_own_are_left(write: Write, tmp_path: Path) -> None:
    text = "from hayhooks import log\n"
    skipped = ("d/.git/a.py", "d/.venv/a.py", "d/node_modules/a.py", "d/__pycache__/a.py", "d/env/a.py", "outside/a.py")
    write(dict.fromkeys(skipped, text) | {"d/env/pyvenv.cfg": "", "outside.py": text, "d/in/a.py": text})
    (tmp_path / "d" / "linked.py").symlink_to(tmp_path / "outside.py")
    (tmp_path / "d" / "linked").symlink_to(tmp_path / "outside")
    (tmp_path / "d" / "folder.py").mkdir()
    (tmp_path / "d" / "again").symlink_to(tmp_path / "d" / "in")
    (tmp_path / "d" / "notes.md").symlink_to(tmp_path / "outside.py")
    (tmp_path / "d" / "nowhere.py").symlink_to(tmp_path / "nowhere")
    done = run(tmp_path / "d")
    assert done.exit_code == 0 and done.output.endswith("1 file changed, 2 places left to do by hand\n")
    for name in ("linked.py", "linked"):
        assert f"{tmp_path / 'd' / name}: a link, which is passed over" in done.output
    assert {name for name, found in contents(tmp_path).items() if found != text.encode()} == {
        "d/env/pyvenv.cfg",
        "d/in/a.py",
    }


def test_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    for name, data in {
        "a.py": b"# \xff",
        "b.py": b"# coding: nothing\n",
        ".env": b"\xff",
        "c.py": b"# coding: utf-7\n+AGE-",
    }.items():
        (tmp_path / name).write_bytes(data)
    before = contents(tmp_path)
    done = run(tmp_path)
    assert done.exit_code == 1 and done.output.count("left as it is: it cannot be read (") == 4
    assert contents(tmp_path) == before


def test_file_that_cannot_be_written_stays_whole(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write({"a.py": "from hayhooks import log\n"})
    before = contents(tmp_path)

    def fail(*args: Any) -> None:
        raise PermissionError

    monkeypatch.setattr("shutil.copymode", fail)
    done = run(tmp_path)
    assert done.exit_code == 1 and "a.py: left as it is: it cannot be written (PermissionError)" in done.output
    assert done.output.endswith("0 files changed, 1 place left to do by hand\n") and contents(tmp_path) == before


def test_file_that_nobody_may_write_is_left(write: Write, tmp_path: Path) -> None:
    write({"a.py": "from hayhooks import log\n"})
    (tmp_path / "a.py").chmod(0o444)
    before = contents(tmp_path)
    done = run(tmp_path)
    assert done.exit_code == 1 and "a.py: left as it is: it cannot be written (PermissionError)" in done.output
    assert contents(tmp_path) == before


def test_folder_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if path == str(tmp_path / "in"):
            raise PermissionError(13, "no", path)
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    done = run(tmp_path)
    assert done.exit_code == 1 and f"{tmp_path / 'in'}: left as it is: it cannot be read (Perm" in done.output


def test_it_is_a_command_of_every_application(tmp_path: Path) -> None:
    done = make_app().test_cli_runner().invoke(args=["flaskcompat", "migrate", str(tmp_path)])
    assert (done.exit_code, done.output) == (0, "0 files changed, 0 places left to do by hand\n")
