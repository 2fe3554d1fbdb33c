"""OpenAI's Agents SDK, with ``OpenAIChatCompletionsModel`` and ``OpenAIResponsesModel``."""

import base64
import json
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
from agents import (
    Agent,
    ModelBehaviorError,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    ReasoningItem,
    Runner,
    RunResultStreaming,
    SQLiteSession,
    ToolCallItem,
    function_tool,
    set_tracing_disabled,
)
from openai import APIError, AsyncOpenAI, NotFoundError
from openai.types.responses import ResponseFunctionToolCall
from pydantic import BaseModel

set_tracing_disabled(True)
client = AsyncOpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0)
FILE = "data:application/pdf;base64," + base64.b64encode(b"%PDF-1.4").decode()


class Place(BaseModel):
    city: str
    degrees: int


def cities(result: Any) -> list[str]:
    made = [item.raw_item for item in result.new_items if isinstance(item, ToolCallItem)]
    calls = [call for call in made if isinstance(call, ResponseFunctionToolCall)]
    return [json.loads(call.arguments)["city"] for call in calls]


def thoughts(result: Any) -> str:
    found = [item.raw_item for item in result.new_items if isinstance(item, ReasoningItem)]
    return "".join(part.text for item in found for part in item.summary)


async def deltas(result: RunResultStreaming, kind: str) -> list[str]:
    """The deltas of the raw events of a kind, when the run has ended."""
    raw: list[Any] = [event.data async for event in result.stream_events() if event.type == "raw_response_event"]
    return [event.delta for event in raw if event.type == kind]


def scenarios(surface: str, model: Any, unknown: Any) -> None:
    settings = ModelSettings(include_usage=True) if surface == "chat" else ModelSettings()
    agent = Agent("speaker", model=model, model_settings=settings)
    weatherman = Agent("weatherman", model=model, tools=[function_tool(weather)])

    @scenario(f"{surface} plain")
    async def _() -> Any:
        return {"text": (await Runner.run(agent, PLAIN)).final_output}

    @scenario(f"{surface} streamed")
    async def _() -> Any:
        pieces = await deltas(Runner.run_streamed(agent, PLAIN), "response.output_text.delta")
        return {"text": "".join(pieces), "pieces": len(pieces)}

    @scenario(f"{surface} tools")
    async def _() -> Any:
        result = await Runner.run(weatherman, WEATHER)
        return {"text": result.final_output, "calls": cities(result)}

    async def streamed(text: str) -> Any:
        result = Runner.run_streamed(weatherman, text)
        pieces = await deltas(result, "response.output_text.delta")
        assert "".join(pieces) == result.final_output
        return {"text": result.final_output, "calls": cities(result)}

    @scenario(f"{surface} tools streamed")
    async def _() -> Any:
        return await streamed(WEATHER)

    @scenario(f"{surface} parallel")
    async def _() -> Any:
        return await streamed(BOTH)

    @scenario(f"{surface} typed")
    async def _() -> Any:
        result = await Runner.run(Agent("finder", model=model, output_type=Place), PLAIN)
        return {"value": result.final_output_as(Place, raise_if_incorrect_type=True).model_dump()}

    @scenario(f"{surface} reasoning")
    async def _() -> Any:
        result = await Runner.run(agent, THINK)
        return {"text": result.final_output, "reasoning": thoughts(result)}

    @scenario(f"{surface} reasoning streamed")
    async def _() -> Any:
        result = Runner.run_streamed(agent, THINK)
        pieces = await deltas(result, "response.reasoning_summary_text.delta")
        assert "".join(pieces) == thoughts(result)
        return {"text": result.final_output, "reasoning": thoughts(result)}

    @scenario(f"{surface} usage")
    async def _() -> Any:
        usage = (await Runner.run(agent, PLAIN)).context_wrapper.usage
        return {"input": usage.input_tokens, "output": usage.output_tokens}

    @scenario(f"{surface} usage streamed")
    async def _() -> Any:
        result = Runner.run_streamed(agent, PLAIN)
        async for _ in result.stream_events():
            pass
        usage = result.context_wrapper.usage
        return {"input": usage.input_tokens, "output": usage.output_tokens}

    @scenario(f"{surface} error")
    async def _() -> Any:
        try:
            await Runner.run(Agent("nobody", model=unknown), PLAIN)
        except NotFoundError as error:
            return {"error": problem(error)}
        return {"error": ""}

    @scenario(f"{surface} failure")
    async def _() -> Any:
        text, result = "", Runner.run_streamed(agent, FAILURE)
        try:
            async for event in result.stream_events():
                if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                    text += event.data.delta
        except (APIError, ModelBehaviorError) as error:
            return {"error": problem(error), "text": text}
        return {"error": "", "text": text}

    @scenario(f"{surface} file input")
    async def _() -> Any:
        file = {"type": "input_file", "file_data": FILE, "filename": "note.pdf"}
        items: Any = [{"role": "user", "content": [{"type": "input_text", "text": "read this"}, file]}]
        return {"text": (await Runner.run(agent, items)).final_output}


chat = OpenAIChatCompletionsModel(CHAT, client)
scenarios("chat", chat, OpenAIChatCompletionsModel("no-such-model", client))
responses = OpenAIResponsesModel(RESPONSES, client)
scenarios("responses", responses, OpenAIResponsesModel("no-such-model", client))


@scenario("chat turns")
async def _() -> Any:
    session = SQLiteSession("1")
    for text in TURNS:
        result = await Runner.run(Agent("speaker", model=chat), text, session=session)
    session.close()
    return {"text": result.final_output}


@scenario("responses turns")
async def _() -> Any:
    previous = None
    for text in TURNS:
        result = await Runner.run(Agent("speaker", model=responses), text, previous_response_id=previous)
        previous = result.last_response_id
    return {"text": result.final_output}


run()
