"""smolagents: its model for servers like OpenAI's, alone and in its agent that calls tools."""

import io
from typing import Any

from _report import BASE_URL, BOTH, CHAT, FAILURE, KEY, PLAIN, TURNS, WEATHER, problem, run, scenario
from _report import weather as report
from pydantic import BaseModel
from rich.console import Console
from smolagents import AgentLogger, ChatMessage, LogLevel, MessageRole, OpenAIModel, ToolCallingAgent, tool
from smolagents.models import agglomerate_stream_deltas
from smolagents.utils import AgentGenerationError

server: Any = {"api_base": BASE_URL, "api_key": KEY, "client_kwargs": {"max_retries": 0}}
model = OpenAIModel(CHAT, **server)
calls: list[str] = []


class Place(BaseModel):
    city: str
    degrees: int


@tool
def weather(city: str) -> str:
    """Tells the weather.

    Args:
        city: The name of a city.
    """
    calls.append(city)
    return report(city)


def user(text: str) -> list[Any]:
    return [ChatMessage(MessageRole.USER, [{"type": "text", "text": text}])]


def ask_agent(text: str, stream: bool = False, model: OpenAIModel = model) -> Any:
    calls.clear()
    logger = AgentLogger(LogLevel.OFF, Console(file=io.StringIO()))  # what is streamed is shown whatever the level
    agent = ToolCallingAgent([weather], model, stream_outputs=stream, logger=logger)
    answer = agent.run(text)
    last: Any = agent.memory.steps[-1]
    assert answer and last.is_final_answer
    # The agent sends results as a user's text, which the scripted model says back when it is given no tools.
    said = model.generate(last.model_input_messages).content
    return {"text": said, "calls": sorted(calls)}  # calls of one message are made at once, in threads


@scenario("chat plain")
def _() -> Any:
    return {"text": model.generate(user(PLAIN)).content}


@scenario("chat streamed")
def _() -> Any:
    deltas = list(model.generate_stream(user(PLAIN)))
    return {"text": agglomerate_stream_deltas(deltas).content, "pieces": sum(bool(delta.content) for delta in deltas)}


@scenario("chat tools")
def _() -> Any:
    return ask_agent(WEATHER)


@scenario("chat tools streamed")
def _() -> Any:
    return ask_agent(WEATHER, stream=True)


@scenario("chat parallel")
def _() -> Any:
    return ask_agent(BOTH)


@scenario("chat typed")
def _() -> Any:
    form: Any = {"type": "json_schema", "json_schema": {"name": "place", "schema": Place.model_json_schema()}}
    answer: Any = model.generate(user(PLAIN), response_format=form).content
    return {"value": Place.model_validate_json(answer).model_dump()}


@scenario("chat usage")
def _() -> Any:
    usage: Any = model.generate(user(PLAIN)).token_usage
    return {"input": usage.input_tokens, "output": usage.output_tokens}


@scenario("chat usage streamed")
def _() -> Any:
    usage: Any = agglomerate_stream_deltas(list(model.generate_stream(user(PLAIN)))).token_usage
    return {"input": usage.input_tokens, "output": usage.output_tokens}


@scenario("chat turns")
def _() -> Any:
    messages: list[Any] = []
    for text in TURNS:
        messages += user(text)
        messages.append(model.generate(messages))
    return {"text": messages[-1].content}


@scenario("chat error")
def _() -> Any:
    try:
        return ask_agent(PLAIN, model=OpenAIModel("no-such-model", **server)) | {"error": ""}
    except AgentGenerationError as error:
        return {"error": problem(error)}


@scenario("chat failure")
def _() -> Any:
    try:
        return ask_agent(FAILURE, stream=True) | {"error": ""}
    except AgentGenerationError as error:
        return {"error": problem(error)}


run()
