"""Haystack's chat generators for OpenAI's two APIs, alone and in its Agent."""

import base64
from collections.abc import Awaitable, Callable
from typing import Any

from _report import (
    BASE_URL,
    BOTH,
    CHAT,
    FAILURE,
    KEY,
    PLAIN,
    RESPONSES,
    THINK,
    TURNS,
    WEATHER,
    problem,
    run,
    scenario,
    weather,
)
from haystack.components.agents import Agent
from haystack.components.generators.chat import OpenAIChatGenerator, OpenAIResponsesChatGenerator
from haystack.dataclasses import ChatMessage, FileContent, StreamingChunk
from haystack.tools import create_tool_from_function
from haystack.utils import Secret
from openai import APIError, NotFoundError
from pydantic import BaseModel

given: Any = {"api_key": Secret.from_token(KEY), "api_base_url": BASE_URL, "max_retries": 0}
chat = OpenAIChatGenerator(model=CHAT, **given)
responses = OpenAIResponsesChatGenerator(model=RESPONSES, **given)
CHAT_USAGE, RESPONSES_USAGE = ("prompt_tokens", "completion_tokens"), ("input_tokens", "output_tokens")
Generator = OpenAIChatGenerator | OpenAIResponsesChatGenerator


class Place(BaseModel):
    city: str
    degrees: int


def user(text: str) -> list[ChatMessage]:
    return [ChatMessage.from_user(text)]


def callback(heard: list[StreamingChunk]) -> Callable[[StreamingChunk], Awaitable[None]]:
    async def hear(chunk: StreamingChunk) -> None:
        heard.append(chunk)

    return hear


async def streamed(generator: Generator) -> Any:
    heard: list[StreamingChunk] = []
    reply = (await generator.run_async(user(PLAIN), streaming_callback=callback(heard)))["replies"][0]
    pieces = [chunk.content for chunk in heard if chunk.content]
    assert "".join(pieces) == reply.text
    return {"text": reply.text, "pieces": len(pieces)}


def ask_agent(generator: Generator, text: str, stream: bool) -> Any:
    heard: list[StreamingChunk] = []
    agent = Agent(chat_generator=generator, tools=[create_tool_from_function(weather)])
    found = agent.run(messages=user(text), streaming_callback=heard.append if stream else None)
    assert any(chunk.tool_calls for chunk in heard) == stream
    calls = [call.arguments["city"] for message in found["messages"] for call in message.tool_calls]
    # Streamed calls of the responses API are put into the order of their items' ids.
    return {"text": found["last_message"].text, "calls": sorted(calls)}


def tokens(generator: Generator, names: tuple[str, str], stream: bool = False, **options: Any) -> Any:
    hear = list[StreamingChunk]().append if stream else None
    meta = generator.run(user(PLAIN), streaming_callback=hear, generation_kwargs=options)["replies"][0].meta
    return {"input": meta["usage"][names[0]], "output": meta["usage"][names[1]]}


def unknown(generator: Generator) -> Any:
    try:
        generator.run(user(PLAIN))
    except NotFoundError as error:
        return {"error": problem(error)}
    return {"error": ""}


def failure(generator: Generator) -> Any:
    heard: list[StreamingChunk] = []
    try:
        generator.run(user(FAILURE), streaming_callback=heard.append)
    except APIError as error:
        return {"error": problem(error), "text": "".join(chunk.content for chunk in heard)}
    return {"error": ""}


def with_file(generator: Generator) -> Any:
    file = FileContent(base64.b64encode(b"red is the colour").decode(), "text/plain", "note.txt")
    return {"text": generator.run([ChatMessage.from_user(content_parts=["read this", file])])["replies"][0].text}


# -- Chat Completions --------------------------------------------------------------------------------------


@scenario("chat plain")
def _() -> Any:
    return {"text": chat.run(user(PLAIN))["replies"][0].text}


@scenario("chat streamed")
async def _() -> Any:
    return await streamed(chat)


@scenario("chat tools")
def _() -> Any:
    return ask_agent(chat, WEATHER, stream=False)


@scenario("chat tools streamed")
def _() -> Any:
    return ask_agent(chat, WEATHER, stream=True)


@scenario("chat parallel")
def _() -> Any:
    return ask_agent(chat, BOTH, stream=True)


@scenario("chat typed")
def _() -> Any:
    reply = chat.run(user(PLAIN), generation_kwargs={"response_format": Place})["replies"][0]
    return {"value": Place.model_validate_json(reply.text or "").model_dump()}


@scenario("chat usage")
def _() -> Any:
    return tokens(chat, CHAT_USAGE)


@scenario("chat usage streamed")
def _() -> Any:
    return tokens(chat, CHAT_USAGE, stream=True, stream_options={"include_usage": True})


@scenario("chat turns")
def _() -> Any:
    messages: list[ChatMessage] = []
    for text in TURNS:
        messages += user(text)
        messages += chat.run(messages)["replies"]
    return {"text": messages[-1].text}


@scenario("chat error")
def _() -> Any:
    return unknown(OpenAIChatGenerator(model="no-such-model", **given))


@scenario("chat failure")
def _() -> Any:
    return failure(chat)


@scenario("chat file input")
def _() -> Any:
    return with_file(chat)


# -- Responses ---------------------------------------------------------------------------------------------


@scenario("responses plain")
def _() -> Any:
    return {"text": responses.run(user(PLAIN))["replies"][0].text}


@scenario("responses streamed")
async def _() -> Any:
    return await streamed(responses)


@scenario("responses tools")
def _() -> Any:
    return ask_agent(responses, WEATHER, stream=False)


@scenario("responses tools streamed")
def _() -> Any:
    return ask_agent(responses, WEATHER, stream=True)


@scenario("responses parallel")
def _() -> Any:
    return ask_agent(responses, BOTH, stream=True)


@scenario("responses typed")
def _() -> Any:
    reply = responses.run(user(PLAIN), generation_kwargs={"text_format": Place})["replies"][0]
    return {"value": Place.model_validate_json(reply.text or "").model_dump()}


@scenario("responses reasoning")
def _() -> Any:
    reply = responses.run(user(THINK), generation_kwargs={"reasoning": {"summary": "auto"}})["replies"][0]
    return {"text": reply.text, "reasoning": reply.reasoning and reply.reasoning.reasoning_text}


@scenario("responses reasoning streamed")
async def _() -> Any:
    heard: list[StreamingChunk] = []
    reply = (await responses.run_async(user(THINK), streaming_callback=callback(heard)))["replies"][0]
    reasoning = "".join(chunk.reasoning.reasoning_text for chunk in heard if chunk.reasoning)
    assert reply.reasoning and reply.reasoning.reasoning_text == reasoning
    return {"text": reply.text, "reasoning": reasoning}


@scenario("responses usage")
def _() -> Any:
    return tokens(responses, RESPONSES_USAGE)


@scenario("responses usage streamed")
def _() -> Any:
    return tokens(responses, RESPONSES_USAGE, stream=True)


@scenario("responses turns")
def _() -> Any:
    previous: dict[str, Any] = {}
    for text in TURNS:
        reply = responses.run(user(text), generation_kwargs=previous)["replies"][0]
        previous = {"previous_response_id": reply.meta["id"]}
    return {"text": reply.text}


@scenario("responses error")
def _() -> Any:
    return unknown(OpenAIResponsesChatGenerator(model="no-such-model", **given))


@scenario("responses failure")
def _() -> Any:
    return failure(responses)


@scenario("responses file input")
def _() -> Any:
    return with_file(responses)


run()
