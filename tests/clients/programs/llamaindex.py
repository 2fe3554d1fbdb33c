"""LlamaIndex's ``OpenAILike`` and ``OpenAILikeResponses``: themselves, in its agents, and for structured output."""

import base64
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
from llama_index.core.agent.workflow import AgentOutput, AgentStream, FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, DocumentBlock, TextBlock, ThinkingBlock
from llama_index.core.memory import Memory
from llama_index.core.prompts import PromptTemplate
from llama_index.llms.openai_like import OpenAILike, OpenAILikeResponses
from openai import APIError, NotFoundError
from pydantic import BaseModel

COMMON: dict[str, Any] = {
    "api_base": BASE_URL,
    "api_key": KEY,
    "max_retries": 0,
    "context_window": 8000,
    "is_function_calling_model": True,
}


class Place(BaseModel):
    """A place and how warm it is."""

    city: str
    degrees: int


def user(text: str) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=text)]


def said(response: Any) -> str:
    """The text of a message; its ``content`` is that, or None."""
    return response.message.content or ""


def thoughts(response: Any) -> str:
    return "".join(block.content for block in response.message.blocks if isinstance(block, ThinkingBlock))


def scenarios(surface: str, model: Any, unknown: Any) -> None:
    @scenario(f"{surface} plain")
    async def _() -> Any:
        return {"text": said(await model.achat(user(PLAIN)))}

    @scenario(f"{surface} streamed")
    async def _() -> Any:
        pieces = [part.delta async for part in await model.astream_chat(user(PLAIN)) if part.delta]
        return {"text": "".join(pieces), "pieces": len(pieces)}

    async def looped(text: str, streaming: bool) -> Any:
        agent = FunctionAgent(tools=[weather], llm=model, streaming=streaming)
        running, calls, pieces = agent.run(user_msg=text), [], []
        async for event in running.stream_events():
            if isinstance(event, AgentStream):
                pieces.append(event.delta)
            elif isinstance(event, AgentOutput):
                calls += [call.tool_kwargs["city"] for call in event.tool_calls]
        text = str(await running)
        assert "".join(pieces) == (text if streaming else "")
        return {"text": text, "calls": calls}

    @scenario(f"{surface} tools")
    async def _() -> Any:
        return await looped(WEATHER, streaming=False)

    @scenario(f"{surface} tools streamed")
    async def _() -> Any:
        return await looped(WEATHER, streaming=True)

    @scenario(f"{surface} parallel")
    async def _() -> Any:
        return await looped(BOTH, streaming=True)

    @scenario(f"{surface} reasoning")
    def _() -> Any:
        response = model.chat(user(THINK))
        return {"text": said(response), "reasoning": thoughts(response)}

    @scenario(f"{surface} reasoning streamed")
    def _() -> Any:
        *_, last = model.stream_chat(user(THINK))
        return {"text": said(last), "reasoning": thoughts(last)}

    @scenario(f"{surface} error")
    def _() -> Any:
        try:
            unknown.chat(user(PLAIN))
        except NotFoundError as error:
            return {"error": problem(error)}
        return {"error": ""}

    @scenario(f"{surface} failure")
    def _() -> Any:
        text = ""
        try:
            for part in model.stream_chat(user(FAILURE)):
                text += part.delta or ""
        except APIError as error:
            return {"error": problem(error), "text": text}
        return {"error": "", "text": text}

    @scenario(f"{surface} file input")
    def _() -> Any:
        data = base64.b64encode(b"%PDF-1.4")
        file = DocumentBlock(data=data, title="note.pdf", document_mimetype="application/pdf")
        return {"text": said(model.chat([ChatMessage(role="user", blocks=[TextBlock(text="read this"), file])]))}


# -- Chat Completions --------------------------------------------------------------------------------------

COMMON["is_chat_model"] = True
chat = OpenAILike(model=CHAT, **COMMON)
formed = OpenAILike(model=CHAT, should_use_structured_outputs=True, **COMMON)
scenarios("chat", chat, OpenAILike(model="no-such-model", **COMMON))


@scenario("chat typed")
def _() -> Any:
    called = chat.structured_predict(Place, PromptTemplate(PLAIN))
    assert formed.structured_predict(Place, PromptTemplate(PLAIN)) == called
    return {"value": called.model_dump()}


def counted(response: Any) -> Any:
    return {
        "input": response.additional_kwargs["prompt_tokens"],
        "output": response.additional_kwargs["completion_tokens"],
    }


@scenario("chat usage")
def _() -> Any:
    return counted(chat.chat(user(PLAIN)))


@scenario("chat usage streamed")
def _() -> Any:
    *_, last = chat.stream_chat(user(PLAIN), stream_options={"include_usage": True})
    return counted(last)


@scenario("chat turns")
async def _() -> Any:
    agent, memory = FunctionAgent(llm=chat), Memory.from_defaults()
    for text in TURNS:
        answer = await agent.run(user_msg=text, memory=memory)
    return {"text": str(answer)}


# -- Responses ---------------------------------------------------------------------------------------------

del COMMON["is_chat_model"]
responses = OpenAILikeResponses(model=RESPONSES, **COMMON)
scenarios("responses", responses, OpenAILikeResponses(model="no-such-model", **COMMON))


@scenario("responses typed")
def _() -> Any:
    return {"value": responses.structured_predict(Place, PromptTemplate(PLAIN)).model_dump()}


@scenario("responses usage")
def _() -> Any:
    usage = responses.chat(user(PLAIN)).additional_kwargs["usage"]
    return {"input": usage.input_tokens, "output": usage.output_tokens}


@scenario("responses usage streamed")
def _() -> Any:
    *_, last = responses.stream_chat(user(PLAIN))
    usage = last.additional_kwargs["usage"]
    return {"input": usage.input_tokens, "output": usage.output_tokens}


@scenario("responses turns")
def _() -> Any:
    remembering = OpenAILikeResponses(model=RESPONSES, track_previous_responses=True, **COMMON)
    for text in TURNS:
        answer = remembering.chat(user(text))
    return {"text": said(answer)}


run()
