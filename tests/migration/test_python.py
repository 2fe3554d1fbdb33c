"""What becomes of one Python source."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from textwrap import dedent

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from flaskcompat.migration.names import homes_of
from flaskcompat.migration.python import migrate_python, names_asked_for
from flaskcompat.migration.source import Source
from flaskcompat.runtime.hayhooks import HAYHOOKS


def migrated(text: str) -> str:
    """A source after its migration, of which nothing is left to do and which a second one leaves alone."""
    done = migrate_python(dedent(text))
    assert not done.notes, done.notes
    assert migrate_python(done.text) == done
    return done.text


def notes(text: str, *, changed: bool = False) -> list[tuple[int, str]]:
    done = migrate_python(dedent(text))
    assert (done.text != dedent(text)) is changed, done.text
    return [(note.line, note.text) for note in done.notes]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from hayhooks import log", "from flaskcompat import log"),
        ("from hayhooks import A, log as l", None),
        ("from hayhooks import Pipeline, log as l  # noqa", "from flaskcompat import Pipeline, log as l  # noqa"),
        ("from  hayhooks\\\n  import log", "from  flaskcompat\\\n  import log"),
        ("from hayhooks . events import PipelineEvent", "from flaskcompat import PipelineEvent"),
        (
            "from hayhooks.server.utils.base_pipeline_wrapper import BasePipelineWrapper",
            "from flaskcompat import BasePipelineWrapper",
        ),
        ("from hayhooks.callbacks import default_on_pipeline_end", "from flaskcompat import default_on_pipeline_end"),
        (
            "from hayhooks.events import PipelineEvent, create_status_event as s",
            "from flaskcompat.open_webui import PipelineEvent, create_status_event as s",
        ),
        ("from haystack import AsyncPipeline", "from flaskcompat import AsyncPipeline"),
        (
            "from haystack import AsyncPipeline, Document as D",
            "from flaskcompat import AsyncPipeline\nfrom haystack import Document as D",
        ),
        (
            "if 1: from haystack import Document, AsyncPipeline as P; x = 1",
            "if 1: from flaskcompat import AsyncPipeline as P; from haystack import Document; x = 1",
        ),
        (
            "x = 1; \\\nfrom haystack import Document, AsyncPipeline",
            "x = 1; \\\nfrom flaskcompat import AsyncPipeline; from haystack import Document",
        ),
        (
            "from haystack import Document, \\\n    AsyncPipeline",
            "from flaskcompat import AsyncPipeline\nfrom haystack import Document",
        ),
    ],
)
def test_names_are_imported_from_here(before: str, after: str | None) -> None:
    if after is None:
        assert notes(before, changed=True)[0][0] == 1
    else:
        assert migrated(before) == after


def test_layout_comments_and_line_ends_stay() -> None:
    before = (
        "\tx = 'ä'; from hayhooks import (log, # of the run\r\n"
        "\t    # all\x0c of them\r\n\t      Pipeline ,)\r\n\ty = '\u2028'  # end"
    )
    before = "def f():\r\n" + before
    assert migrate_python(before).text == before.replace("hayhooks", "flaskcompat")


def test_names_without_a_counterpart_keep_a_statement_of_their_own() -> None:
    before = """
        def f():
            from hayhooks import (
                BasePipelineWrapper,
                SSEStream,  # for run_api
                YAMLPipelineWrapper,
                Pipeline, log as logger,
                streaming_generator, run_app
            )
    """
    done = migrate_python(dedent(before))
    assert done.text == dedent("""
        def f():
            from hayhooks import SSEStream, YAMLPipelineWrapper, run_app
            from flaskcompat import (
                BasePipelineWrapper,
                # for run_api
                Pipeline, log as logger,
                streaming_generator,
            )
    """)
    assert [(note.line, note.text.split(":")[0]) for note in done.notes] == [
        (5, "`SSEStream` of `hayhooks` has no counterpart"),
        (6, "`YAMLPipelineWrapper` of `hayhooks` has no counterpart"),
        (8, "`run_app` of `hayhooks` has no counterpart"),
    ]
    again = migrate_python(done.text)
    assert again.text == done.text
    assert {(note.line, note.text.split(":")[0]) for note in again.notes} == {
        (3, note.text.split(":")[0]) for note in done.notes
    }


def test_long_statement_is_written_over_several_lines() -> None:
    ours = "async_streaming_generator, get_last_user_input_text, get_last_user_message, streaming_generator"
    theirs = [f"nothing_that_anybody_knows_{number}" for number in range(5)]
    done = migrate_python(f"if 1:\n  from hayhooks import {ours}, {', '.join(theirs)}\n")
    first, *rest = done.text.splitlines()[1:]
    assert first == "  from flaskcompat import (" and rest[0] == "      async_streaming_generator,"
    assert rest[-1] == f"  from hayhooks import {', '.join(theirs)}"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("import hayhooks\nx = hayhooks.log", "import flaskcompat\nx = flaskcompat.log"),
        ("import os, hayhooks , re", "import os, flaskcompat , re"),
        (
            "import hayhooks\nx = 'ä' f'''\n{{ä {1:>{2}} { hayhooks.log } {hayhooks.log!r:>9}'''",
            "import flaskcompat\nx = 'ä' f'''\n{{ä {1:>{2}} { flaskcompat.log } {flaskcompat.log!r:>9}'''",
        ),
        (
            "import hayhooks as hh\n(hh.log, hh.events.create_status_event)",
            "import flaskcompat as hh\n(hh.log, hh.open_webui.create_status_event)",
        ),
        (
            "import hayhooks.events\nimport hayhooks.server.pipelines.utils\n"
            "def f(x: hayhooks.events.PipelineEvent = hayhooks.server.pipelines.utils.is_user_message): ...",
            "import flaskcompat.open_webui\nimport flaskcompat\n"
            "def f(x: flaskcompat.PipelineEvent = flaskcompat.is_user_message): ...",
        ),
        ("import hayhooks.open_webui as o\no.OpenWebUIEvent", "import flaskcompat.open_webui as o\no.OpenWebUIEvent"),
        (
            "from hayhooks import open_webui\nopen_webui.PipelineEvent",
            "from flaskcompat import open_webui\nopen_webui.PipelineEvent",
        ),
        (
            "from hayhooks import events as e, log\ne.PipelineEvent",
            "from flaskcompat import open_webui as e, log\ne.PipelineEvent",
        ),
        (
            "from hayhooks.server.pipelines import utils\nutils.streaming_generator",
            "import flaskcompat as utils\nutils.streaming_generator",
        ),
        (
            "from hayhooks import callbacks as c, log\nc.default_on_pipeline_end",
            "import flaskcompat as c\nfrom flaskcompat import log\nc.default_on_pipeline_end",
        ),
    ],
)  # fmt: skip
def test_modules_and_what_is_read_of_them(before: str, after: str) -> None:
    assert migrated(before) == after
    exec(after, {})


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("import hayhooks\n\nx = hayhooks.SSEStream", 3, "`hayhooks.SSEStream` has no counterpart"),
        ("import hayhooks\nx = getattr(hayhooks, 'log')", 2, "used as a whole"),
        ("import hayhooks\nhayhooks.log = 1", 2, "used as a whole"),
        ("import hayhooks\nx = (hayhooks\n.log)", 2, "used as a whole"),
        ("import hayhooks\ndef f(hayhooks): return hayhooks.log", 1, "other things"),
        ("import hayhooks\ndef f():\n  global hayhooks\n  hayhooks.log", 1, "other things"),
        ("import hayhooks\nmatch x:\n  case {**hayhooks}: hayhooks.log", 1, "other things"),
        ("import hayhooks\nflaskcompat = 1\nhayhooks.log", 1, "other things"),
        ("import hayhooks\nimport hayhooks.events as hayhooks", 1, "other things"),
        ("import hayhooks\n__all__ = ['hayhooks']", 1, "a text names it"),
        ("import hayhooks\ndef f(x: 'list[hayhooks.Pipeline]'): ...", 1, "annotation"),
        ("from hayhooks import ( # why\n callbacks)", 1, "comments"),
        ("import hayhooks.durable\nhayhooks.log", 1, "`hayhooks.durable` has no counterpart: durable runs"),
        ("from hayhooks import *", 1, "import what is used by name"),
        ("from hayhooks.settings import settings", 1, "config"),
        ("from hayhooks.chainlit_events import create_custom_element_event", 1, "PipelineEvent"),
        ("from importlib import import_module\n\nimport_module('hayhooks.events')", 3, "looked up by its name"),
        ("x = 1\nmonkeypatch.setattr('hayhooks.log.info', print)", 2, '"hayhooks.log.info" is looked up'),
        ("from importlib.metadata import version\nversion('hayhooks')", 2, "looked up by its name"),
        ("import os\nx = os.environ['HAYHOOKS_PIPELINES_DIR']", 2, "is `FLASKCOMPAT_PIPELINES_DIR` here"),
        ("import fastapi", 1, "`fastapi` has no counterpart"),
        ("from fastapi import UploadFile", 1, "run_file_upload"),
        ("from starlette.datastructures import Headers", 1, "Mapping"),
        ("from fastapi.responses import FileResponse", 1, "no counterpart"),
        ("class PipelineWrapper:\n    async def run_api_async(self): ...", 2, "not served"),
        ("import hayhooks\n(", 1, "does not compile"),
        ("import hayhooks\nreturn", 1, "does not compile"),
        ("import hayhooks\n\0", 1, "does not compile"),
        ("from replies import *\nreturn (", 1, "does not compile"),
    ],
)  # fmt: skip
def test_what_is_not_certain_is_left_and_told(text: str, line: int, says: str) -> None:
    [(found, told)] = notes(text)
    assert found == line and says in told


def test_run_api_that_the_wrapper_calls_itself_is_no_matter() -> None:
    text = """
        class PipelineWrapper:
            def run_api(self, question): ...
            def run_chat_completion(self, model, messages, body):
                return self.run_api(messages)
    """
    assert notes(text) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("raise {0}(status_code=403, detail='no')", "raise {0}(status=403, message='no')"),
        ("raise {0}(404, f'{{x}}', headers=h)", "raise {0}(status=404, message=f'{{x}}', headers=h)"),
        ("raise {0}(\n  400,  # odd\n  detail=str(e),\n)", "raise {0}(\n  status=400,  # odd\n  message=str(e),\n)"),
        ("raise {0}(status_code=(404))", 'raise {0}(status=(404), message="Not Found")'),
        ("r = c.get(u)\nif r.status_code > 399 < c.put(u).status_code: ...", None),
        ("raise {0}(404)", 'raise {0}(status=404, message="Not Found")'),
        ("raise {0}(status_code=404, headers=h)", 'raise {0}(status=404, message="Not Found", headers=h)'),
        (
            "try: pass\nexcept {0}:\n    raise\nexcept ValueError: raise {0}(400, 'x')",
            "try: pass\nexcept {0}:\n    raise\nexcept ValueError: raise {0}(status=400, message='x')",
        ),
    ],
)  # fmt: skip
def test_exception_of_fastapi_is_an_api_error(before: str, after: str | None) -> None:
    after = after or before
    head = "from fastapi import HTTPException\n"
    done = migrated(head + before.format("HTTPException"))
    assert done == "from flaskcompat import APIError\n" + after.format("APIError")
    named = "from starlette.exceptions import HTTPException as Told\n"
    assert migrated(named + before.format("Told")) == "from flaskcompat import APIError as Told\n" + after.format(
        "Told"
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("from fastapi import HTTPException\nraise HTTPException(code, 'x')", 2),
        ("from fastapi import HTTPException\nraise HTTPException(304, 'x')", 2),
        ("from fastapi import HTTPException\nraise HTTPException(True)", 2),
        ("from fastapi import HTTPException\nraise HTTPException(404, {'a': 1})", 2),
        ("from fastapi import HTTPException\nraise HTTPException(*x)", 2),
        ("from fastapi import HTTPException\nraise HTTPException(404, **x)", 2),
        ("from fastapi import HTTPException\nraise HTTPException(404, 'x', {})", 2),
        ("from fastapi import HTTPException\nraise HTTPException(404, # (\n# why\n'x')", 2),
        ("from fastapi import HTTPException\nraise HTTPException(404, ('a' 'b'))", 2),
        ("from fastapi import HTTPException\nraise HTTPException((404))", 2),
        ("from fastapi import HTTPException\nraise (HTTPException)(404)", 2),
        ("from fastapi import HTTPException\n__all__ = ['HTTPException']", 2),
        ("from fastapi import HTTPException as E\nglobals()['E'](404, 'x')", 2),
        ("from fastapi import HTTPException\ndef f() -> 'HTTPException | None': ...", 2),
        ("from fastapi import HTTPException\ntry: ...\nexcept Exception as e: print(e.detail)", 3),
        ("from fastapi import HTTPException\ndef f(e): return getattr(e, 'status_code', 500)", 2),
        ("from fastapi import HTTPException\nclass E(HTTPException): ...", 2),
        ("from fastapi import HTTPException\ntry: ...\nexcept HTTPException as e: print(e.detail)", 3),
        ("from openai import APIError\nfrom fastapi import HTTPException\nraise HTTPException(400, 'x')", 1),
        ("from fastapi import HTTPException\nHTTPException = 1", 2),
        ("from fastapi import HTTPException\nfrom fastapi.exceptions import HTTPException as E", 1),
    ],
)
def test_exception_that_is_not_plain_is_left_as_it_is(text: str, line: int) -> None:
    [(found, told)] = notes(text)
    assert found == line and "flaskcompat.APIError" in told


@pytest.mark.parametrize(
    "user",
    [
        "from helper import HTTPException as E, hayhooks",
        "from .helper import *",
        "import helper\nhelper.hayhooks.log\nraise helper.HTTPException",
    ],
)
def test_name_that_another_file_takes_from_here_stays(user: str) -> None:
    helper = "import hayhooks\nfrom fastapi import HTTPException\nx = hayhooks.log\n"
    [exception, module] = sorted(note.text for note in migrate_python(helper, asked_for=names_asked_for(user)).notes)
    assert "`HTTPException` is left" in exception and "another file" in module
    as_names = "import hayhooks as h\nfrom fastapi import HTTPException as E\nx = h.log\n"
    assert not migrate_python(as_names, asked_for=names_asked_for(user)).notes
    for other in (
        "import fastapi\nfastapi.HTTPException",
        "from fastapi import HTTPException",
        "x = '*' * 2",
        "import (",
    ):
        assert names_asked_for(other) == set()


def test_program_of_fastapi_keeps_its_exception() -> None:
    for program in ("from fastapi import FastAPI, HTTPException", "import fastapi\nfrom fastapi import HTTPException"):
        told = notes(f"{program}\nraise HTTPException(400, 'x')")
        assert len(told) == 2 and any("flaskcompat.APIError" in text for _, text in told)


@pytest.mark.parametrize(
    "before",
    [
        "x = p.run(q)\ny = x['llm']['replies'][0].content.strip()",
        "async def f(): return (await self.p.run_async(q))['llm']['replies'][-1] . content",
        "x: dict = p.run(q)\nreplies = x['replies']\ny = f'ä{replies[0].content} {replies[1].content}'",
        "f((x := p.run(q)['llm'])['replies'][0]\n   .content, x['replies'][0].content)",
    ],
)
def test_content_of_a_reply_of_a_run_is_its_text(before: str) -> None:
    for package in ("haystack.dataclasses", "flaskcompat"):
        head = f"from {package} import ChatMessage\n"
        assert migrated(head + before) == head + re.sub(r"\bcontent\b", "text", before)
    assert migrate_python(before).text == before and migrate_python(before).notes


@pytest.mark.parametrize(
    "text",
    [
        "for r in x['replies']:\n    print(r.content)",
        "x = [\nr.content for r in replies]",
        "r = replies[0]\nr.content",
        "f(r := x.replies[0])\nr.content",
        "x = 1\nreplies[n].content",
        "def first(post):\n    return post.replies[0].content",
        "def first(data):\n    return data['replies'][0].content",
        "replies = [c.message for c in client.create(q).choices]\nx = replies[0].content",
        "from haystack import Pipeline; x = p.run(q); x = json.loads(t)\nx['replies'][0].content",
        "from haystack import Pipeline; x = asyncio.run(ask())\nx['replies'][0].content",
        "from haystack import Pipeline\ndef f(x): print(x['replies'][0].content); x = p.run(q)",
        "import haystack\nx = haystack.AsyncPipeline",
    ],
)
def test_content_that_may_be_a_reply_s_is_told(text: str) -> None:
    [(line, told)] = notes(text)
    assert line == 2 and "Haystack 3" in told


@pytest.mark.parametrize(
    "text", ["replies[0].content = 1", "r = chunk\nr.content", "replies[:1].content", "replies.content"]
)
def test_content_of_something_else(text: str) -> None:
    assert notes(text + "  # replies") == []


def test_change_that_would_not_compile_is_not_made() -> None:
    source = Source("x = 1", ast.parse("x = 1"))
    source.replace(0, 1, "(")
    [note] = source.migrated().notes
    assert source.migrated().text == "x = 1" and note.line == 1 and "would not compile" in note.text


def test_warnings_about_a_user_s_code_are_not_ours() -> None:
    assert migrated("from hayhooks import log\nx = '\\d'\nassert (x, 1)").startswith("from flaskcompat")


def test_very_deep_code() -> None:
    for value in ("+".join("1" * 3000), "(" * 150 + "1" + ")" * 150, "[" * 90 + "]" * 90):
        done = migrate_python(f"from hayhooks import log\nx = {value}")
        assert done.text.startswith("from flaskcompat") or done.notes


# -- properties --------------------------------------------------------------------------------------------

NAMES = ("hayhooks", "fastapi", "starlette", "asyncpipeline", "replies", "run_api")


@given(st.text())
@example("\ufeff\r\n\x0c\r#\n")
def test_text_with_none_of_the_names_is_left(text: str) -> None:
    assume(not any(name in text.lower() for name in NAMES))
    done = migrate_python(text)
    assert done.text is text and not done.notes


KNOWN = [(module, name) for module, names in HAYHOOKS.items() for name in names if homes_of(module, name)]
MODULES = sorted({module for module, _ in KNOWN})
GAPS = st.sampled_from([" ", "\n    ", "\n\n", "  # why\n    "])


@st.composite
def statements(draw: st.DrawFn) -> str:
    """A ``from`` import of some names that are known and some that are not, in some layout."""
    module = draw(st.sampled_from(MODULES))
    known = sorted({name for other, name in KNOWN if other == module})
    names = draw(st.lists(st.sampled_from([*known, "Nothing", "nobody"]), min_size=1, unique=True))
    aliases = [f"{name} as ä{number}" if draw(st.booleans()) else name for number, name in enumerate(names)]
    if draw(st.booleans()):
        return f"from {module} import {', '.join(aliases)}{draw(st.sampled_from(['', '  # why', '; x = 1']))}"
    body = "".join(f"{draw(GAPS)}{alias}{draw(GAPS)}," for alias in aliases)
    return f"from {module} import ({body if draw(st.booleans()) else body[:-1]}{draw(GAPS)})"


@given(st.lists(statements(), min_size=1), st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from(["", "    ", "\t"]))
@example(
    [f"from hayhooks.callbacks import (Nothing, nobody,\n    {', '.join(sorted(HAYHOOKS['hayhooks.callbacks']))})"],
    "\r\n",
    "",
)
def test_every_layout_stays_sound(lines: list[str], end: str, blanks: str) -> None:
    head = "if 1:\n" if blanks else "'''ä'''\n"
    text = head + "".join(f"{blanks}{line}\n" for line in lines)
    text = text.replace("\n", end)
    done = migrate_python(text)
    assert migrate_python(done.text).text == done.text
    assert bound(done.text) == bound(text)
    assert comments(done.text) == comments(text)
    left = {(module, name) for module, name in imported(done.text) if module.startswith("hayhooks")}
    assert left == {(module, name) for module, name in imported(text) if name in ("Nothing", "nobody")}
    assert bool(done.notes) == bool(left)
    assert not end == "\r\n" or "\n" not in done.text.replace("\r\n", "")


def bound(text: str) -> set[str]:
    return {
        alias.asname or alias.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def imported(text: str) -> set[tuple[str, str]]:
    return {
        (node.module or "", alias.name)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def comments(text: str) -> int:
    lines = io.StringIO(text.replace("\r\n", "\n").replace("\r", "\n"))
    return sum(token.type == tokenize.COMMENT for token in tokenize.generate_tokens(lines.readline))
