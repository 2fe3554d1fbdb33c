"""What a request asks of the model, in the form in which generators take it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NoReturn

from haystack.tools.tool import Tool

from flaskcompat.errors import InvalidValue
from flaskcompat.log import log
from flaskcompat.protocol.json_schema import check_size

#: The two forms of the parameters; Haystack's ``OpenAIResponsesChatGenerator`` takes the latter, all others the former.
Api = Literal["chat", "responses"]

# Parameters of the same name and meaning on both sides, and those that only one side has.
_SHARED = ("temperature", "top_p", "top_logprobs")
_CHAT = ("stop", "seed", "presence_penalty", "frequency_penalty", "logprobs", "logit_bias")
_RESPONSES = ("max_tool_calls", "truncation", "include")
# The first one that a request has counts.
_MOST_TOKENS = ("max_completion_tokens", "max_output_tokens", "max_tokens")
# What a tool is called for Chat Completions below its type.
_NESTED = ("function", "custom")
_NO_PARAMETERS = {"type": "object", "properties": {}}


def generation_kwargs_from_body(body: Mapping[str, Any], api: Api = "chat", *, tools: bool = True) -> dict[str, Any]:
    """The ``generation_kwargs`` of a generator over the OpenAI API, from a request to either API.

    Sampling, the largest number of tokens under its several names, stop, seed, reasoning effort, tools and tool choice,
    and the wanted form of the answer; what the request leaves open is absent. What the other API has no form for is
    left out: ``stop`` in Responses; in Chat Completions hosted tools such as ``web_search``.

    :param api: the API that the generator speaks.
    :param tools: whether the tools are wanted; without them, where the generator gets Haystack tools (see
        :func:`tools_from_body`), the choice among them is here all the same.
    """
    body = _without_nulls(body)
    found = {name: body[name] for name in (*_SHARED, *(_CHAT if api == "chat" else _RESPONSES)) if name in body}
    if api == "chat" and found.get("top_logprobs") is not None:
        found.setdefault("logprobs", True)  # refused without
    most = next((name for name in _MOST_TOKENS if name in body), None)
    if most is not None:
        # Many servers know the older name alone: whoever asks by it gets it.
        own = most if api == "chat" and most != "max_output_tokens" else "max_completion_tokens"
        found["max_output_tokens" if api == "responses" else own] = body[most]
    found |= _reasoning(body, api) | _form(body, api) | _tools(body, api)
    if not tools:
        found.pop("tools", None)
    return found


def tools_from_body(body: Mapping[str, Any]) -> list[Tool]:
    """The functions that the client brings, as Haystack tools: for a generator to call, not to be run here.

    For the ``tools`` of a generator, whatever model is behind it. One that is run all the same, by an ``Agent`` that
    has it, fails.

    :raises InvalidValue: for parameters that are no JSON schema, or one of too much; clients get a 400.
    """
    found: dict[str, Tool] = {}
    for index, tool in enumerate(_list(body.get("tools"))):
        if tool.get("type") != "function":
            continue
        function = _function(tool)
        try:
            check_size(function.get("parameters"))
            made = Tool(
                name=function["name"],
                description=function.get("description") or "",
                parameters=function.get("parameters") or _NO_PARAMETERS,
                function=_refuse,
            )
        except (ValueError, TypeError, RecursionError):
            param = f"tools[{index}]"
            raise InvalidValue(f"'{param}' has parameters that are no JSON schema.", param=param) from None
        if found.setdefault(made.name, made) is not made:
            raise InvalidValue(f"'tools[{index}]' has the name of another one.", param=f"tools[{index}]")
    return list(found.values())


def _refuse(**arguments: Any) -> NoReturn:
    raise RuntimeError("this tool is the client's: it is called here, and run there")


def answer_format(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The wanted form of the answer, as Responses has it: ``{"type": "json_schema", "name", "schema", "strict"}``.

    From ``response_format`` or ``text.format``; None where the request leaves it open.
    """
    for form in (body.get("response_format"), _object(body.get("text")).get("format")):
        if isinstance(form, Mapping) and isinstance(form.get("type"), str):
            return {**_object(form.get("json_schema", form)), "type": form["type"]}
    return None


