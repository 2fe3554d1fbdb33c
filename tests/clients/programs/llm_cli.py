"""The command line program ``llm``, each time as a process, with models in its ``extra-openai-models.yaml``."""

import functools
import inspect
import json
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from _report import BASE_URL, BOTH, CHAT, FAILURE, PLAIN, RESPONSES, THINK, TURNS, WEATHER, run, scenario, weather
from llm.cli import cli

CAN = {"api_base": BASE_URL, "supports_tools": True, "supports_schema": True, "vision": True}
MODELS = [
    {"model_id": "chat", "model_name": CHAT, **CAN},
    {"model_id": "responses", "model_name": RESPONSES, "responses": True, "reasoning": True, **CAN},
    {"model_id": "chat-unknown", "model_name": "no-such-model", **CAN},
    {"model_id": "responses-unknown", "model_name": "no-such-model", "responses": True, **CAN},
]
home = tempfile.TemporaryDirectory()  # of its settings and its log


class Said(NamedTuple):
    pieces: list[str]
    errors: str
    failed: bool

    @property
    def text(self) -> str:
        return "".join(self.pieces).strip()


def llm(*arguments: str) -> Said:
    """Run the program in a process, as its console script does."""
    out, into = os.pipe2(os.O_DIRECT)  # what is written at once is read at once
    with tempfile.TemporaryFile() as errors:
        child = os.fork()  # with the modules, for it takes most of a process's time to import them
        if child == 0:
            status = 70
            try:
                for ours, its in ((os.open(os.devnull, os.O_RDONLY), 0), (into, 1), (errors.fileno(), 2)):
                    os.dup2(ours, its)
                cli(arguments, prog_name="llm")
            except SystemExit as end:
                status = int(end.code or 0)
            finally:
                os._exit(status)
        os.close(into)
        with open(out, "rb", buffering=0) as pipe:
            pieces = [piece.decode() for piece in iter(lambda: pipe.read(65536), b"")]
        status = os.waitpid(child, 0)[1]
        errors.seek(0)
        return Said(pieces, errors.read().decode().strip(), status != 0)


def as_json(*arguments: str) -> Any:
    """What a prompt that is not streamed is logged as, each response of it."""
    return json.loads(llm("prompt", "--no-stream", "--json", *arguments).text)


def plain(surface: str) -> Any:
    return {"text": as_json("-m", surface, PLAIN)[0]["response"]}


@functools.cache
def streaming(surface: str) -> Said:
    return llm("prompt", "-m", surface, "--usage", PLAIN)


def streamed(surface: str) -> Any:
    said = streaming(surface)
    return {"text": said.text, "pieces": sum(bool(piece.strip()) for piece in said.pieces)}


def tools(surface: str) -> Any:
    responses = as_json("-m", surface, "--functions", inspect.getsource(weather), WEATHER)
    calls = [call["arguments"]["city"] for response in responses for call in response["tool_calls"]]
    return {"text": responses[-1]["response"], "calls": calls}


def tools_streamed(surface: str, text: str = WEATHER) -> Any:
    said = llm("prompt", "-m", surface, "--functions", inspect.getsource(weather), "--tools-debug", text)
    return {"text": said.text, "calls": re.findall(r"Tool call: weather\(\{'city': '(\w+)'\}\)", said.errors)}


def parallel(surface: str) -> Any:
    return tools_streamed(surface, BOTH)


def typed(surface: str) -> Any:
    return {"value": json.loads(llm("prompt", "-m", surface, "--schema", "city, degrees int", PLAIN).text)}


def reasoning(surface: str) -> Any:
    (response,) = as_json("-m", surface, THINK)
    return {"text": response["response"], "reasoning": response["reasoning"]}


def reasoning_streamed(surface: str) -> Any:
    said = llm("prompt", "-m", surface, THINK)
    return {"text": said.text, "reasoning": said.errors}


def usage(surface: str) -> Any:
    (response,) = as_json("-m", surface, PLAIN)
    return {"input": response["input_tokens"], "output": response["output_tokens"]}


def usage_streamed(surface: str) -> Any:
    found = re.search(r"Token usage: (\d+) input, (\d+) output", streaming(surface).errors)
    assert found
    return {"input": int(found[1]), "output": int(found[2])}


def turns(surface: str) -> Any:
    first, *others = TURNS
    llm("prompt", "-m", surface, first)
    for text in others:
        said = llm("prompt", "--continue", text)
    return {"text": said.text}


def error(surface: str) -> Any:
    said = llm("prompt", "-m", f"{surface}-unknown", PLAIN)
    return {"error": said.errors if said.failed else ""}


def failure(surface: str) -> Any:
    said = llm("prompt", "-m", surface, FAILURE)
    return {"error": said.errors if said.failed else "", "text": said.text}


def file_input(surface: str) -> Any:
    file = Path(home.name, "note.pdf")
    file.write_bytes(b"red is the colour")
    return {"text": llm("prompt", "-m", surface, "--at", str(file), "application/pdf", "read this").text}


def models() -> Any:
    return {"ids": llm("openai", "endpoint", BASE_URL, "--models").text.splitlines()}


EACH: list[Callable[[str], Any]] = [plain, streamed, tools, tools_streamed, parallel, typed]
EACH += [usage, usage_streamed, turns, error, failure, file_input]

with home:
    os.environ["LLM_USER_PATH"] = home.name
    Path(home.name, "extra-openai-models.yaml").write_text(json.dumps(MODELS))  # JSON is YAML
    for surface in ("chat", "responses"):
        for each in EACH + [reasoning, reasoning_streamed] * (surface == "responses"):
            scenario(f"{surface} {each.__name__.replace('_', ' ')}")(functools.partial(each, surface))
    scenario("api models")(models)
    run()
