"""Folders of wrappers for the tests, and the check of one."""

from __future__ import annotations

import threading
from pathlib import Path
from textwrap import dedent
from typing import Any

from flaskcompat.checking.checker import Checker, FolderModels, bare_app
from flaskcompat.checking.findings import Result
from flaskcompat.checking.options import Options

#: Wrappers that hang wait for this, so that a test can end them.
gate = threading.Event()

HEAD = """
import asyncio
from typing import Any
from haystack import Pipeline, component
from haystack.components.agents import Agent
from haystack.components.builders import ChatPromptBuilder
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from flaskcompat import *
"""


def method(body: str, name: str = "run_chat_completion", first: str = "def") -> str:
    """The source of a wrapper with one method."""
    arguments = "model, messages, body" if "chat" in name else "model, input_items, body"
    lines = "\n".join(f"        {line}" for line in dedent(body).strip().splitlines())
    return f"{HEAD}\nclass PipelineWrapper(BasePipelineWrapper):\n    {first} {name}(self, {arguments}):\n{lines}\n"


def write(folder: Path, name: str, source: str) -> Path:
    (folder / name).mkdir(parents=True, exist_ok=True)
    path = folder / name / "pipeline_wrapper.py"
    path.write_text(dedent(source), encoding="utf-8")
    return path


def check(folder: Path, name: str = "m", source: str | None = None, **options: Any) -> Result:
    """What is found about the model *name* of *folder*, once *source* is its wrapper."""
    if source is not None:
        write(folder, name, source)
    return checker(folder, **options).check(name)


def checker(folder: Path, **options: Any) -> Checker:
    return Checker(FolderModels(folder), bare_app(), Options(**options))


def states(result: Result) -> dict[str, str]:
    """The columns that were looked at."""
    columns = ("load", "chat", "chat stream", "responses", "responses stream", "files")
    return {column: state for column in columns if (state := result.state(column)) != "-"}  # type: ignore[arg-type]


def texts(result: Result, *, fails: bool = True) -> list[str]:
    return [f"{finding.column}: {finding.text}" for finding in result.findings if finding.fails is fails]
