"""Wrappers that are sound pass, with scripted models: without a key, without the network."""

from __future__ import annotations

import logging
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent

import haystack.version
import pytest
from haystack import component
from haystack.utils import Secret

import flaskcompat
from flaskcompat import BasePipelineWrapper
from flaskcompat.checking.checker import Checker, FolderModels, ServedModels
from flaskcompat.checking.mock import PLACEHOLDER, REPLY, Script, scripted
from flaskcompat.checking.network import NoNetwork, no_network
from flaskcompat.checking.options import Options

from ..support import make_app, returning
from .folders import HEAD, check, checker, gate, method, states, texts, write

ROOT = Path(flaskcompat.__file__).parent
FOLDERS = [ROOT / "demos", *(ROOT.parent / "examples" / name for name in ("pipelines", "rag/pipelines"))]
FOLDERS.append(ROOT.parent / "examples" / "codex" / "pipelines")


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT.parent)))
def test_examples_and_demos_pass(folder: Path) -> None:
    checking = checker(folder)
    assert checking.names
    for name in checking.names:
        if haystack.version.__version__.startswith("2.") and "yaml" in name:
            continue  # they name a component of Haystack 3
        result = checking.check(name)
        assert not result.failed, (name, texts(result))
        assert len(states(result)) > 1


def wrapper(setup: str, answer: str, extra: str = "") -> str:
    """A wrapper with both surfaces, which have the same *answer* to ``question``."""
    lines = indent(answer, "        ")
    return f"""{HEAD}
{extra}
class PipelineWrapper(BasePipelineWrapper):
    def setup(self):
{indent(setup, "        ")}

    def run_chat_completion(self, model, messages, body):
        question = get_last_user_message(messages)
{lines}

    def run_response(self, model, input_items, body):
        question = get_last_user_input_text(input_items)
{lines}
"""


PIPELINE = "self.pipeline = Pipeline()\nself.pipeline.add_component('llm', OpenAIChatGenerator())"
ASK = "return streaming_generator(self.pipeline, pipeline_run_args={'messages': [ChatMessage.from_user(question)]})"
AGENT = """
from haystack.tools import create_tool_from_function

def add(a: int, b: int) -> int:
    '''Add two numbers.'''
    return a + b
"""
OWN = """
@component
class Own:
    def __init__(self, streaming_callback=None):
        self.streaming_callback = streaming_callback

    def warm_up(self):
        raise RuntimeError("loads a model")

    @component.output_types({outputs})
    def run(self, prompt: str, streaming_callback: Any = None):
        raise RuntimeError("asks a model")
"""
ASK_OWN = "return streaming_generator(self.pipeline, pipeline_run_args={'prompt': question})"