def _object(value: Any) -> Mapping[str, Any]:
    """*value* if it is an object, else an empty one: a field of the other API may be anything."""
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Iterable[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _without_nulls(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if item is not None}


def _reasoning(body: Mapping[str, Any], api: Api) -> dict[str, Any]:
    asked = _without_nulls(_object(body.get("reasoning")))
    effort = body.get("reasoning_effort", asked.get("effort"))
    if api == "chat":
        return {} if effort is None else {"reasoning_effort": effort}
    wanted = asked if effort is None else {**asked, "effort": effort}
    return {"reasoning": wanted} if wanted else {}


def _form(body: Mapping[str, Any], api: Api) -> dict[str, Any]:
    """The form of the answer: text, JSON, or JSON of a schema; and how long-winded it is to be."""
    form = answer_format(body)
    verbosity = body.get("verbosity", _object(body.get("text")).get("verbosity"))
    if form is not None and form["type"] == "text":
        form = None  # as by default; said, it makes Haystack's generator ask in a way that wants strict tools
    if api == "responses":
        wanted = _without_nulls({"format": form, "verbosity": verbosity})
        return {"text": wanted} if wanted else {}
    found = {} if verbosity is None else {"verbosity": verbosity}
    if form is not None:
        rest = {key: value for key, value in form.items() if key != "type"}
        nested = {"json_schema": rest} if form["type"] == "json_schema" else rest
        found["response_format"] = {**nested, "type": form["type"]}
    return found


def _tools(body: Mapping[str, Any], api: Api) -> dict[str, Any]:
    """Tools, the choice among them, and whether several may be called; nothing without tools, where it is refused."""
    tools = _converted(_list(body.get("tools")), api)
    if not tools:
        return {}
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping):
        choice = _choice(choice, api)
    parallel = body.get("parallel_tool_calls")
    return _without_nulls({"tools": tools, "tool_choice": choice, "parallel_tool_calls": parallel})


def _converted(tools: Iterable[Mapping[str, Any]], api: Api) -> list[dict[str, Any]]:
    converted, others = [], set()
    for tool in tools:
        kind = tool.get("type")
        if kind == "function":
            function = _without_nulls(_function(tool))
            if api == "responses":  # where it is strict unless it says so
                converted.append({"strict": False, "parameters": _NO_PARAMETERS, **function, "type": kind})
            else:
                converted.append({"type": kind, "function": {k: v for k, v in function.items() if k != "type"}})
        elif kind == "custom":
            converted.append(_custom_tool(tool, api))
        elif api == "responses":
            converted.append(dict(tool))
        else:
            others.add(str(kind)[:64])
    if others:
        log.debug("tools of these types have no form in Chat Completions and are left out: {}", sorted(others))
    return converted


def _function(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """A function, which Chat Completions has below its type."""
    nested = _object(tool.get("function"))
    return nested if "name" in nested else tool


def _custom_tool(tool: Mapping[str, Any], api: Api) -> dict[str, Any]:
    own = {**_object(tool.get("custom", tool))}
    own.pop("type", None)
    form = _object(own.get("format"))
    if form.get("type") == "grammar":  # below its type in Chat Completions, too
        grammar = {k: v for k, v in _object(form.get("grammar", form)).items() if k != "type"}
        own["format"] = (
            {**grammar, "type": "grammar"} if api == "responses" else {"type": "grammar", "grammar": grammar}
        )
    return {**own, "type": "custom"} if api == "responses" else {"type": "custom", "custom": own}


def _choice(choice: Mapping[str, Any], api: Api) -> Any:
    """A tool choice that is an object; None where *api* has no form for it."""
    kind = choice.get("type")
    if kind == "allowed_tools":
        allowed = _object(choice.get(kind, choice))
        tools = [named for tool in _list(allowed.get("tools")) if (named := _named(tool, api)) is not None]
        mode = allowed.get("mode", "auto")
        if api == "responses":
            return {"type": kind, "mode": mode, "tools": tools}
        return {"type": kind, kind: {"mode": mode, "tools": tools}} if tools else None
    return _named(choice, api)


def _named(tool: Mapping[str, Any], api: Api) -> dict[str, Any] | None:
    """A tool as a choice names it."""
    kind = tool.get("type")
    if kind not in _NESTED:
        return dict(tool) if api == "responses" else None
    name = _object(tool.get(kind, tool)).get("name")
    return {"type": kind, "name": name} if api == "responses" else {"type": kind, kind: {"name": name}}
