"""Spellings of Haystack 2 in a model's source that do not run on Haystack 3, and what to write instead."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from flaskcompat.checking.hearing import Source

_INTEGRATIONS = "haystack_integrations.components"
# Names that Haystack 3 has no more, and what stands for each.
_MOVED = {
    "generators.huggingface_api": "HuggingFaceAPIChatGenerator",
    "embedders.huggingface_api": "HuggingFaceAPITextEmbedder HuggingFaceAPIDocumentEmbedder",
    "rankers.huggingface_api": "HuggingFaceTEIRanker",
    "classifiers.transformers": "TransformersZeroShotDocumentClassifier",
    "routers.transformers": "TransformersTextRouter TransformersZeroShotTextRouter",
    "websearch.serperdev": "SerperDevWebSearch",
    "websearch.searchapi": "SearchApiWebSearch",
    "classifiers.langdetect": "DocumentLanguageClassifier",
    "routers.langdetect": "TextLanguageRouter",
    "audio.whisper": "LocalWhisperTranscriber RemoteWhisperTranscriber",
    "embedders.sentence_transformers": "SentenceTransformersTextEmbedder SentenceTransformersDocumentEmbedder"
    " SentenceTransformersSparseTextEmbedder SentenceTransformersSparseDocumentEmbedder"
    " SentenceTransformersDocumentImageEmbedder",
    "rankers.sentence_transformers": "SentenceTransformersSimilarityRanker SentenceTransformersDiversityRanker",
    "converters.tika": "TikaDocumentConverter",
    "converters.azure_form_recognizer": "AzureOCRDocumentConverter",
    "converters.openapi": "OpenAPIServiceToFunctions",
    "connectors.openapi": "OpenAPIConnector OpenAPIServiceConnector",
}
_CHAT = "from haystack.components.generators.chat import"
#: By name of Haystack 2: what to write.
GONE = {
    name: f"from {_INTEGRATIONS}.{place} import {name}" for place, names in _MOVED.items() for name in names.split()
}
GONE |= {
    "AsyncPipeline": "from flaskcompat import AsyncPipeline",
    "OpenAIGenerator": f"{_CHAT} OpenAIChatGenerator",
    "AzureOpenAIGenerator": f"{_CHAT} AzureOpenAIChatGenerator",
    "HuggingFaceAPIGenerator": f"from {_INTEGRATIONS}.generators.huggingface_api import HuggingFaceAPIChatGenerator",
    "HuggingFaceLocalGenerator": f"from {_INTEGRATIONS}.generators.transformers import TransformersChatGenerator",
    "HuggingFaceLocalChatGenerator": f"from {_INTEGRATIONS}.generators.transformers import TransformersChatGenerator",
    "DALLEImageGenerator": "from haystack.components.generators import OpenAIImageGenerator",
    "TransformersSimilarityRanker": f"from {_INTEGRATIONS}.rankers.sentence_transformers import"
    " SentenceTransformersSimilarityRanker",
    "ExtractiveReader": f"from {_INTEGRATIONS}.readers.transformers import TransformersExtractiveReader",
    "NamedEntityExtractor": f"from {_INTEGRATIONS}.extractors.transformers import TransformersNamedEntityExtractor",
    "ToolInvoker": "Agent(chat_generator=..., tools=[...]), which runs its tools itself",
    "OpenTelemetryTracer": "from haystack_integrations.tracing.opentelemetry import OpenTelemetryTracer",
    "DatadogTracer": "from haystack_integrations.tracing.datadog import DatadogTracer",
}
# Whole modules that are gone, beside those that hold one of the names alone.
_GONE_MODULES = {"haystack.human_in_the_loop": "haystack.hooks.human_in_the_loop"}
# Parameters that Agent() takes no more.
_GONE_OF_AGENT = {
    "tool_invoker_kwargs": "tool_concurrency_limit and tool_streaming_callback_passthrough",
    "confirmation_strategies": 'hooks={"before_tool": [ConfirmationHook(...)]}',
}
_YAML_TYPE = re.compile(r"^\s*type:\s*['\"]?(haystack\.[\w.]+)\.(\w+)")
_GUARDS = ("ImportError", "ModuleNotFoundError", "Exception")


def dead_spellings(paths: list[Path], source: Source) -> Iterator[str]:
    """One line for each that is found in the files at *paths*, with its place."""
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
            found = _in_python(ast.parse(text)) if path.suffix == ".py" else _in_yaml(text)
            for line, what in sorted(found):
                yield f"{source.show(str(path), line)}: {what}"
        except (OSError, SyntaxError, ValueError):  # what is wrong there is told by loading it
            continue


def _in_yaml(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        found = _YAML_TYPE.match(line)
        if found and found[2] in GONE:
            yield number, _gone(f"{found[1]}.{found[2]}", GONE[found[2]])


def _in_python(tree: ast.Module) -> Iterator[tuple[int, str]]:
    guarded = {id(inner) for node in ast.walk(tree) if _is_guarded(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom() if id(node) not in guarded:
                yield from _in_import(node)
            case ast.Import() if id(node) not in guarded:
                for alias in node.names:
                    if alias.name in _GONE_MODULES:
                        yield node.lineno, _gone(f"import {alias.name}", f"import {_GONE_MODULES[alias.name]}")
            case ast.Call(func=ast.Name(id="Agent") | ast.Attribute(attr="Agent")):
                for keyword in node.keywords:
                    if instead := _GONE_OF_AGENT.get(keyword.arg or ""):
                        yield node.lineno, _gone(f"Agent({keyword.arg}=...)", instead)
    yield from _contents_of_replies(tree)


def _in_import(node: ast.ImportFrom) -> Iterator[tuple[int, str]]:
    module = node.module or ""
    if node.level or module.partition(".")[0] != "haystack":
        return
    if module in _GONE_MODULES:
        yield node.lineno, _gone(f"from {module} import ...", f"from {_GONE_MODULES[module]} import ...")
        return
    for alias in node.names:
        if alias.name in GONE:
            yield node.lineno, _gone(f"from {module} import {alias.name}", GONE[alias.name])


def _gone(old: str, new: str) -> str:
    return f"Haystack 3 has no `{old}`; write `{new}`"


def _is_guarded(node: ast.AST) -> bool:
    """Whether what fails to import in *node* is seen to there, or never runs."""
    if isinstance(node, ast.If):
        return any(name in ast.unparse(node.test).lower() for name in ("type_checking", "version"))
    if isinstance(node, ast.With):
        caught = [text for item in node.items if "suppress(" in (text := ast.unparse(item.context_expr))]
    elif isinstance(node, ast.Try):
        caught = [ast.unparse(handler.type) if handler.type else "Exception" for handler in node.handlers]
    else:
        return False
    return any(name in text for text in caught for name in _GUARDS)


def _contents_of_replies(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Where ``content`` is asked of a reply, which is a ``ChatMessage``."""
    lists, replies = _names_of_replies(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "content" and _is_reply(node.value, lists, replies):
            old = ast.unparse(node)
            yield node.lineno, f"a reply has no `content`: write `{old.removesuffix('content')}text` for `{old}`"


def _names_of_replies(tree: ast.Module) -> tuple[set[str], set[str]]:
    """Names that hold lists of replies, and those that hold a reply."""
    lists, replies = {"replies"}, set[str]()
    if any(_takes_the_name(node) for node in ast.walk(tree)):
        lists.clear()
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                if _is_replies(value, lists):
                    lists.add(name)
                elif _is_reply(value, lists, replies):
                    replies.add(name)
            case (
                ast.For(target=ast.Name(id=name), iter=value) | ast.comprehension(target=ast.Name(id=name), iter=value)
            ):
                if _is_replies(value, lists):
                    replies.add(name)
    return lists, replies


def _takes_the_name(node: ast.AST) -> bool:
    """Whether ``replies`` is made here of something else, such as the choices of OpenAI's SDK."""
    match node:
        case ast.Assign(targets=[ast.Name(id="replies")], value=ast.ListComp(elt=ast.Attribute(attr=attr))):
            return attr != "replies"
    return False


def _is_replies(node: ast.expr, lists: set[str]) -> bool:
    match node:
        case ast.Name(id=name):
            return name in lists
        case ast.Attribute(attr="replies") | ast.Subscript(slice=ast.Constant(value="replies")):
            return True
    return False


def _is_reply(node: ast.expr, lists: set[str], replies: set[str]) -> bool:
    match node:
        case ast.Name(id=name):
            return name in replies
        case ast.Subscript(value=inner, slice=ast.Constant(value=int()) | ast.UnaryOp()):
            return _is_replies(inner, lists)
    return False