SOUND = {
    "pipeline": wrapper(PIPELINE, ASK),
    "warmed_up_in_setup": wrapper(f"{PIPELINE}\nself.pipeline.warm_up()\nOpenAIChatGenerator().warm_up()", ASK),
    "in_a_dict": wrapper(
        "self.by = {'a': [OpenAIChatGenerator()]}", "return self.by['a'][0].run(question)['replies'][0]"
    ),
    "of_the_module": wrapper("pass", "return llm.run(question)['replies'][0].text", "llm = OpenAIChatGenerator()"),
    "made_for_each_request": wrapper("pass", "return OpenAIChatGenerator().run(question)['replies'][0]"),
    "agent": wrapper(
        "tools = [create_tool_from_function(add)]\n"
        "self.pipeline = Agent(chat_generator=OpenAIChatGenerator(), tools=tools, exit_conditions=['text', 'add'])\n"
        "self.pipeline.warm_up()",
        ASK,
        AGENT,
    ),
    "agent_in_a_pipeline": wrapper(
        "self.pipeline = Pipeline()\nself.pipeline.add_component('agent', Agent(chat_generator=OpenAIChatGenerator()))",
        ASK,
    ),
    "pipeline_that_is_a_component": wrapper(
        "inner = Pipeline()\n"
        "inner.add_component('llm', OpenAIChatGenerator())\n"
        "self.pipeline = SuperComponent(inner, {'messages': ['llm.messages']}, {'llm.replies': 'replies'})",
        "return self.pipeline.run(messages=[ChatMessage.from_user(question)])['replies'][0]",
        "from haystack import SuperComponent",
    ),
    "texts": wrapper(
        "self.pipeline = Pipeline()\nself.pipeline.add_component('llm', Own())\nself.pipeline.warm_up()",
        ASK_OWN,
        OWN.format(outputs="replies=list[str], meta=list[dict[str, Any]]"),
    ),
    "other_outputs": wrapper(
        "self.pipeline = Pipeline()\nself.pipeline.add_component('llm', Own())", ASK_OWN, OWN.format(outputs="text=str")
    ),
    "embedders": wrapper(
        "store = InMemoryDocumentStore()\n"
        "store.write_documents(OpenAIDocumentEmbedder().run([Document(content='a')])['documents'])\n"
        "self.pipeline = Pipeline()\n"
        "self.pipeline.add_component('embedder', OpenAITextEmbedder())\n"
        "self.pipeline.add_component('retriever', InMemoryEmbeddingRetriever(store))\n"
        "self.pipeline.connect('embedder.embedding', 'retriever.query_embedding')",
        "return self.pipeline.run({'embedder': {'text': question}})['retriever']['documents'][0].content",
        "from haystack import Document\n"
        "from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder\n"
        "from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever\n"
        "from haystack.document_stores.in_memory import InMemoryDocumentStore\n",
    ),
    "embeddings_computed_before": wrapper(
        "store = InMemoryDocumentStore()\n"
        "store.write_documents([Document(content='a', embedding=[0.1] * 77)])\n"
        "self.pipeline = InMemoryEmbeddingRetriever(store)",
        "vector = OpenAITextEmbedder().run(question)['embedding']\n"
        "return self.pipeline.run(query_embedding=vector)['documents'][0].content",
        "from haystack import Document\n"
        "from haystack.components.embedders import OpenAITextEmbedder\n"
        "from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever\n"
        "from haystack.document_stores.in_memory import InMemoryDocumentStore\n",
    ),
    "sparse_embeddings_and_a_ranker": wrapper(
        "self.embedder, self.ranker = Sparse(), Ranker()\nself.ranker.warm_up()",
        "documents = [Document(content=text) for text in 'ab']\n"
        "ranked = self.ranker.run(question, documents)['documents']\n"
        "return f\"{self.embedder.run(question)['sparse_embedding'].indices}{len(ranked)}\"",
        "from haystack import Document\nfrom haystack.dataclasses import SparseEmbedding\n"
        "@component\nclass Sparse:\n"
        "    @component.output_types(sparse_embedding=SparseEmbedding)\n"
        "    def run(self, text: str):\n        raise RuntimeError\n"
        "@component\nclass Ranker:\n    top_k = 1\n"
        "    def warm_up(self):\n        raise RuntimeError\n"
        "    @component.output_types(documents=list[Document])\n"
        "    def run(self, query: str, documents: list[Document]):\n        raise RuntimeError\n",
    ),
    "numbers_and_details": wrapper(
        "pass",
        "said = Own().run(question)\nusage = OpenAIChatGenerator().run(question)['replies'][0].meta['usage']\n"
        "return f\"{said['cost']:.2f} {said['sure']} {usage['completion_tokens_details']['reasoning_tokens']}\"",
        OWN.format(outputs="replies=list[str], cost=float, sure=bool"),
    ),
    "cache": wrapper(
        "self.cache = {}",
        "if question not in self.cache:\n"
        "    self.cache[question] = OpenAIChatGenerator().run(question)['replies'][0].text\n"
        "return self.cache[question]",
    ),
    "by_turns": wrapper("self.turns = itertools.cycle('ab')", "return next(self.turns)", "import itertools"),
    "loop_and_signals": wrapper(
        "self.hello = asyncio.get_event_loop().run_until_complete(asyncio.sleep(0, 'hello'))\n"
        "signal.signal(signal.SIGTERM, signal.SIG_DFL)",
        "return self.hello",
        "import signal",
    ),
    "events_and_citations": wrapper(
        "pass",
        "yield PipelineEvent('status', {'description': 'Looking'})\n"
        "yield from ['According ', 'to ']\nyield Citation('https://example.com', 'Example')\nyield 'this.'",
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_wrapper_without_a_key_passes(tmp_path: Path, name: str) -> None:
    result = check(tmp_path, source=SOUND[name])
    assert texts(result) == []
    assert set(states(result).values()) == {"ok"} and len(states(result)) == 5


@pytest.mark.parametrize("name", ["pipeline", "agent", "agent_in_a_pipeline", "texts", "other_outputs"])
def test_scripted_models_stream_word_by_word(tmp_path: Path, name: str) -> None:
    assert texts(check(tmp_path, source=SOUND[name]), fails=False) == []


def test_asynchronous_agent_streams(tmp_path: Path) -> None:
    source = f"""{HEAD}
class PipelineWrapper(BasePipelineWrapper):
    def setup(self):
        self.pipeline = Agent(chat_generator=OpenAIChatGenerator())

    async def run_response_async(self, model, input_items, body):
        messages = chat_messages_from_openai_response(input_items)
        return async_streaming_generator(self.pipeline, pipeline_run_args={{"messages": messages}})
"""
    result = check(tmp_path, source=source)
    assert states(result) == {"load": "ok", "responses": "ok", "responses stream": "ok"}
    assert result.findings == []


def test_pipeline_alone_passes(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "pipeline.yml").write_text(
        "components:\n  llm:\n    type: haystack.components.generators.chat.openai.OpenAIChatGenerator\n"
        "    init_parameters: {}\nconnections: []\n"
    )
    result = check(tmp_path)
    assert len(states(result)) == 5 and result.findings == []


def test_reply_is_what_a_wrapper_reads(tmp_path: Path) -> None:
    answer = "return json.loads(OpenAIChatGenerator().run(question)['replies'][0].text)['say']"
    source = wrapper("pass", answer, "import json")
    assert "JSONDecodeError" in texts(check(tmp_path, source=source))[0]
    assert texts(check(tmp_path, source=source, reply='{"say": "x"}')) == []
    assert "chat: answers nothing" in texts(check(tmp_path, source=SOUND["made_for_each_request"], reply=""))[0]


def test_what_a_generator_refuses_is_refused_under_the_script(tmp_path: Path) -> None:
    answer = "async def tell(chunk):\n    pass\nreturn OpenAIChatGenerator().run(question, streaming_callback=tell)"
    found = texts(check(tmp_path, source=wrapper("pass", answer)))
    assert "ValueError: The runtime callback cannot be a coroutine." in found[0]


# -- warnings ----------------------------------------------------------------------------------------------


def test_whole_text_in_one_piece_is_a_warning(tmp_path: Path) -> None:
    result = check(tmp_path, source=SOUND["of_the_module"])
    assert [text.partition(":")[0] for text in texts(result, fails=False)] == ["chat stream", "responses stream"]
    assert all("does not stream, though OpenAIChatGenerator can" in text for text in texts(result, fails=False))


def test_synchronous_run_on_the_event_loop_is_a_warning(tmp_path: Path) -> None:
    source = f"""{HEAD}
class PipelineWrapper(BasePipelineWrapper):
    def setup(self):
        self.pipeline = Pipeline()
        self.pipeline.add_component("llm", OpenAIChatGenerator())

    async def run_chat_completion_async(self, model, messages, body):
        return self.pipeline.run({{"llm": {{"messages": "x"}}}})["llm"]["replies"][0]
"""
    result = check(tmp_path, source=source)
    assert not result.failed, texts(result)
    assert any("blocks the event loop while OpenAIChatGenerator runs" in text for text in texts(result, fails=False))


@pytest.mark.parametrize(
    "answer",
    [
        "return asyncio.run(answer(question))",
        "return 'yes' if OpenAIChatGenerator().run(question)['replies'] else 'no'",
    ],
    ids=["on_a_loop_of_its_own", "that_is_not_the_answer"],
)
def test_model_that_is_asked_as_it_may_be_is_no_warning(tmp_path: Path, answer: str) -> None:
    of_its_own = "async def answer(question):\n    return str(len(OpenAIChatGenerator().run(question)))\n"
    assert check(tmp_path, source=wrapper("pass", answer, of_its_own)).findings == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (
            f"{HEAD}\nclass PipelineWrapper(BasePipelineWrapper):\n    def run_file_upload(self, *args):\n"
            "        raise APIError('Only PDF.', status=415)\n",
            ["files: answers 415: Only PDF.: not checked"],
        ),
        (
            method("raise APIError('Who are you?', status=401)"),
            [f"{column}: answers 401: Who are you?: not checked" for column in ("chat", "chat stream")],
        ),
    ],
    ids=["upload", "header"],
)
def test_refusal_of_what_a_check_sends_is_a_warning(tmp_path: Path, source: str, found: list[str]) -> None:
    result = check(tmp_path, source=source)
    assert (texts(result), texts(result, fails=False), states(result)) == ([], found, {"load": "ok"})


