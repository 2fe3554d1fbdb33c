"""Pydantic AI: its agents, with ``OpenAIChatModel`` and ``OpenAIResponsesModel``."""

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
from pydantic import BaseModel
from pydantic_ai import (
    Agent,
    BinaryContent,
    ModelAPIError,
    ModelHTTPError,
    NativeOutput,
    PartDeltaEvent,
    PartStartEvent,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
)
from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel, OpenAIResponsesModelSettings
from pydantic_ai.providers.openai import OpenAIProvider

provider = OpenAIProvider(base_url=BASE_URL, api_key=KEY)


class Place(BaseModel):
    city: str
    degrees: int


def cities(result: Any) -> list[str]:
    parts = [part for message in result.all_messages() for part in message.parts]
    return [part.args_as_dict()["city"] for part in parts if isinstance(part, ToolCallPart)]


def scenarios(surface: str, model: Model, unknown: Model, settings: Any) -> None:
    agent: Any = Agent(model, tools=[weather])

    @scenario(f"{surface} plain")
    async def _() -> Any:
        return {"text": (await agent.run(PLAIN)).output}

    @scenario(f"{surface} streamed")
    async def _() -> Any:
        async with agent.run_stream(PLAIN) as result:
            pieces = [piece async for piece in result.stream_text(delta=True, debounce_by=None)]
        return {"text": "".join(pieces), "pieces": len(pieces)}

    @scenario(f"{surface} tools")
    async def _() -> Any:
        result = await agent.run(WEATHER)
        return {"text": result.output, "calls": cities(result)}

    async def streamed(text: str) -> Any:
        async with agent.run_stream(text) as result:
            return {"text": await result.get_output(), "calls": cities(result)}

    @scenario(f"{surface} tools streamed")
    async def _() -> Any:
        return await streamed(WEATHER)

    @scenario(f"{surface} parallel")
    async def _() -> Any:
        return await streamed(BOTH)

    @scenario(f"{surface} typed")
    async def _() -> Any:
        called: Any = await Agent(model, output_type=Place).run(PLAIN)
        native: Any = await Agent(model, output_type=NativeOutput(Place)).run(PLAIN)
        assert called.output == native.output
        return {"value": native.output.model_dump()}

    @scenario(f"{surface} reasoning")
    async def _() -> Any:
        result = await agent.run(THINK)
        thoughts = [part.content for part in result.response.parts if isinstance(part, ThinkingPart)]
        return {"text": result.output, "reasoning": "".join(thoughts)}

    @scenario(f"{surface} reasoning streamed")
    async def _() -> Any:
        thoughts = []
        async with agent.run_stream_events(THINK) as events:
            async for event in events:
                if isinstance(event, PartStartEvent) and isinstance(event.part, ThinkingPart):
                    thoughts.append(event.part.content)
                elif isinstance(event, PartDeltaEvent) and isinstance(event.delta, ThinkingPartDelta):
                    thoughts.append(event.delta.content_delta or "")
        return {"text": event.result.output, "reasoning": "".join(thoughts)}

    @scenario(f"{surface} usage")
    async def _() -> Any:
        usage = (await agent.run(PLAIN)).usage
        return {"input": usage.input_tokens, "output": usage.output_tokens}

    @scenario(f"{surface} usage streamed")
    async def _() -> Any:
        async with agent.run_stream(PLAIN) as result:
            await result.get_output()
        return {"input": result.usage.input_tokens, "output": result.usage.output_tokens}

    @scenario(f"{surface} turns")
    async def _() -> Any:
        history = None
        for text in TURNS:
            result = await agent.run(text, message_history=history, model_settings=settings)
            history = result.all_messages()
        return {"text": result.output}

    @scenario(f"{surface} error")
    async def _() -> Any:
        try:
            await Agent(unknown).run(PLAIN)
        except ModelHTTPError as error:
            assert error.status_code == 404
            return {"error": problem(error)}
        return {"error": ""}

    @scenario(f"{surface} failure")
    async def _() -> Any:
        text = ""
        try:
            async with agent.run_stream(FAILURE) as result:
                async for piece in result.stream_text(delta=True, debounce_by=None):
                    text += piece
        except ModelAPIError as error:
            return {"error": problem(error), "text": text}
        return {"error": "", "text": text}

    @scenario(f"{surface} file input")
    async def _() -> Any:
        file = BinaryContent(b"%PDF-1.4", media_type="application/pdf")
        return {"text": (await agent.run(["read this", file])).output}


scenarios(
    "chat",
    OpenAIChatModel(CHAT, provider=provider),
    OpenAIChatModel("no-such-model", provider=provider),
    None,
)
scenarios(
    "responses",
    OpenAIResponsesModel(RESPONSES, provider=provider),
    OpenAIResponsesModel("no-such-model", provider=provider),
    OpenAIResponsesModelSettings(openai_previous_response_id="auto"),
)

run()
