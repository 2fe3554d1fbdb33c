"""Any JSON at all, for each endpoint: never a 5xx where the wrapper itself cannot fail."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from flaskcompat import BasePipelineWrapper, create_app

from ..support import make_app

seen: list[Any] = []


class Calm(BasePipelineWrapper):
    def run_chat_completion(self, model: str, messages: Any, body: Any) -> str:
        seen.append((messages, body))
        return "fine"

    def run_response(self, model: str, input_items: Any, body: Any) -> str:
        seen.append((input_items, body))
        return "fine"


app = make_app(m=Calm())
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = [
    "model", "messages", "input", "instructions", "tools", "tool_choice", "stream", "stream_options", "n", "stop",
    "temperature", "top_p", "metadata", "response_format", "text", "reasoning", "max_tokens", "max_output_tokens",
    "user", "store", "previous_response_id", "conversation", "background", "include", "truncation", "seed",
    "parallel_tool_calls", "service_tier", "logprobs", "modalities", "audio", "prompt", "x",
]  # fmt: skip
ROLES = ["user", "assistant", "system", "developer", "tool", "function", "x"]
KINDS = ["text", "input_text", "image_url", "input_file", "message", "function_call", "function_call_output", "x"]
part = st.fixed_dictionaries({"type": st.sampled_from(KINDS)}, optional={"text": values, "image_url": values})
message = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(ROLES) | values,
        "type": st.sampled_from(KINDS),
        "content": st.text() | st.lists(part | values, max_size=3) | values,
        "tool_calls": st.lists(values, max_size=2),
        "call_id": values,
        "name": values,
        "arguments": values,
        "output": values,
    },
)
bodies = st.builds(
    lambda some, messages: {"model": "m", "messages": messages, "input": messages, **some},
    st.dictionaries(st.sampled_from(FIELDS), values, max_size=4),
    st.lists(message, max_size=3) | values,
)
paths = st.sampled_from(["/v1/chat/completions", "/responses"])
often = settings(max_examples=400, derandomize=True)


def post(path: str, body: Any) -> Any:
    response = app.test_client().post(path, data=json.dumps(body), content_type="application/json")
    response.get_data()
    response.close()
    return response


@often
@given(paths, bodies | values)
def test_no_body_is_the_server_s_fault(path: str, body: Any) -> None:
    response = post(path, body)
    assert response.status_code < 500, response.text
    if response.status_code != 200:
        error = response.get_json()["error"]
        assert set(error) == {"message", "type", "param", "code"} and len(response.data) < 4096


@often
@given(paths, st.text(), st.booleans())
def test_text_arrives_as_it_was_sent(path: str, text: str, stream: bool) -> None:
    body = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": text}], "input": text}
    seen.clear()
    assert post(path, body).status_code == 200
    [(payload, _)] = seen
    assert payload[0]["content"] == text


@often
@given(st.sampled_from(["GET", "POST", "PUT", "HEAD"]), st.text(max_size=30), st.dictionaries(st.text(), st.text()))
def test_no_path_is_the_server_s_fault(method: str, path: str, query: dict[str, str]) -> None:
    for prefix in ("/v1/", "/v1/models/", "/", "/files/"):
        client = _standalone.test_client()
        response = client.open("/", base_url="http://x", method=method, environ_overrides={
            "PATH_INFO": (prefix + path).encode("utf-8", "replace").decode("latin-1"),
            "QUERY_STRING": "&".join(query).encode("utf-8", "replace").decode("latin-1"),
        })  # fmt: skip
        assert response.status_code < 500 and "location" not in response.headers
        if response.status_code >= 400 and method != "HEAD":
            assert set(response.get_json()["error"]) == {"message", "type", "param", "code"}
        response.close()


_standalone = create_app({"FLASKCOMPAT_LOG_LEVEL": "WARNING"})
