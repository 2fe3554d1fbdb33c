"""Wrappers that are broken on purpose: each fails, for a reason of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import haystack.version
import pytest

from flaskcompat.checking import runs

from .folders import HEAD, check, gate, method, states, texts, write

EMPTY_CLASS = "class PipelineWrapper(BasePipelineWrapper):\n"

# By name: the source, and what is found.
NOT_LOADED = {
    "syntax": ("class PipelineWrapper(:\n    pass\n", "SyntaxError: ", "(m/pipeline_wrapper.py:1)"),
    "import": ("import no_such_module_at_all\n", "No module named 'no_such_module_at_all'", "pipeline_wrapper.py:1)"),
    "dead_import": (
        "from haystack.components.generators import OpenAIGenerator\n",
        "ImportError: cannot import name 'OpenAIGenerator'",
        "(m/pipeline_wrapper.py:1)",
    ),
    "setup": (
        f"{HEAD}\n{EMPTY_CLASS}    def setup(self):\n        raise ValueError('no\\nindex')\n"
        "    def run_response(self, *args):\n        return 'x'\n",
        "ValueError: no index",
        "(m/pipeline_wrapper.py:13)",
    ),
    "exits": ("import sys\n\nsys.exit(3)\n", "SystemExit: 3", "(m/pipeline_wrapper.py:3)"),
    "no_method": (f"{HEAD}\n{EMPTY_CLASS}    pass\n", "implements none of run_chat_completion,", ""),
    "no_class": ("class Wrapper:\n    pass\n", "pipeline_wrapper.py has no class PipelineWrapper", ""),
    "no_base": ("class PipelineWrapper:\n    pass\n", "is not derived from BasePipelineWrapper", ""),
}


@pytest.mark.parametrize("name", NOT_LOADED)
def test_wrapper_that_does_not_load(tmp_path: Path, name: str) -> None:
    if name == "dead_import" and haystack.version.__version__.startswith("2."):
        pytest.skip("it is there in Haystack 2")
    source, reason, place = NOT_LOADED[name]
    result = check(tmp_path, source=source)
    assert states(result) == {"load": "FAIL"}
    assert any(reason in text and place in text for text in texts(result)), texts(result)


def test_pipeline_alone_that_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "pipeline.yml").write_text("metadata: {}\n")
    assert texts(check(tmp_path)) == ["load: PipelineLoadError: pipeline.yml holds no pipeline"]


# By name: the source, and what is found by column.
NOT_ANSWERED = {
    "raises": (
        method("raise KeyError('nothing there')"),
        dict.fromkeys(("chat", "chat stream"), "KeyError: 'nothing there' (m/pipeline_wrapper.py:13)"),
    ),
    "raises_midway": (
        method("yield 'half'\nraise ValueError('of it')"),
        {"chat": "ValueError: of it (m/", "chat stream": "breaks off: ValueError: of it (m/pipeline_wrapper.py:14)"},
    ),
    "refuses": (
        method("raise APIError('Only on Sundays.', status=403)"),
        {"chat": "answers 403: Only on Sundays.", "chat stream": "answers 403: Only on Sundays."},
    ),
    "logs_another_error": (
        method(
            "try:\n    raise ValueError('first')\nexcept ValueError:\n    log.opt(exception=True).error('on')\n"
            "raise APIError('All is down.', status=503)"
        ),
        {"chat": "answers 503: All is down.", "chat stream": "answers 503: All is down."},
    ),
    "empty": (method("return ''"), dict.fromkeys(("chat", "chat stream"), "answers nothing")),
    "none": (
        method("pass"),
        dict.fromkeys(("chat", "chat stream"), "gives what is no answer: NoneType is no part of an answer"),
    ),
    "unknown_object": (
        method("yield 'a'\nyield object()"),
        {"chat": "gives what is no answer: object", "chat stream": "gives what is no answer: object"},
    ),
    "result_of_a_pipeline": (
        method("return {'llm': {'replies': ['x']}}", "run_response"),
        dict.fromkeys(("responses", "responses stream"), "dict with keys (llm) is no OpenAI answer"),
    ),
    "differs": (
        method("return 'long answer' if body.get('stream') else 'answer'"),
        {"chat stream": "whole and streamed differ: 'answer' and 'long answer'"},
    ),
    "differs_on_responses": (
        method("return 'long answer' if body.get('stream') else 'answer'", "run_response"),
        {"responses stream": "whole and streamed differ: 'answer' and 'long answer'"},
    ),
    "signature": (
        method("return 'x'").replace("(self, model, messages, body)", "(self, messages)"),
        dict.fromkeys(("chat",), "run_chat_completion(messages) is called with (model, messages, body): too many"),
    ),
    "breaks_the_loop": (
        method(
            "loop = asyncio.get_running_loop()\nreturn loop.run_until_complete(loop.create_future())",
            "run_response_async",
            "async def",
        ),
        dict.fromkeys(("responses", "responses stream"), "RuntimeError: This event loop is already running"),
    ),
    "second_call": (
        method("calls.append(1)\nif len(calls) > 2:\n    raise IndexError(calls)\nreturn 'x'") + "\ncalls = []\n",
        {"chat stream": "IndexError: [1, 1, 1] (m/pipeline_wrapper.py:15)"},
    ),
    "parts_raise": (
        method("return messages[-1]['content'].upper()"),
        {"chat": "content as a list of parts: AttributeError: 'list' object has no attribute 'upper'"},
    ),
    "parts_are_not_found": (
        method("return 'yes' * sum(isinstance(item['content'], str) for item in input_items)", "run_response"),
        {"responses": "content as a list of parts: answers nothing"},
    ),
    "parts_are_taken_for_nothing": (
        method("return 'yes' if isinstance(messages[-1]['content'], str) else 'no messages'"),
        {"chat": "answers something else where the content is a list of parts"},
    ),
    "upload": (
        f"{HEAD}\n{EMPTY_CLASS}    def run_file_upload(self, filename, content_type, content, purpose):\n"
        "        return {'id': filename + content}\n",
        {"files": "TypeError: can only concatenate str"},
    ),
    "upload_signature": (
        f"{HEAD}\n{EMPTY_CLASS}    def run_file_upload(self, file):\n        return {{}}\n",
        {"files": "run_file_upload(file) is called with (filename, content_type, content, purpose)"},
    ),
}


@pytest.mark.parametrize("name", NOT_ANSWERED)
def test_wrapper_that_does_not_answer_as_it_must(tmp_path: Path, name: str) -> None:
    source, reasons = NOT_ANSWERED[name]
    result = check(tmp_path, source=source)
    assert result.state("load") == "ok", texts(result)
    for column, reason in reasons.items():
        found = [text for text in texts(result) if text.startswith(f"{column}: ")]
        assert len(found) == 1 and reason in found[0], texts(result)


def test_model_is_not_given_the_question_of_a_list_of_parts(tmp_path: Path) -> None:
    source = f"""{HEAD}
