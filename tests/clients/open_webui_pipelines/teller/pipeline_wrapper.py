"""A model that answers by what the last line of a question is, and can tell what it was asked."""

import json
import threading
from collections.abc import Iterator
from typing import Any

from haystack import Document
from haystack.dataclasses import ReasoningContent, StreamingChunk, ToolCallDelta

from flaskcompat import APIError, BasePipelineWrapper, citations, get_last_user_input_text, get_last_user_message
from flaskcompat.open_webui import create_source_event, create_status_event

#: What is answered to a request that the page makes of its own, by a word of its second line.
TASKS = {
    "tags": {"tags": ["Shops", "Hours"]},
    "title": {"title": "A chat about hours"},
    "might naturally send next": {"follow_ups": ["And on Sundays?", "Where is it?"]},
    "search queries": {"queries": ["opening hours"]},
}
HOURS = Document(content="From 9 to 18.", meta={"url": "https://shop.example/hours", "title": "Opening hours"})
LETTER = {
    "source": {"name": "A letter"},
    "document": ["We open at nine."],
    "metadata": [{"source": "letter", "name": "A letter"}],
}


def task_of(prompt: str) -> str | None:
    """The answer to a request that the page makes of its own; None for those of its user."""
    first, second, *_ = [*prompt.splitlines(), "", ""]
    if first != "### Task:":
        return None
    # What goes before a question with a file begins so, too.
    return next((json.dumps(answer) for word, answer in TASKS.items() if word in second), None)


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.running = 0
        self.go_on = threading.Event()

    def run_chat_completion(
        self, model: str, messages: list[dict[str, Any]], body: dict[str, Any], headers: Any
    ) -> str | Iterator[Any]:
        result = messages[-1]["content"] if messages[-1]["role"] == "tool" else None
        return self._answer("chat", get_last_user_message(messages) or "", result, body, headers)

    def run_response(
        self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any], headers: Any
    ) -> str | Iterator[Any]:
        result = input_items[-1].get("output")
        return self._answer("responses", get_last_user_input_text(input_items) or "", result, body, headers)

    def _answer(
        self, surface: str, prompt: str, result: str | None, body: dict[str, Any], headers: Any
    ) -> str | Iterator[Any]:
        question = prompt.strip().rpartition("\n")[2]
        match question:
            case "recall":
                return json.dumps(self.seen)
            case "how many run":
                return str(self.running)
            case "forget":
                self.seen.clear()
                self.go_on.clear()
                return "forgotten"
            case "go on":
                self.go_on.set()
                return "gone on"
        lower = {name.lower(): value for name, value in headers.items()}
        self.seen.append({"surface": surface, "prompt": prompt, "body": body, "headers": lower})
        return task_of(prompt) or self._tell(question, result)

    def _tell(self, question: str, result: str | None) -> Iterator[Any]:
        match question:
            case "fail":
                raise ValueError("s3cret")
            case "refuse":
                raise APIError("The shop is closed to you.", status=403)
            case "break":
                yield from ("Half of ", "an answer")
                raise ValueError("s3cret")
            case "think":
                yield StreamingChunk("", index=0, reasoning=ReasoningContent("I should look "))
                yield StreamingChunk("", index=0, reasoning=ReasoningContent("at the clock."))
                yield "It is noon."
            case "wait":
                yield "The first words"
                self.go_on.wait(60)
                yield " and the last ones."
            case "on and on":
                self.running += 1
                try:
                    while not self.go_on.wait(0.02):
                        yield "on and "
                finally:
                    self.running -= 1
            case "show":
                yield create_status_event("Looking at the shelves...")
                yield "There is "
                yield create_source_event(LETTER)
                yield "a letter."
                yield create_status_event("Looked at the shelves", done=True)
            case "cite":
                yield "We open at nine."
                yield from citations([HOURS])
            case "tool" if result is None:
                yield StreamingChunk("", index=0, tool_calls=[ToolCallDelta(0, "get_current_timestamp", "{}", id="1")])
                yield StreamingChunk("", finish_reason="tool_calls")
            case "ask a model" if result is None:
                arguments = '{"model": "teller", "input": "hello", "store": false}'
                yield StreamingChunk("", index=0, tool_calls=[ToolCallDelta(0, "create_response", arguments, id="1")])
                yield StreamingChunk("", finish_reason="tool_calls")
            case "ask a model":
                yield f"The model says {result}"
            case "tool":
                yield f"The clock says {result}"
            case "everything":
                yield create_status_event("Looking at the shelves...")
                yield StreamingChunk("", index=0, reasoning=ReasoningContent("I should look at the clock."))
                self.go_on.wait(60)
                self.go_on.clear()
                yield "The first words"
                self.go_on.wait(60)
                yield " and the last ones."
                yield from citations([HOURS])
                yield create_source_event(LETTER)
                yield create_status_event("Looked at the shelves", done=True)
            case _:
                yield from ("Good ", "morning, ", "you.")
