"""LiteLLM's functions ``completion`` and ``responses``, with its own loop for tools, and its functions for files."""

import io
import json
import os
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it fetches a list of prices when it is imported

import litellm
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

litellm.suppress_debug_info = True
server: Any = {"api_base": BASE_URL, "api_key": KEY}
chat: Any = {"model": f"openai/{CHAT}", "max_retries": 0, **server}
responses: Any = {"model": f"openai/{RESPONSES}", "max_retries": 0, **server}
# Of a model that it does not know, LiteLLM asks for the whole response and makes the stream itself.
litellm.register_model(
    {f"openai/{RESPONSES}": {"litellm_provider": "openai", "mode": "responses", "supports_native_streaming": True}}
)
FUNCTION: Any = {
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
TOOLS: Any = [{"type": "function", "function": FUNCTION}]


class Place(BaseModel):
    city: str
    degrees: int


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


# -- Chat Completions --------------------------------------------------------------------------------------


@scenario("chat plain")
async def _() -> Any:
    return {"text": (await litellm.acompletion(messages=user(PLAIN), **chat)).choices[0].message.content}


@scenario("chat streamed")
async def _() -> Any:
    stream = await litellm.acompletion(messages=user(PLAIN), stream=True, **chat)
    pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
    return {"text": "".join(pieces), "pieces": sum(map(bool, pieces))}


def answer(call: Any, calls: list[str]) -> Any:
    calls.append(json.loads(call.function.arguments)["city"])
    return {"role": "tool", "tool_call_id": call.id, "content": weather(calls[-1])}


def tool_loop(text: str) -> Any:
    calls: list[str] = []
    said = litellm.run_tool_loop(
        messages=user(text), tools=TOOLS, execute_tool=lambda call: answer(call, calls), **chat
    )
    return {"text": said, "calls": calls}


@scenario("chat tools")
def _() -> Any:
    return tool_loop(WEATHER)


@scenario("chat tools streamed")
def _() -> Any:
    messages, calls = user(WEATHER), list[str]()
    for _ in range(3):
        chunks = list(litellm.completion(messages=messages, tools=TOOLS, stream=True, **chat))
        message = litellm.stream_chunk_builder(chunks, messages=messages).choices[0].message
        messages.append(message)
        if not message.tool_calls:
            break
        messages += [answer(call, calls) for call in message.tool_calls]
    return {"text": message.content, "calls": calls}


@scenario("chat parallel")
def _() -> Any:
    return tool_loop(BOTH)


@scenario("chat typed")
def _() -> Any:
    message = litellm.completion(messages=user(PLAIN), response_format=Place, **chat).choices[0].message
    return {"value": Place.model_validate_json(message.content).model_dump()}


@scenario("chat reasoning")
def _() -> Any:
    message = litellm.completion(messages=user(THINK), **chat).choices[0].message
    return {"text": message.content, "reasoning": message.reasoning_content}


@scenario("chat reasoning streamed")
def _() -> Any:
    chunks = list(litellm.completion(messages=user(THINK), stream=True, **chat))
    assert any(getattr(chunk.choices[0].delta, "reasoning_content", None) for chunk in chunks)
    message = litellm.stream_chunk_builder(chunks).choices[0].message
    return {"text": message.content, "reasoning": message.reasoning_content}


@scenario("chat usage")
def _() -> Any:
    usage = litellm.completion(messages=user(PLAIN), **chat).usage
    return {"input": usage.prompt_tokens, "output": usage.completion_tokens}


@scenario("chat usage streamed")
def _() -> Any:
    options = {"include_usage": True}
    *_, last = litellm.completion(messages=user(PLAIN), stream=True, stream_options=options, **chat)
    return {"input": last.usage.prompt_tokens, "output": last.usage.completion_tokens}


@scenario("chat turns")
def _() -> Any:
    messages: list[Any] = []
    for text in TURNS:
        messages += user(text)
        messages.append(litellm.completion(messages=messages, **chat).choices[0].message)
    return {"text": messages[-1].content}


@scenario("chat error")
def _() -> Any:
    try:
        litellm.completion(messages=user(PLAIN), **chat | {"model": "openai/no-such-model"})
    except litellm.NotFoundError as error:
        return {"error": problem(error)}
    return {"error": ""}


@scenario("chat failure")
def _() -> Any:
    text = ""
    try:
        for chunk in litellm.completion(messages=user(FAILURE), stream=True, **chat):
            text += chunk.choices[0].delta.content or ""
    except litellm.exceptions.MidStreamFallbackError as error:
        return {"error": problem(error), "text": text}
    return {"error": "", "text": text}


# -- Responses ---------------------------------------------------------------------------------------------


@scenario("responses plain")
async def _() -> Any:
    return {"text": (await litellm.aresponses(input=PLAIN, **responses)).output_text}


@scenario("responses streamed")
async def _() -> Any:
    stream = await litellm.aresponses(input=PLAIN, stream=True, **responses)
    pieces = [event.delta async for event in stream if event.type == "response.output_text.delta"]
    return {"text": "".join(pieces), "pieces": len(pieces)}


def completed(**asked: Any) -> Any:
    """The whole response at the end of a stream."""
    *_, last = litellm.responses(stream=True, **asked, **responses)
    assert last.type == "response.completed"
    return last.response


def response_loop(text: str, stream: bool) -> Any:
    items, calls = user(text), list[str]()
    tools: Any = [{"type": "function", **FUNCTION}]
    for _ in range(3):
        asked: Any = {"input": items, "tools": tools}
        response = completed(**asked) if stream else litellm.responses(**asked, **responses)
        made = [item for item in response.output if item.type == "function_call"]
        items += response.output
        if not made:
            break
        for call in made:
            calls.append(json.loads(call.arguments)["city"])
            items.append({"type": "function_call_output", "call_id": call.call_id, "output": weather(calls[-1])})
    return {"text": response.output_text, "calls": calls}


@scenario("responses tools")
def _() -> Any:
    return response_loop(WEATHER, stream=False)


@scenario("responses tools streamed")
def _() -> Any:
    return response_loop(WEATHER, stream=True)


@scenario("responses parallel")
def _() -> Any:
    return response_loop(BOTH, stream=True)


@scenario("responses typed")
def _() -> Any:
    text = litellm.responses(input=PLAIN, text_format=Place, **responses).output_text
    return {"value": Place.model_validate_json(text).model_dump()}


def thoughts(response: Any) -> str:
    return "".join(part.text for item in response.output if item.type == "reasoning" for part in item.summary)


@scenario("responses reasoning")
def _() -> Any:
    response = litellm.responses(input=THINK, **responses)
    return {"text": response.output_text, "reasoning": thoughts(response)}


@scenario("responses reasoning streamed")
def _() -> Any:
    events = list(litellm.responses(input=THINK, stream=True, **responses))
    reasoning = "".join(event.delta for event in events if event.type == "response.reasoning_summary_text.delta")
    response = events[-1].response
    assert reasoning == thoughts(response)
    return {"text": response.output_text, "reasoning": reasoning}


@scenario("responses usage")
def _() -> Any:
    usage = litellm.responses(input=PLAIN, **responses).usage
    return {"input": usage.input_tokens, "output": usage.output_tokens}


@scenario("responses usage streamed")
def _() -> Any:
    usage = completed(input=PLAIN).usage
    return {"input": usage.input_tokens, "output": usage.output_tokens}


@scenario("responses turns")
def _() -> Any:
    previous = None
    for text in TURNS:
        response = litellm.responses(input=text, previous_response_id=previous, **responses)
        previous = response.id
    return {"text": response.output_text}


@scenario("responses error")
def _() -> Any:
    try:
        litellm.responses(input=PLAIN, **responses | {"model": "openai/no-such-model"})
    except litellm.NotFoundError as error:
        return {"error": problem(error)}
    return {"error": ""}


@scenario("responses failure")
def _() -> Any:
    text = ""
    try:
        for event in litellm.responses(input=FAILURE, stream=True, **responses):
            if event.type == "response.output_text.delta":
                text += event.delta
    except litellm.exceptions.MidStreamFallbackError as error:
        return {"error": problem(error), "text": text}
    return {"error": "", "text": text}


# -- the rest ----------------------------------------------------------------------------------------------


@scenario("api models")
def _() -> Any:
    return {"ids": litellm.get_valid_models(check_provider_endpoint=True, custom_llm_provider="openai", **server)}


@scenario("api files")
def _() -> Any:
    given: Any = {"custom_llm_provider": "openai", **server}
    file = litellm.create_file(file=("note.txt", io.BytesIO(b"red is the colour")), purpose="user_data", **given)
    listed = file.id in [known.id for known in litellm.file_list(**given)]
    content = litellm.file_content(file.id, **given).text
    return {"content": content, "listed": listed, "deleted": litellm.file_delete(file.id, **given).deleted}


run()