@pytest.fixture
def _gate_opens_when_blocked() -> Iterator[None]:
    """Lets a wrapper go on as soon as it was seen to block the loop."""

    def look(record: logging.LogRecord) -> bool:
        if "blocks the event loop" in record.getMessage():
            gate.set()
        return True

    gate.clear()
    logging.getLogger("flaskcompat").addFilter(look)
    yield
    logging.getLogger("flaskcompat").removeFilter(look)


@pytest.mark.usefixtures("_gate_opens_when_blocked")
def test_blocked_event_loop_is_a_warning(tmp_path: Path) -> None:
    source = method("gate.wait()\nreturn 'x'", "run_chat_completion_async", "async def")
    result = check(tmp_path, source=f"from tests.checking.folders import gate\n{source}")
    assert not result.failed, texts(result)
    assert "blocks the event loop (m/pipeline_wrapper.py:14)" in texts(result, fails=False)[0]


def test_keys_that_are_not_openai_s_are_a_warning(tmp_path: Path) -> None:
    answer = {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "a", "mood": "good"}}
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
    result = check(tmp_path, source=method(f"return {answer!r}"))
    assert not result.failed, texts(result)
    assert texts(result, fails=False)[0] == "chat: choices.0.message.mood: no key of OpenAI's"


def test_answers_that_do_not_fit_the_types_fail(tmp_path: Path) -> None:
    answer = {
        "object": "chat.completion",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "a"}}],
        "service_tier": 7,
    }
    found = texts(check(tmp_path, source=method(f"return {answer!r}")))
    assert found[0].startswith("chat: service_tier: Input should be")


