"""OpenAI's own client for Python, blocking and asynchronous."""

import io
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
from openai import APIError, AsyncOpenAI, NotFoundError, OpenAI
from pydantic import BaseModel

client = OpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0)
asynchronous = AsyncOpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0)
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
CHAT_TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS, "strict": True}}]
RESPONSE_TOOLS: Any = [{"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": True}]


class Place(BaseModel):
    city: str
    degrees: int


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


# -- Chat Completions --------------------------------------------------------------------------------------


@scenario("chat plain")
async def _() -> Any:
    answer = await asynchronous.chat.completions.create(model=CHAT, messages=user(PLAIN))
    return {"text": answer.choices[0].message.content}


@scenario("chat streamed")
async def _() -> Any:
    stream = await asynchronous.chat.completions.create(model=CHAT, messages=user(PLAIN), stream=True)
    pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
    return {"text": "".join(pieces), "pieces": sum(map(bool, pieces))}


def chat_loop(text: str, stream: bool) -> Any:
    messages, calls = user(text), []
    for _ in range(3):
        asked: Any = {"model": CHAT, "messages": messages, "tools": CHAT_TOOLS}
        if stream:
            with client.chat.completions.stream(**asked) as events:
                message = events.get_final_completion().choices[0].message
        else:
            message = client.chat.completions.create(**asked).choices[0].message
        if not message.tool_calls:
            return {"text": message.content, "calls": calls}
        messages.append(message.to_dict())
        for call in message.tool_calls:
            city = json.loads(call.function.arguments)["city"]
            calls.append(city)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": weather(city)})
    return {"text": "", "calls": calls}


@scenario("chat tools")
def _() -> Any:
    return chat_loop(WEATHER, stream=False)


@scenario("chat tools streamed")
def _() -> Any:
    return chat_loop(WEATHER, stream=True)


@scenario("chat parallel")
def _() -> Any:
    return chat_loop(BOTH, stream=True)


@scenario("chat typed")
def _() -> Any:
    answer = client.chat.completions.parse(model=CHAT, messages=user(PLAIN), response_format=Place)
    parsed = answer.choices[0].message.parsed
    assert parsed is not None
    return {"value": parsed.model_dump()}


@scenario("chat reasoning")
def _() -> Any:
    message: Any = client.chat.completions.create(model=CHAT, messages=user(THINK)).choices[0].message
    return {"text": message.content, "reasoning": message.reasoning_content}


@scenario("chat reasoning streamed")
def _() -> Any:
    deltas: list[Any] = [
        chunk.choices[0].delta
        for chunk in client.chat.completions.create(model=CHAT, messages=user(THINK), stream=True)
    ]
    reasoning = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
    return {"text": "".join(delta.content or "" for delta in deltas), "reasoning": reasoning}


@scenario("chat usage")
def _() -> Any:
    usage = client.chat.completions.create(model=CHAT, messages=user(PLAIN)).usage
    assert usage is not None
    return {"input": usage.prompt_tokens, "output": usage.completion_tokens}


@scenario("chat usage streamed")
def _() -> Any:
    options: Any = {"include_usage": True}
    *_, last = client.chat.completions.create(model=CHAT, messages=user(PLAIN), stream=True, stream_options=options)
    assert last.usage is not None
    return {"input": last.usage.prompt_tokens, "output": last.usage.completion_tokens}


@scenario("chat turns")
def _() -> Any:
    messages: list[Any] = []
    for text in TURNS:
        messages += user(text)
        answer = client.chat.completions.create(model=CHAT, messages=messages).choices[0].message
        messages.append(answer)
    return {"text": answer.content}


@scenario("chat error")
def _() -> Any:
    try:
        client.chat.completions.create(model="no-such-model", messages=user(PLAIN))
    except NotFoundError as error:
        assert error.code == "model_not_found" and error.request_id
        return {"error": problem(error)}
    return {"error": ""}


@scenario("chat failure")
async def _() -> Any:
    text = ""
    try:
        async for chunk in await asynchronous.chat.completions.create(model=CHAT, messages=user(FAILURE), stream=True):
            text += chunk.choices[0].delta.content or ""
    except APIError as error:
        return {"error": problem(error), "text": text}
    return {"error": "", "text": text}


# -- Responses ---------------------------------------------------------------------------------------------


