"""What a request asks of the model, in the form in which generators take it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NoReturn

from haystack.tools.tool import Tool

from flaskcompat.log import log

#: The two forms of the parameters; Haystack's ``OpenAIResponsesChatGenerator`` takes the latter, all others the former.
Api = Literal["chat", "responses"]

# Parameters of the same name and meaning on both sides, and those that only one side has.
_SHARED = ("temperature", "top_p", "top_logprobs", "parallel_tool_calls")
_CHAT = ("stop", "seed", "presence_penalty", "frequency_penalty", "logprobs", "logit_bias")
_RESPONSES = ("max_tool_calls", "truncation", "include")
# The first one that a request has counts.
_MOST_TOKENS = ("max_completion_tokens", "max_output_tokens", "max_tokens")
# What a tool is called for Chat Completions below its type.
_NESTED = ("function", "custom")


def generation_kwargs_from_body(body: Mapping[str, Any], api: Api = "chat", *, tools: bool = True) -> dict[str, Any]:
    """The ``generation_kwargs`` of a generator over the OpenAI API, from a request to either API.

    Sampling, the largest number of tokens under its several names, stop, seed, reasoning effort, tools and tool choice,
    and the wanted form of the answer; what the request leaves open is absent. What the other API has no form for is
    left out: ``stop`` in Responses; in Chat Completions hosted tools such as ``web_search``, which the log names.

    :param api: the API that the generator speaks.
    :param tools: whether tools and their choice are wanted; without them where the generator gets Haystack tools (see
        :func:`tools_from_body`).
    """
    names = (*_SHARED, *(_CHAT if api == "chat" else _RESPONSES))
    found = {name: body[name] for name in names if name in body and (tools or name != "parallel_tool_calls")}
    most = next((name for name in _MOST_TOKENS if name in body), None)
    if most is not None:
        # Many servers know the older name alone: whoever asks by it gets it.
        own = most if api == "chat" and most != "max_output_tokens" else "max_completion_tokens"
        found["max_output_tokens" if api == "responses" else own] = body[most]
    found |= _reasoning(body, api) | _form(body, api)
    if tools:
        found |= _tools(body, api)
    if "tools" not in found:
        found.pop("parallel_tool_calls", None)  # refused without tools
    return found


def tools_from_body(body: Mapping[str, Any]) -> list[Tool]:
    """The functions that the client brings, as Haystack tools: for a generator to call, not to be run here.

    For the ``tools`` of a generator, whatever model is behind it. One that is run all the same, by an ``Agent`` that
    has it, fails.
    """
    return [
        Tool(
            name=function["name"],
            description=function.get("description") or "",
            parameters=function.get("parameters") or {"type": "object", "properties": {}},
            function=_refuse,
        )
        for tool in body.get("tools") or ()
        if tool["type"] == "function" and (function := tool.get("function", tool))
    ]


def _refuse(**arguments: Any) -> NoReturn:
    raise RuntimeError("this tool is the client's: it is called here, and run there")


def _reasoning(body: Mapping[str, Any], api: Api) -> dict[str, Any]:
    asked = body.get("reasoning") or {}
    effort = body.get("reasoning_effort", asked.get("effort"))
    if api == "chat":
        return {} if effort is None else {"reasoning_effort": effort}
    wanted = {**asked, "effort": effort} if effort is not None else dict(asked)
    return {"reasoning": wanted} if wanted else {}


def _form(body: Mapping[str, Any], api: Api) -> dict[str, Any]:
    """The form of the answer: text, JSON, or JSON of a schema; and how long-winded it is to be."""
    text = body.get("text") or {}
    form, verbosity = answer_format(body), body.get("verbosity", text.get("verbosity"))
    if api == "responses":
        wanted = {"format": form, "verbosity": verbosity}
        wanted = {key: value for key, value in wanted.items() if value is not None}
        return {"text": wanted} if wanted else {}
    found = {} if verbosity is None else {"verbosity": verbosity}
    if form is not None:
        rest = {key: value for key, value in form.items() if key != "type"}
        nested = {"json_schema": rest} if form["type"] == "json_schema" else rest
        found["response_format"] = {"type": form["type"], **nested}
    return found


def answer_format(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The wanted form of the answer, as Responses has it: ``{"type": "json_schema", "name", "schema", "strict"}``.

    From ``text.format`` or ``response_format``; None where the request leaves it open.
    """
    form = body.get("response_format") or (body.get("text") or {}).get("format")
    if not isinstance(form, Mapping) or not isinstance(form.get("type"), str):
        return None
    nested = form.get("json_schema")
    return {"type": form["type"], **nested} if isinstance(nested, Mapping) else dict(form)


def _tools(body: Mapping[str, Any], api: Api) -> dict[str, Any]:
    tools = _converted(body.get("tools") or (), api)
    if not tools:
        return {}
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping):
        choice = _choice(choice, api)
    return {"tools": tools} if choice is None else {"tools": tools, "tool_choice": choice}


def _converted(tools: Iterable[Mapping[str, Any]], api: Api) -> list[dict[str, Any]]:
    converted, others = [], []
    for tool in tools:
        kind = tool["type"]
        if api == "responses" or kind in _NESTED:
            converted.append(_tool(tool, kind, api))
        else:
            others.append(str(kind)[:64])
    if others:
        log.debug("tools of these types have no form in Chat Completions and are left out: {}", sorted({*others}))
    return converted


def _tool(tool: Mapping[str, Any], kind: str, api: Api) -> dict[str, Any]:
    nested = tool.get(kind)
    if api == "responses":
        return {"type": kind, **nested} if kind in _NESTED and isinstance(nested, Mapping) else dict(tool)
    if isinstance(nested, Mapping):
        return dict(tool)
    return {"type": kind, kind: {key: value for key, value in tool.items() if key != "type" and value is not None}}


def _choice(choice: Mapping[str, Any], api: Api) -> Any:
    """A tool choice that is an object; None where *api* has no form for it."""
    kind = choice.get("type")
    if kind == "allowed_tools":
        nested = choice.get(kind)
        allowed: Mapping[str, Any] = nested if isinstance(nested, Mapping) else choice
        tools = _converted(allowed.get("tools") or (), api)
        mode = allowed.get("mode", "auto")
        if api == "responses":
            return {"type": kind, "mode": mode, "tools": tools}
        return {"type": kind, kind: {"mode": mode, "tools": tools}} if tools else None
    if api == "responses" or kind in _NESTED:
        return _tool(choice, str(kind), api)
    return None