# -- the network, and what is put back ---------------------------------------------------------------------


def test_network_is_refused_and_named(tmp_path: Path) -> None:
    body = "import urllib.request\nreturn urllib.request.urlopen('http://192.0.2.1/x').read().decode()"
    found = texts(check(tmp_path, source=method(body)))
    assert (
        found[0] == "chat: wants the network (192.0.2.1:80), which is refused without --real (m/pipeline_wrapper.py:14)"
    )


@pytest.mark.parametrize("name", ["sendto", "gethostbyname", "gethostbyname_ex"])
def test_datagrams_and_names_are_refused(name: str) -> None:
    with no_network(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own, pytest.raises(NoNetwork, match="192.0"):
        own.sendto(b"x", ("192.0.2.1", 9)) if name == "sendto" else getattr(socket, name)("192.0.2.1")


def test_proxy_on_this_machine_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with no_network():
        assert "https" not in urllib.request.getproxies_environment()
    assert urllib.request.getproxies_environment()["https"] == "http://127.0.0.1:9"


def test_real_models_are_asked_only_when_told(tmp_path: Path) -> None:
    own = OWN.format(outputs="replies=list[str]").replace("def warm_up", "def not_called")
    source = wrapper("pass", "return Own().run(question)['replies'][0]", own)
    assert texts(check(tmp_path, source=source)) == []
    assert "RuntimeError: asks a model" in texts(check(tmp_path, source=source, real=True))[0]


@component
class Generator:
    """What a model is asked by."""

    @component.output_types(replies=list[str])
    def run(self, prompt: str) -> dict[str, list[str]]:
        return {"replies": ["the model's"]}

    def warm_up(self) -> None:
        raise RuntimeError("loads a model")


def test_generators_and_keys_are_as_before_afterwards() -> None:
    key = Secret.from_env_var("NO_SUCH_KEY")
    before, script = Generator(), Script()
    with scripted(script):
        during = Generator()
        during.warm_up()
        assert [one.run("x") for one in (before, during)] == [{"replies": [REPLY]}] * 2
        assert key.resolve_value() == PLACEHOLDER
    assert len(script.asked) == 2
    assert [one.run("x") for one in (before, during, Generator())] == [{"replies": ["the model's"]}] * 3
    with pytest.raises(ValueError, match="NO_SUCH_KEY"):
        key.resolve_value()
    with pytest.raises(RuntimeError):
        during.warm_up()


# -- what an application serves ----------------------------------------------------------------------------


class Keeper(BasePipelineWrapper):
    def run_file_upload(self, filename, content_type, content, purpose):  # type: ignore[no-untyped-def]
        return {"id": "file-1"}


def test_models_that_an_application_serves_are_asked_as_they_are() -> None:
    app = make_app(a=returning("a"), bad=returning(None), keeper=Keeper(), other=Keeper())
    registry = app.extensions["flaskcompat"].registry
    registry.failed["gone"] = "ValueError: no index"
    served = registry["a"]
    checking = Checker(ServedModels(registry), app, Options())
    assert checking.names == ["a", "bad", "gone", "keeper", "other"]
    found = {name: checking.check(name) for name in checking.names}
    assert texts(found["a"]) == [] and len(states(found["a"])) == 5
    assert "NoneType is no part of an answer" in texts(found["bad"])[0]
    assert texts(found["gone"]) == ["load: ValueError: no index"]
    assert states(found["keeper"]) == states(found["other"]) == {"load": "ok", "files": "ok"}
    assert registry["a"] is served
    stored = app.test_client().get("/v1/files").get_json()["data"]
    assert stored == []


def test_of_the_application_there_are_settings_and_extensions_but_no_keys(tmp_path: Path) -> None:
    body = "return current_app.config['OWN'] + current_app.extensions['own']"
    write(tmp_path, "m", f"from flask import current_app\n{method(body)}")
    app = make_app()
    app.extensions["own"] = "y"
    app.config.update(OWN="x", SERVER_NAME="example.com", FLASKCOMPAT_API_KEYS="k", FLASKCOMPAT_MAX_GENERATIONS=1)
    app.config["FLASKCOMPAT_PAGE"] = True
    assert texts(Checker(FolderModels(tmp_path), app, Options()).check("m")) == []


def test_models_may_ask_each_other(tmp_path: Path) -> None:
    write(tmp_path, "z", method("return 'of another'"))
    asked = '{"model": "z", "messages": messages}'
    body = f"answer = current_app.test_client().post('/v1/chat/completions', json={asked})"
    source = f"from flask import current_app\n{method(body + chr(10) + 'return answer.get_json()')}"
    assert texts(check(tmp_path, "a", source)) == []


def test_models_find_each_other_in_the_registry(tmp_path: Path) -> None:
    write(tmp_path, "z", method("return 'x'"))
    body = "from flask import current_app\nreturn str('z' in current_app.extensions['flaskcompat'].registry)"
    assert texts(check(tmp_path, "a", method(body))) == []
