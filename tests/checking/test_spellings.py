"""Dead spellings are found where they stand, and nothing else is."""

from __future__ import annotations

import importlib
from pathlib import Path

import haystack.version
import pytest

from flaskcompat.checking.checker import FolderModels
from flaskcompat.checking.hearing import Source
from flaskcompat.checking.spellings import GONE, dead_spellings

from .folders import HEAD, check, method, texts

ON_HAYSTACK_3 = not haystack.version.__version__.startswith("2.")


def found_in(tmp_path: Path, text: str, name: str = "a.py") -> list[str]:
    path = tmp_path / name
    path.write_text(text)
    return list(dead_spellings([path], Source(tmp_path, tmp_path)))


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("from haystack import AsyncPipeline", "from flaskcompat import AsyncPipeline"),
        (
            "from haystack.components.generators import OpenAIGenerator",
            "from haystack.components.generators.chat import OpenAIChatGenerator",
        ),
        (
            "from haystack.components.embedders import SentenceTransformersTextEmbedder as E",
            "from haystack_integrations.components.embedders.sentence_transformers import"
            " SentenceTransformersTextEmbedder",
        ),
        ("from haystack.components.tools import ToolInvoker", "Agent(chat_generator=..., tools=[...])"),
        ("from haystack.human_in_the_loop import AlwaysAskPolicy", "from haystack.hooks.human_in_the_loop import ..."),
        ("import haystack.human_in_the_loop", "import haystack.hooks.human_in_the_loop"),
        ("agent = Agent(chat_generator=x, tool_invoker_kwargs={})", "tool_concurrency_limit"),
        ("text = result['llm']['replies'][0].content", "`result['llm']['replies'][0].text`"),
        ("text = result.replies[-1].content", "`result.replies[-1].text`"),
        ("texts = [reply.content for reply in result['replies']]", "`reply.text`"),
        ("replies = f()\nfor r in replies:\n    print(r.content)", "`r.text`"),
        ("r = f()['replies'][0]\nprint(r.content)", "`r.text`"),
    ],
)
def test_dead_spelling_is_found_with_what_to_write(tmp_path: Path, line: str, instead: str) -> None:
    found = found_in(tmp_path, f"\n{line}\n")
    assert len(found) == 1 and instead in found[0], found
    assert found[0].startswith(f"a.py:{1 + len(line.splitlines())}: ")


@pytest.mark.parametrize(
    "text",
    [
        "from flaskcompat import AsyncPipeline",
        "from own import OpenAIGenerator",
        "from .haystack import AsyncPipeline",
        "from haystack.components.generators.chat import OpenAIChatGenerator",
        "try:\n    from haystack import AsyncPipeline\nexcept ImportError:\n    pass",
        "if TYPE_CHECKING:\n    from haystack import AsyncPipeline",
        "if version.startswith('2.'):\n    from haystack import AsyncPipeline",
        "with contextlib.suppress(ImportError):\n    from haystack import AsyncPipeline",
        "replies = [c.message for c in completion.choices]\nreplies[0].content",
        "async for chunk in stream:\n    print(chunk.content)",
        "documents[0].content",
        "def (",
    ],
)
def test_nothing_else_is_found(tmp_path: Path, text: str) -> None:
    assert found_in(tmp_path, text) == []


def test_dead_types_of_a_pipeline_in_yaml_are_found(tmp_path: Path) -> None:
    text = "components:\n  llm:\n    type: haystack.components.generators.openai.OpenAIGenerator\n"
    assert "p.yml:3: " in found_in(tmp_path, text, "p.yml")[0]


@pytest.mark.skipif(not ON_HAYSTACK_3, reason="they are there in Haystack 2")
def test_all_that_is_called_gone_is_gone() -> None:
    packages = "haystack haystack.tracing".split()
    packages += [
        f"haystack.components.{name}"
        for name in "audio classifiers connectors converters embedders embedders.image extractors generators"
        " generators.chat rankers readers routers tools websearch".split()
    ]
    for package in packages:
        try:
            module = importlib.import_module(package)
        except ImportError:
            continue
        assert not [name for name in GONE if hasattr(module, name)], package


def test_spellings_of_a_model_and_of_what_models_share_are_told(tmp_path: Path) -> None:
    late = "from haystack import AsyncPipeline\nreturn AsyncPipeline()"
    (tmp_path / "_shared.py").write_text("def text(result):\n    return result['replies'][0].content\n")
    source = (
        method(f"if body.get('never'):\n    {late.replace(chr(10), chr(10) + '    ')}\nreturn 'x'")
        + "\n\nfrom .._shared import text\n"
    )
    result = check(tmp_path, source=source)
    assert not result.failed, texts(result)
    found = texts(result, fails=False)
    place = f"load: m/pipeline_wrapper.py:{len(HEAD.splitlines()) + 5}: Haystack 3 has no"
    assert any(text.startswith(place) for text in found), found
    assert "load: _shared.py:2: a reply has no `content`" in "".join(found)


def test_source_is_the_wrapper_and_what_it_imports_of_the_folder(tmp_path: Path) -> None:
    source = {
        "m/pipeline_wrapper.py": "from .own import part\ndef late():\n    import plain\nold = 'a threshold'\n",
        "m/own/__init__.py": "",
        "m/own/part.py": "from ..._shared.b import x as y\nimport os.path\n",
        "m/a.yml": "",
        "m/a.txt": "",
        "m/scripts/index.py": "",
        "_shared/b.py": "def (",
        "_shared/c.py": "",
        "plain.py": "from plain import late",
        "old.py": "",
        "n/pipeline_wrapper.py": "",
    }
    for name, text in source.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    files = [str(path.relative_to(tmp_path)) for path in FolderModels(tmp_path).files("m")]
    assert files == [
        "_shared/b.py",
        "m/a.yml",
        "m/own/__init__.py",
        "m/own/part.py",
        "m/pipeline_wrapper.py",
        "plain.py",
    ]
