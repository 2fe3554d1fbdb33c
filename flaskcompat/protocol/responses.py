"""Responses: the machine behind the ``response`` object and its stream of typed events.

::

    stream    := created queued? in_progress (item | custom)* terminal [DONE]
    item      := output_item.added ... output_item.done
    terminal  := response.completed | response.incomplete | response.failed error

One item is open at a time. What comes while a call is open and not complete (pieces of another call, a text of
another component) waits until it is, so that no call is cut short.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from flaskcompat.errors import APIError, WrapperContractError
from flaskcompat.protocol import sse
from flaskcompat.protocol.deltas import Citation, ToolResult
from flaskcompat.protocol.machine import Machine, StreamEvent, filled
from flaskcompat.protocol.response_items import FunctionCall, Item, Message, Reasoning
from flaskcompat.protocol.tool_calls import Call, CallPiece
from flaskcompat.protocol.usage import Usage

#: What a response is that has not ended.
RUNNING = ("queued", "in_progress")
#: Prefix of the type of an event that is not OpenAI's.
SLUG = "flaskcompat"

# What a response says where the request did not; the numbers must be numbers, clients do not take null.
_ECHOED: dict[str, Any] = {
    "background": False,
    "frequency_penalty": 0,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": None,
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
_TEXT: dict[str, Any] = {"annotations": [], "logprobs": []}
_FUNCTION: dict[str, Any] = {"type": "function", "description": None, "parameters": None, "strict": None}
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_.:-]")
_MARK = "@text@"
_SEQUENCE_MARK = 987654321


class ResponseMachine(Machine):
    """See :class:`Machine`.

    :param request: the request's body, whose settings the response echoes.
    :param show_tool_calls: show calls that this side ran, with their results, as items.
    """

    object = "response"
    good_tail = sse.DONE
    failed_tail = sse.DONE

    def __init__(
        self, *, request: Mapping[str, Any] | None = None, show_tool_calls: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.id = self._ids("resp_")
        self._echo = _echo(request or {})
        self._show_tool_calls = show_tool_calls
        self._sequence = 0
        self._output: list[dict[str, Any]] = []  # items that are done
        self._item: Item | None = None
        self._held_by_output = 0  # characters
        self._waiting: deque[tuple[Callable[[Any], None], Any]] = deque()  # until the open call is complete
        self._status = "in_progress"
        self._completed_at: int | None = None
        self._error: dict[str, Any] | None = None
        self._incomplete_reason: str | None = None
        # The frame of a text delta in three parts, around the text and the sequence number, while a text is open.
        self._template: tuple[str, str, str] | None = None

    def queue(self) -> list[StreamEvent]:
        """The events of a response that waits for its turn; its stream goes on with :meth:`start`."""
        self._status = "queued"
        self.emit("response.created", response=self._response())
        self.emit("response.queued", response=self._response())
        return self._drain()

    def go_on(self, response: Mapping[str, Any], number: int) -> None:
        """Make the *response* that another machine has queued.

        :param number: the sequence number of its next event.
        """
        self.id, self._created = response["id"], response["created_at"]
        self._status, self._sequence = "queued", number

    @property
    def number(self) -> int:
        """The sequence number of the next event."""
        return self._sequence

    @property
    def items(self) -> int:
        """How many items of the output are done."""
        return len(self._output)

    def encode(self, event: StreamEvent) -> str:
        return sse.frame(event, event["type"])

    def text_frame(self, text: str) -> str:
        if self._template is None or self._reason is not None:
            self._take_text(text)
            frames = "".join(map(self.encode, self._drain()))
            if isinstance(self._item, Message):
                self._template = self._text_template(self._item)
            return frames
        assert isinstance(self._item, Message)
        self._item.text.write(text)
        head, middle, tail = self._template
        sequence = self._sequence
        self._sequence += 1
        return f"{head}{sse.quote(text)}{middle}{sequence}{tail}"

    def fail_instead(self, ending: list[StreamEvent], error: APIError) -> list[StreamEvent]:
        *items, terminal = ending
        self._sequence = terminal["sequence_number"]
        self._completed_at = None
        return [*items, *self.fail(error)]

    @property
    def _held(self) -> int:
        return self._held_by_output + (self._item.text.tell() if self._item is not None else 0)

    def _said(self) -> str | None:
        parts = [part for item in self._output if item["type"] == "message" for part in item["content"]]
        if isinstance(self._item, Message):
            parts += self._item.parts
        if any(part["type"] == "refusal" for part in parts):
            return None
        return "".join(part["text"] for part in parts if part["type"] == "output_text")

    def result(self) -> dict[str, Any]:
        return self._response() if self._whole is None else self._completed(self._whole)

    # -- the response object -------------------------------------------------------------------------------

    def _response(self) -> dict[str, Any]:
        running = self._status in RUNNING
        return {
            "id": self.id,
            "object": self.object,
            "created_at": self._created,
            "completed_at": self._completed_at,
            "status": self._status,
            "error": self._error,
            "incomplete_details": self._incomplete_reason and {"reason": self._incomplete_reason},
            "model": self.model,
            "output": list(self._output),
            **self._echo,
            "usage": None if running else self._meter.total().to_response(),
        }

    def _completed(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """A whole answer that the wrapper made itself, with what it left out filled in."""
        own = {**answer, "output": [self._completed_item(item) for item in answer["output"]]}
        return filled(own, self._response())

    def _completed_item(self, item: Mapping[str, Any]) -> dict[str, Any]:
        match item.get("type"):
            case "message":
                parts = [dict(part) for part in item.get("content") or ()]
                content = [_TEXT | part if part.get("type") == "output_text" else part for part in parts]
                base = {"id": self._ids("msg_"), "status": "completed", "role": "assistant"}
                return filled({**item, "content": content}, base)
            case "function_call":
                return filled(item, {"id": self._ids("fc_"), "status": "completed", "arguments": "{}"})
            case "reasoning":
                summary = [{"type": "summary_text"} | part for part in item.get("summary") or ()]
                return filled({**item, "summary": summary}, {"id": self._ids("rs_")})
        return dict(item)

    # -- events --------------------------------------------------------------------------------------------

    def emit(self, type: str, **fields: Any) -> None:
        """Add an event with the next sequence number; for the items below."""
        self._events.append({"type": type, **fields, "sequence_number": self._sequence})
        self._sequence += 1

    def _open_stream(self) -> None:
        if self._status == "queued":
            self._status = "in_progress"
        else:
            self.emit("response.created", response=self._response())
        self.emit("response.in_progress", response=self._response())

    def _take_text(self, text: str) -> None:
        self._go_on()
        self._untouched = False
        self._text(text)

    def _text(self, text: str) -> None:
        self._in_turn(self._add_text, text)

    def _refusal(self, text: str) -> None:
        self._in_turn(self._add_refusal, text)

    def _citation(self, citation: Citation) -> None:
        self._in_turn(self._add_citation, citation)

    def _reasoning(self, text: str) -> None:
        self._in_turn(self._add_reasoning, text)

    def _call(self, piece: CallPiece) -> None:
        if isinstance(self._item, FunctionCall) and piece.call is self._item.call:
            self._item.add(piece.arguments)
            self._let_waiting_in()
        else:
            self._in_turn(self._add_call, piece)

    # -- one item at a time --------------------------------------------------------------------------------

    def _in_turn(self, add: Callable[[Any], None], what: Any) -> None:
        """Do *add* now or, while a call is open that is not complete, when it is."""
        if self._waiting or self._is_held():
            self._kept += len(what) if isinstance(what, str) else 0
            self._waiting.append((add, what))
        else:
            add(what)

    def _is_held(self) -> bool:
        return isinstance(self._item, FunctionCall) and not self._item.is_complete()

    def _let_waiting_in(self) -> None:
        while self._waiting and not self._is_held():
            add, what = self._waiting.popleft()
            add(what)

    def _end_step(self) -> None:
        super()._end_step()
        self._let_all_in(self._close_item)

    def _let_all_in(self, close: Callable[[], None]) -> None:
        """Nothing can complete a call any more: *close* it, and go on with what waits for it."""
        while self._waiting:
            close()
            self._let_waiting_in()

    def _add_text(self, text: str) -> None:
        self._message().add("output_text", text)

    def _add_refusal(self, text: str) -> None:
        message = self._message()
        self._template = None
        message.add("refusal", text)

    def _add_citation(self, citation: Citation) -> None:
        self._message().cite(citation)

    def _add_reasoning(self, text: str) -> None:
        if not isinstance(self._item, Reasoning):
            self._close_item()
            self._item = Reasoning(self.emit, self._ids("rs_"), len(self._output))
        self._item.add(text)

    def _add_call(self, piece: CallPiece) -> None:
        if not piece.first:
            if piece.arguments != "{}":  # those of a call without any, filled in when its item closed
                raise WrapperContractError("a tool call went on after its end")
            return
        self._close_item()
        self._item = item = FunctionCall(self.emit, self._ids("fc_"), len(self._output), piece.call)
        item.add(piece.arguments)
        for entry in [entry for entry in self._waiting if _is_piece_of(piece.call, entry[1])]:
            self._waiting.remove(entry)
            item.add(entry[1].arguments)

    def _message(self) -> Message:
        if not isinstance(self._item, Message):
            self._close_item()
            self._item = Message(self.emit, self._ids("msg_"), len(self._output))
        return self._item

    def _text_template(self, message: Message) -> tuple[str, str, str]:
        event = message.delta_event("output_text", _MARK) | {"sequence_number": _SEQUENCE_MARK}
        head, rest = self.encode(event).split(f'"{_MARK}"')
        middle, tail = rest.rsplit(str(_SEQUENCE_MARK), 1)
        return head, middle, tail

    def _hidden_call(self, result: ToolResult) -> None:
        if not self._show_tool_calls:
            return
        self._kept += len(result.arguments) + len(result.output)
        self._close_item()
        call = Call(result.id or self._ids("call_"), result.name)
        self._add_call(CallPiece(call, result.arguments, first=True))
        self._close_item()
        output = {"id": self._ids("fco_"), "type": "function_call_output", "status": "completed"}
        output |= {"call_id": call.id, "output": result.output}
        index = len(self._output)
        self.emit("response.output_item.added", output_index=index, item={**output, "status": "in_progress"})
        self.emit("response.output_item.done", output_index=index, item=output)
        self._output.append(output)

    def _event(self, payload: dict[str, Any]) -> None:
        # The type stands on the `event:` line as well, where not every character may.
        self.emit(f"{SLUG}:{_NOT_IN_NAME.sub('_', payload['type'])[:64]}", event=payload)

    def _close_item(self, status: str = "completed") -> None:
        self._leave_item(lambda item: item.close(status))

    def _break_off_item(self) -> None:
        self._leave_item(lambda item: item.break_off())

    def _leave_item(self, end: Callable[[Item], dict[str, Any]]) -> None:
        if self._item is not None:
            self._held_by_output += self._item.text.tell()
            self._output.append(end(self._item))
        self._item = self._template = None

    def _close_stream(self, reason: str) -> None:
        self._incomplete_reason = _INCOMPLETE.get(reason)
        self._status = "incomplete" if self._incomplete_reason else "completed"
        self._end_step()
        self._close_item(self._status)
        if self._status == "completed":
            self._completed_at = int(self._clock())
        self.emit(f"response.{self._status}", response=self._response())

    def _close_failed(self, error: APIError) -> None:
        try:
            self._let_all_in(self._break_off_item)  # what waits for the open call was said before the failure
        except WrapperContractError:
            self._waiting.clear()
        self._break_off_item()
        self._status = "failed"
        # `code` is an enum in the SDK here; the error's own code goes into the event that follows.
        self._error = {"code": "server_error", "message": error.message}
        self.emit("response.failed", response=self._response())
        told = error.error()
        # Twice, flat and nested: some clients notice the one form alone, some the other.
        self.emit("error", code=told["code"], message=told["message"], param=told["param"], error=told)


def cancelled(response: Mapping[str, Any], number: int) -> tuple[dict[str, Any], list[str]]:
    """A running *response* as it is once it was cancelled, and the frames that end its stream.

    :param number: the sequence number of the first of them.
    """
    ended = {**response, "status": "cancelled", "usage": Usage().to_response()}
    # OpenAI's clients know no event of a name of its own for it.
    return ended, [_frame("response.incomplete", number, response=ended)]


def lost(response: Mapping[str, Any], number: int) -> tuple[dict[str, Any], list[str]]:
    """The same for one whose process has ended before it."""
    error = APIError("The process that made this response has ended.").error()
    ended = {**response, "status": "failed", "usage": Usage().to_response()}
    ended["error"] = {"code": "server_error", "message": error["message"]}
    told = {"code": error["code"], "message": error["message"], "param": error["param"], "error": error}
    return ended, [_frame("response.failed", number, response=ended), _frame("error", number + 1, **told)]


def _frame(type: str, number: int, **fields: Any) -> str:
    return sse.frame({"type": type, **fields, "sequence_number": number}, type)


def _is_piece_of(call: Call, what: Any) -> bool:
    return isinstance(what, CallPiece) and what.call is call


def _echo(request: Mapping[str, Any]) -> dict[str, Any]:
    echo = {key: request[key] if request.get(key) is not None else default for key, default in _ECHOED.items()}
    if not echo["text"].get("format"):
        echo["text"] = {**echo["text"], **_ECHOED["text"]}
    if (conversation := request.get("conversation")) is not None:
        echo["conversation"] = conversation if isinstance(conversation, dict) else {"id": conversation}
    echo["tools"] = [_FUNCTION | tool if tool.get("type") == "function" else tool for tool in echo["tools"]]
    return echo
