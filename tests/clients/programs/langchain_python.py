"""LangChain's ``ChatOpenAI`` on both surfaces: itself, in the agent of ``create_agent``, and for structured output."""

import base64
import os
from typing import Any

os.environ |= {"LANGSMITH_TRACING": "false", "LANGCHAIN_TRACING_V2": "false"}

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
from langchain.agents import create_agent
from langchain.messages import AIMessage, HumanMessage
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from openai import APIError, NotFoundError
from pydantic import BaseModel

COMMON: dict[str, Any] = {"base_url": BASE_URL, "api_key": KEY, "max_retries": 0}
FILE = base64.b64encode(b"red is the colour").decode()


class Place(BaseModel):
    """A place and how warm it is."""

    city: str
    degrees: int


def asked(text: str) -> Any:
    return {"messages": [HumanMessage(text)]}


def cities(state: Any) -> list[str]:
    made = [message.tool_calls for message in state["messages"] if isinstance(message, AIMessage)]
    return [call["args"]["city"] for calls in made for call in calls]


def thoughts(message: AIMessage) -> str:
    return "".join(block["reasoning"] for block in message.content_blocks if block["type"] == "reasoning")


def scenarios(surface: str, model: ChatOpenAI, remembering: ChatOpenAI, unknown: ChatOpenAI) -> None:
    agent: Any = create_agent(model, [weather])

    @scenario(f"{surface} plain")
    async def _() -> Any:
        return {"text": (await model.ainvoke(PLAIN)).text}

    @scenario(f"{surface} streamed")
    async def _() -> Any:
        pieces = [chunk.text async for chunk in model.astream(PLAIN)]
        return {"text": "".join(pieces), "pieces": sum(map(bool, pieces))}

    @scenario(f"{surface} tools")
    def _() -> Any:
        state = agent.invoke(asked(WEATHER))
        return {"text": state["messages"][-1].text, "calls": cities(state)}

    async def streamed(text: str) -> Any:
        pieces, state = [], None
        async for kind, part in agent.astream(asked(text), stream_mode=["messages", "values"]):
            if kind == "values":
                state = part
            elif isinstance(part[0], AIMessage):
                pieces.append(part[0].text)
        return {"text": "".join(pieces), "calls": cities(state)}

    @scenario(f"{surface} tools streamed")
    async def _() -> Any:
        return await streamed(WEATHER)

    @scenario(f"{surface} parallel")
    async def _() -> Any:
        return await streamed(BOTH)

    @scenario(f"{surface} typed")
    def _() -> Any:
        found: Any = create_agent(model, response_format=Place).invoke(asked(PLAIN))["structured_response"]
        for method in ("json_schema", "function_calling"):
            assert model.with_structured_output(Place, method=method).invoke(PLAIN) == found
        return {"value": found.model_dump()}

    @scenario(f"{surface} usage")
    def _() -> Any:
        usage = model.invoke(PLAIN).usage_metadata
        assert usage is not None
        return {"input": usage["input_tokens"], "output": usage["output_tokens"]}

    @scenario(f"{surface} usage streamed")
    def _() -> Any:
        first, *rest = model.stream(PLAIN, **({"stream_usage": True} if surface == "chat" else {}))
        usage = sum(rest, first).usage_metadata
        return {"input": usage["input_tokens"], "output": usage["output_tokens"]}

    @scenario(f"{surface} turns")
    def _() -> Any:
        speaker: Any = create_agent(remembering, checkpointer=InMemorySaver())
        for text in TURNS:
            state = speaker.invoke(asked(text), {"configurable": {"thread_id": "1"}})
        return {"text": state["messages"][-1].text}

    @scenario(f"{surface} error")
    def _() -> Any:
        try:
            unknown.invoke(PLAIN)
        except NotFoundError as error:
            return {"error": problem(error)}
        return {"error": ""}

    @scenario(f"{surface} failure")
    def _() -> Any:
        text = ""
        try:
            for chunk in model.stream(FAILURE):
                text += chunk.text
        except (APIError, ValueError) as error:
            return {"error": problem(error), "text": text}
        return {"error": "", "text": text}

    @scenario(f"{surface} file input")
    def _() -> Any:
        file = {"type": "file", "base64": FILE, "mime_type": "text/plain", "filename": "note.txt"}
        message = HumanMessage(content=[{"type": "text", "text": "read this"}, file])
        return {"text": model.invoke([message]).text}


chat = ChatOpenAI(model=CHAT, **COMMON)
scenarios("chat", chat, chat, ChatOpenAI(model="no-such-model", **COMMON))

COMMON["use_responses_api"] = True
responses = ChatOpenAI(model=RESPONSES, **COMMON)
scenarios(
    "responses",
    responses,
    ChatOpenAI(model=RESPONSES, use_previous_response_id=True, **COMMON),
    ChatOpenAI(model="no-such-model", **COMMON),
)


@scenario("responses reasoning")
def _() -> Any:
    message = responses.invoke(THINK)
    return {"text": message.text, "reasoning": thoughts(message)}


@scenario("responses reasoning streamed")
def _() -> Any:
    first, *rest = responses.stream(THINK)
    message: Any = sum(rest, first)
    return {"text": message.text, "reasoning": thoughts(message)}


run()