class PipelineWrapper(BasePipelineWrapper):
    def setup(self):
        self.pipeline = Pipeline()
        self.pipeline.add_component("llm", OpenAIChatGenerator())

    def run_chat_completion(self, model, messages, body):
        content = messages[-1]["content"]
        question = content if isinstance(content, str) else "nothing"
        return streaming_generator(self.pipeline, pipeline_run_args={{"messages": [ChatMessage.from_user(question)]}})
"""
    found = texts(check(tmp_path, source=source))
    assert found == ["chat: does not give the model the question where the content is a list of parts"]


def test_stream_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "MOST_EVENTS", 50)
    source = method("yield 'x'\nwhile body.get('stream'):\n    yield 'x'")
    assert texts(check(tmp_path, source=source)) == ["chat stream: does not end: more than 50 events"]


@pytest.mark.usefixtures("_gate")
def test_threads_that_a_wrapper_started_are_not_where_it_hangs(tmp_path: Path) -> None:
    body = """
    def beside(self):
        gate.wait()

    def run_response(self, model, items, body):
        threading.Thread(target=self.beside, daemon=True).start()
        return gate.wait()
"""
    source = f"{HEAD}\nimport threading\nfrom tests.checking.folders import gate\n\n{EMPTY_CLASS}{body}"
    line = source.splitlines().index("        return gate.wait()") + 1
    assert f", at m/pipeline_wrapper.py:{line}" in texts(check(tmp_path, source=source, timeout=1.0))[0]


@pytest.fixture
def _gate() -> Iterator[None]:
    """Lets go what hangs, once the test is over."""
    gate.clear()
    yield
    gate.set()


HANGING = {
    "setup": (
        "    def setup(self):\n        gate.wait()\n    def run_response(self, *args):\n        return ''\n",
        {"load": "hangs: not loaded after 1 s, at m/pipeline_wrapper.py:16"},
    ),
    "sync": (
        "    def run_response(self, model, items, body):\n        gate.wait()\n",
        dict.fromkeys(("responses", "responses stream"), "hangs: no end after 1 s, at m/pipeline_wrapper.py:16"),
    ),
    "midway": (
        "    def run_chat_completion(self, model, messages, body):\n        yield 'a'\n        gate.wait()\n",
        {"chat": "hangs: no end after 1 s", "chat stream": "hangs: no end after 1 s"},
    ),
    "async": (
        "    async def run_response_async(self, model, items, body):\n        await asyncio.Event().wait()\n",
        {"responses": "hangs: no end after 1 s", "responses stream": "hangs: no end after 1 s"},
    ),
    "upload": (
        "    def run_file_upload(self, filename, content_type, content, purpose):\n        gate.wait()\n",
        {"files": "hangs: no end after 1 s, at m/pipeline_wrapper.py:16"},
    ),
}


@pytest.mark.usefixtures("_gate")
@pytest.mark.parametrize("name", HANGING)
def test_wrapper_that_hangs(tmp_path: Path, name: str) -> None:
    body, reasons = HANGING[name]
    source = f"{HEAD}\nfrom tests.checking.folders import gate\n\n\n{EMPTY_CLASS}{body}"
    found = texts(check(tmp_path, source=source, timeout=1.0))
    assert len(found) == len(reasons), found
    for text, (column, reason) in zip(found, reasons.items(), strict=True):
        assert text.startswith(f"{column}: {reason}")


def test_one_that_fails_does_not_take_the_others_along(tmp_path: Path) -> None:
    write(tmp_path, "a", "raise ValueError\n")
    assert states(check(tmp_path, "b", method("return 'x'"))) == {"load": "ok", "chat": "ok", "chat stream": "ok"}