@scenario("responses plain")
async def _() -> Any:
    return {"text": (await asynchronous.responses.create(model=RESPONSES, input=PLAIN)).output_text}


@scenario("responses streamed")
async def _() -> Any:
    stream = await asynchronous.responses.create(model=RESPONSES, input=PLAIN, stream=True)
    pieces = [event.delta async for event in stream if event.type == "response.output_text.delta"]
    return {"text": "".join(pieces), "pieces": len(pieces)}


def response_loop(text: str, stream: bool) -> Any:
    items, calls = user(text), []
    for _ in range(3):
        asked: Any = {"model": RESPONSES, "input": items, "tools": RESPONSE_TOOLS}
        if stream:
            with client.responses.stream(**asked) as events:
                response = events.get_final_response()
        else:
            response = client.responses.create(**asked)
        made: list[Any] = [item for item in response.output if item.type == "function_call"]
        if not made:
            return {"text": response.output_text, "calls": calls}
        items += [item.to_dict() for item in response.output]
        for call in made:
            city = json.loads(call.arguments)["city"]
            calls.append(city)
            items.append({"type": "function_call_output", "call_id": call.call_id, "output": weather(city)})
    return {"text": "", "calls": calls}


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
    parsed = client.responses.parse(model=RESPONSES, input=PLAIN, text_format=Place).output_parsed
    assert parsed is not None
    return {"value": parsed.model_dump()}


def thoughts(response: Any) -> str:
    return "".join(part.text for item in response.output if item.type == "reasoning" for part in item.summary)


@scenario("responses reasoning")
def _() -> Any:
    response = client.responses.create(model=RESPONSES, input=THINK)
    return {"text": response.output_text, "reasoning": thoughts(response)}


@scenario("responses reasoning streamed")
def _() -> Any:
    with client.responses.stream(model=RESPONSES, input=THINK) as events:
        reasoning = "".join(event.delta for event in events if event.type == "response.reasoning_summary_text.delta")
        response = events.get_final_response()
    assert reasoning == thoughts(response)
    return {"text": response.output_text, "reasoning": reasoning}


@scenario("responses usage")
def _() -> Any:
    usage = client.responses.create(model=RESPONSES, input=PLAIN).usage
    assert usage is not None
    return {"input": usage.input_tokens, "output": usage.output_tokens}


@scenario("responses usage streamed")
def _() -> Any:
    with client.responses.stream(model=RESPONSES, input=PLAIN) as events:
        usage = events.get_final_response().usage
    assert usage is not None
    return {"input": usage.input_tokens, "output": usage.output_tokens}


@scenario("responses turns")
def _() -> Any:
    previous = None
    for text in TURNS:
        response = client.responses.create(model=RESPONSES, input=text, previous_response_id=previous)
        previous = response.id
    return {"text": response.output_text}


@scenario("responses error")
def _() -> Any:
    try:
        client.responses.create(model="no-such-model", input=PLAIN)
    except NotFoundError as error:
        return {"error": problem(error)}
    return {"error": ""}


@scenario("responses failure")
def _() -> Any:
    text = ""
    try:
        for event in client.responses.create(model=RESPONSES, input=FAILURE, stream=True):
            if event.type == "response.output_text.delta":
                text += event.delta
    except APIError as error:
        return {"error": problem(error), "text": text}
    return {"error": "", "text": text}


# -- the rest ----------------------------------------------------------------------------------------------


@scenario("api models")
def _() -> Any:
    return {"ids": [client.models.retrieve(model.id).id for model in client.models.list()]}


@scenario("api files")
def _() -> Any:
    file = client.files.create(file=("note.txt", io.BytesIO(b"red is the colour")), purpose="user_data")
    listed = file.id in [known.id for known in client.files.list()]
    content = client.files.content(file.id).text
    return {"content": content, "listed": listed, "deleted": client.files.delete(file.id).deleted}


@scenario("responses file input")
def _() -> Any:
    file = client.files.create(file=("note.txt", io.BytesIO(b"red is the colour")), purpose="user_data")
    parts = [{"type": "input_text", "text": "read this"}, {"type": "input_file", "file_id": file.id}]
    items: Any = [{"role": "user", "content": parts}]
    return {"text": client.responses.create(model=RESPONSES, input=items).output_text}


run()
