"""A model made of a pipeline or an agent alone, without a wrapper: its inputs are found by their names and types."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from haystack import Document, Pipeline
from haystack.core.pipeline.base import PipelineBase
from haystack.dataclasses import ChatMessage
from haystack.marshal.yaml import YamlMarshaller

from flaskcompat.errors import PipelineLoadError
from flaskcompat.protocol.citations import citations
from flaskcompat.protocol.inputs import get_last_user_input_text, get_last_user_message
from flaskcompat.protocol.parameters import generation_kwargs_from_body, tools_from_body
from flaskcompat.runtime.input_files import chat_messages_from_openai_messages, chat_messages_from_openai_response
from flaskcompat.runtime.plan import in_order, streaming_components
from flaskcompat.runtime.streaming import streaming_generator
from flaskcompat.runtime.wrapper import BasePipelineWrapper

#: Which inputs get the question, and which the messages: ``{"question": ["retriever.query"], "messages": []}``.
Inputs = Mapping[str, str | list[str]]

#: Inputs of these names take the user's last text.
QUESTIONS = frozenset(
    "question query prompt text input message user_input user_message user_query user_question".split()
)
_ROLES = ("question", "messages")


def from_yaml(path: Path) -> tuple[Any, Inputs | None]:
    """The pipeline in a YAML file of Haystack's, and the ``inputs`` that it may declare beside it.

    What a file may name is Haystack's to allow; it raises what it will of one that is no pipeline's.

    :raises PipelineLoadError: if it holds none.
    """
    text = path.read_text(encoding="utf-8")
    content: Any = YamlMarshaller().unmarshal(text)
    if not isinstance(content, dict) or "components" not in content:
        raise PipelineLoadError(f"{path.name} holds no pipeline")
    return Pipeline.loads(text), content.get("inputs")


@dataclass(frozen=True)
class _Socket:
    component: str
    name: str
    type: Any
    mandatory: bool

    @property
    def path(self) -> str:
        return f"{self.component}.{self.name}"

    def takes(self, wanted: Any) -> bool:
        """Whether a value of the type *wanted* may be put in."""
        members = get_args(self.type) if get_origin(self.type) in (Union, UnionType) else (self.type,)
        return wanted in members

    @property
    def is_messages(self) -> bool:
        # A template is one, too; it is not what a request brings.
        return self.takes(list[ChatMessage]) and (self.mandatory or self.name == "messages")

    @property
    def is_question(self) -> bool:
        return self.name in QUESTIONS and (self.takes(str) or self.type is Any)


class PipelineModel(BasePipelineWrapper):
    """Serves a pipeline or an agent on both surfaces.

    The user's last text goes to each open input that is named like a question, the conversation to each that takes
    messages. The last generator or agent that streams gets what the request asks of the model, and a generator the
    client's tools; what was retrieved is cited.

    :param pipeline: a ``Pipeline`` or an ``Agent``.
    :param inputs: which inputs get what, where their names do not tell: ``{"question": ["component.input"]}``.
    :raises PipelineLoadError: if that cannot be found out, with the mapping to write.
    """

    def __init__(self, pipeline: Any, inputs: Inputs | None = None) -> None:
        self.pipeline = pipeline
        self._is_pipeline = isinstance(pipeline, PipelineBase)
        self._generator: str | None = None
        self._documents: str | None = None
        if not self._is_pipeline:
            return
        sockets = _open_sockets(pipeline)
        self._inputs = _declared(inputs, sockets) if inputs is not None else _found(sockets)
        streaming = streaming_components(pipeline)
        self._generator = streaming[-1] if streaming else None
        self._takes = {socket.name for socket in sockets if socket.component == self._generator}
        outputs = pipeline.outputs(include_components_with_connected_outputs=True)
        self._documents = next(
            (name for name in in_order(pipeline)[::-1] if "documents" in outputs.get(name, ())), None
        )

    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        return self._run(get_last_user_message(messages), chat_messages_from_openai_messages(messages), body)

    def run_response(self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        messages = chat_messages_from_openai_response(input_items, instructions=body.get("instructions"))
        return self._run(get_last_user_input_text(input_items), messages, body)

    def _run(self, question: str | None, messages: list[ChatMessage], body: dict[str, Any]) -> Any:
        arguments = self._arguments(question or "", messages, body)
        if not self._is_pipeline:
            return streaming_generator(self.pipeline, pipeline_run_args=arguments)
        include = {self._documents} if self._documents else set()
        if self._generator is None:
            return self._whole(self.pipeline.run(arguments, include_outputs_from=include))
        return streaming_generator(
            self.pipeline,
            pipeline_run_args=arguments,
            include_outputs_from=include,
            on_pipeline_end=self._sources if include else None,
        )

    def _arguments(self, question: str, messages: list[ChatMessage], body: dict[str, Any]) -> dict[str, Any]:
        if not self._is_pipeline:
            return {"messages": messages, **_asked(self.pipeline, _parameters(self.pipeline), body)}
        arguments: dict[str, Any] = {}
        for socket in self._inputs["question"]:
            arguments.setdefault(socket.component, {})[socket.name] = question
        for socket in self._inputs["messages"]:
            arguments.setdefault(socket.component, {})[socket.name] = messages
        if self._generator is not None:
            component = self.pipeline.get_component(self._generator)
            arguments.setdefault(self._generator, {}).update(_asked(component, self._takes, body))
        return arguments

    def _sources(self, result: dict[str, Any]) -> list[Any]:
        documents = result.get(self._documents or "", {}).get("documents") or ()
        return [*citations(document for document in documents if isinstance(document, Document))]

    def _whole(self, result: dict[str, Any]) -> list[Any]:
        """What a pipeline says in which nothing streams: its replies or answers, a text, or the documents it found."""
        leaves = [result[name] for name in in_order(self.pipeline)[::-1] if name in result and name != self._documents]
        found = result.get(self._documents or "", {})
        for output in [*leaves, found]:
            for value in (output.get("replies"), output.get("answers"), *output.values()):
                if text := _text(value):
                    return [text, *self._sources(result)]
        return [""]


def _asked(component: Any, takes: Set[str], body: dict[str, Any]) -> dict[str, Any]:
    """What the request asks of the model, for a generator or an agent that *takes* these inputs.

    An agent keeps its own tools: it would run those that it is given, and a client's are not here to be run.
    """
    model = getattr(component, "chat_generator", component)
    is_agent = model is not component
    api: Any = "responses" if "Responses" in type(model).__name__ else "chat"
    asked: dict[str, Any] = {}
    if "tools" in takes and not is_agent and (tools := tools_from_body(body)):
        asked["tools"] = tools
    if "generation_kwargs" in takes and (not is_agent or "generation_kwargs" in _parameters(model)):
        asked["generation_kwargs"] = kwargs = generation_kwargs_from_body(body, api, tools=False)
        if "tools" not in asked:
            kwargs.pop("tool_choice", None)
            kwargs.pop("parallel_tool_calls", None)
    return asked


def _parameters(component: Any) -> Set[str]:
    return signature(component.run).parameters.keys()


def _text(value: Any) -> str | None:
    """An output as text, where it is one."""
    items = value if isinstance(value, list) else [value]
    texts: list[str] = []
    for item in items:
        text = next(
            (t for name in ("text", "data", "content") if isinstance(t := getattr(item, name, None), str)), item
        )
        if isinstance(text, str):
            texts.append(text)
    return "\n\n".join(texts) or None


def _open_sockets(pipeline: PipelineBase) -> list[_Socket]:
    return [
        _Socket(component, name, about["type"], bool(about["is_mandatory"]))
        for component, sockets in pipeline.inputs().items()
        for name, about in sockets.items()
    ]


def _declared(inputs: Inputs, sockets: list[_Socket]) -> dict[str, list[_Socket]]:
    if not isinstance(inputs, Mapping) or not inputs.keys() <= set(_ROLES):
        raise PipelineLoadError(f"inputs: must map {' or '.join(_ROLES)} to the inputs of components")
    known = {socket.path: socket for socket in sockets}
    chosen: dict[str, list[_Socket]] = {}
    for role in _ROLES:
        paths = inputs.get(role, [])
        paths = [paths] if isinstance(paths, str) else paths
        if unknown := [path for path in paths if path not in known]:
            raise PipelineLoadError(
                f"inputs: there is no open input {unknown[0]}; there are {', '.join(sorted(known))}"
            )
        chosen[role] = [known[path] for path in paths]
    _check_filled(sockets, chosen)
    return chosen


def _found(sockets: list[_Socket]) -> dict[str, list[_Socket]]:
    messages = [socket for socket in sockets if socket.is_messages]
    questions = [socket for socket in sockets if socket.is_question and socket not in messages]
    others = [s for s in sockets if s.mandatory and s not in messages + questions and (s.takes(str) or s.type is Any)]
    if not messages and not questions and len(others) == 1:
        questions = others  # there is nothing else that it could be
    chosen = {"question": questions, "messages": messages}
    _check_filled(sockets, chosen)
    if not messages and not questions:
        raise PipelineLoadError("no input of the pipeline takes a question or messages")
    return chosen


def _check_filled(sockets: list[_Socket], chosen: Mapping[str, list[_Socket]]) -> None:
    """:raises PipelineLoadError: if the pipeline needs more than what is *chosen*."""
    filled = [socket for role in _ROLES for socket in chosen[role]]
    open_ones = [socket.path for socket in sockets if socket.mandatory and socket not in filled]
    if open_ones:
        known = {role: [socket.path for socket in chosen[role]] for role in _ROLES if chosen[role]}
        guess = known | {"question": [*known.get("question", []), *open_ones]}
        raise PipelineLoadError(
            f"nothing says what {', '.join(open_ones)} gets; if it is the question, declare inputs: {guess}"
        )
