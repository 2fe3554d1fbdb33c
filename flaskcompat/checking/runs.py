"""Asks a model in every way that it answers, by the path that a client's request takes."""

from __future__ import annotations

import inspect
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from flaskcompat.checking.contract import CONTRACTS, QUESTION, Contract, Said
from flaskcompat.checking.findings import Column, Result
from flaskcompat.checking.hearing import Heard, Source, TookTooLong, hearing, place_in, standing_at, why, within
from flaskcompat.checking.mock import Asked, Script
from flaskcompat.runtime.registry import Model
from flaskcompat.runtime.wrapper import implements

_CONTENT = b"What a check uploads.\n"
_ARGUMENTS = ("model", "messages", "body")
_UPLOAD_ARGUMENTS = ("filename", "content_type", "content", "purpose")
# How often a model must say the same before another answer is called different: some say it at random, or in turn.
_AGAIN = 5
#: Events that a stream may have; one that never ends must not take all memory until its time is over.
MOST_EVENTS = 100_000


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks one model.

    :param script: what the scripted models say; None where the real ones are asked.
    :param timeout: seconds that an answer may take; the application ends those of the two surfaces.
    """

    app: Flask
    model: Model
    source: Source | None
    script: Script | None
    timeout: float
    result: Result

    def ask_all(self, about: Callable[[Column], None]) -> None:
        """Ask, and note what was found; *about* is told what is asked."""
        for contract in CONTRACTS:
            method = self.model.methods[contract.surface]
            if method is None:
                continue
            if complaint := self._misfit(method, _ARGUMENTS):
                self._fail(contract.column, complaint)
                self._fail(contract.stream_column, complaint)
                continue
            about(contract.column)
            whole = self._ask_whole(contract)
            about(contract.stream_column)
            self._ask_streamed(contract, whole)
        if implements(self.model.wrapper, "run_file_upload"):
            about("files")
            self._upload()

    # -- the two surfaces ----------------------------------------------------------------------------------

    def _ask_whole(self, contract: Contract) -> Said | None:
        column = contract.column
        self.result.looked_at.add(column)
        said, saw = self._asked(contract, column)
        if said is None or said.is_empty or self.script is None:
            return said
        given, saw_parts = self._asked(contract, column, parts=True)
        if given is None or given.is_empty:
            return said  # noted
        if given.text != said.text and self._is_steady(contract, said, given, parts=True):
            self._fail(column, "answers something else where the content is a list of parts")
        elif saw and saw_parts is False:
            self._fail(column, "does not give the model the question where the content is a list of parts")
        return said

    def _asked(self, contract: Contract, column: Column, *, parts: bool = False) -> tuple[Said | None, bool | None]:
        """One whole answer, and whether a scripted model was given the question; None: no model was asked."""
        before = "content as a list of parts: " if parts else ""
        with hearing() as heard:
            answer = self._post(contract, contract.body(self.model.name, parts=parts))
            asked = self._taken(column, heard)
        saw = any(QUESTION in one.inputs for one in asked) if asked else None
        if answer.status != 200:
            self._refused(column, heard, answer.status, answer.told, before)
            return None, saw
        said = contract.whole(json.loads(answer.text))
        self._note(column, said, before)
        return said, saw

    def _is_steady(self, contract: Contract, whole: Said, other: Said, **variant: bool) -> bool:
        """Whether it says the same each time, and the same other thing for the *variant* of the request.

        What says something else each time has no fault of its form.
        """
        with hearing():
            again = all(self._says(contract) == whole.text for _ in range(_AGAIN))
            return again and self._says(contract, **variant) == other.text

    def _says(self, contract: Contract, **variant: bool) -> str | None:
        answer = self._post(contract, contract.body(self.model.name, **variant))
        if answer.status != 200 or answer.is_endless:
            return None
        if variant.get("stream"):
            return contract.streamed(answer.content_type, answer.text).text
        return contract.whole(json.loads(answer.text)).text

    def _ask_streamed(self, contract: Contract, whole: Said | None) -> None:
        column = contract.stream_column
        self.result.looked_at.add(column)
        with hearing() as heard:
            answer = self._post(contract, contract.body(self.model.name, stream=True))
            asked = self._taken(column, heard)
        if answer.status != 200:
            self._refused(column, heard, answer.status, answer.told)
            return
        if answer.is_endless:
            self._fail(column, f"does not end: more than {MOST_EVENTS} events")
            return
        said = contract.streamed(answer.content_type, answer.text)
        if said.error is not None:
            after = "" if said.error.get("code") == "pipeline_timeout" else "breaks off: "
            self._fail(column, after + self._reason(heard, None, said.error))
            return
        self._note(column, said)
        if self.script is None or whole is None or said.is_empty:
            return
        if said.text != whole.text and self._is_steady(contract, whole, said, stream=True):
            self._fail(column, f"whole and streamed differ: {_cut(whole.text)} and {_cut(said.text)}")
        able = sorted({one.name for one in asked if one.can_stream})
        # Where the model's text is what is said: it may be asked for something else, too.
        if able and said.pieces == 1 < len(self.script.pieces) and self.script.reply.strip() in said.text:
            names = ", ".join(able)
            self._warn(
                column, f"does not stream, though {names} can: the text comes in one piece (streaming_generator)"
            )

    def _post(self, contract: Contract, body: dict[str, Any]) -> _Answer:
        # On a thread of its own, since an interrupt would be told as an error of the wrapper's.
        return within(None, lambda: _read(self.app.test_client().post(contract.path, json=body)))

    def _taken(self, column: Column, heard: Heard) -> list[Asked]:
        """How scripted models were asked; what blocked the event loop meanwhile is noted."""
        asked: list[Asked] = []
        if self.script is not None:
            asked, self.script.asked = self.script.asked, []
        if heard.blocked is not None:
            at = place_in(heard.blocked, self.source)
            where = f" ({at})" if at else ""
            self._warn(column, f"blocks the event loop{where}: await, or leave it to asyncio.to_thread()")
        for name in {one.name for one in asked if one.on_loop}:
            self._warn(column, f"blocks the event loop while {name} runs: await the run_async of its pipeline or agent")
        return asked

    # -- files ---------------------------------------------------------------------------------------------

    def _upload(self) -> None:
        if complaint := self._misfit("run_file_upload", _UPLOAD_ARGUMENTS):
            self._fail("files", complaint)
            return
        self.result.looked_at.add("files")
        client = self.app.test_client()

        def upload() -> _Answer:
            form = {"purpose": "user_data", "file": (io.BytesIO(_CONTENT), "check.txt", "text/plain")}
            return _read(client.post("/v1/files", data=form, content_type="multipart/form-data"))

        with hearing() as heard:
            try:
                answer = within(self.timeout, upload)
            except TookTooLong:
                self._fail("files", self._too_long())
                return
        if answer.status != 200:
            self._refused("files", heard, answer.status, answer.told)
            return
        file = json.loads(answer.text)
        said = Said()
        said.judge("file", file)
        again = client.get(f"/v1/files/{file['id']}")
        said.require(again.status_code == 200 and again.get_json() == file, "the file is not found under its id")
        self._note("files", said)

    # -- what is found -------------------------------------------------------------------------------------

    def _misfit(self, method: str, arguments: tuple[str, ...]) -> str | None:
        """Why *method* cannot be called as it will be."""
        signature = inspect.signature(getattr(self.model.wrapper, method))
        try:
            signature.bind(*arguments, **dict.fromkeys(self.model.extras[method]))
        except TypeError as error:
            return f"{method}{signature} is called with ({', '.join(arguments)}): {error}"
        return None

    def _note(self, column: Column, said: Said, before: str = "") -> None:
        for complaint in said.wrong:
            self._fail(column, before + complaint)
        for complaint in said.strange:
            self._warn(column, before + complaint)
        if said.is_empty and column != "files":
            self._fail(column, f"{before}answers nothing: no text, no call of a tool")

    def _refused(self, column: Column, heard: Heard, status: int, told: dict[str, Any], before: str = "") -> None:
        """Note an answer that is an error; one that asks for what a check does not send is no fault."""
        reason = before + self._reason(heard, status, told)
        if status == 401 or (column == "files" and status < 500):
            if not before:
                self.result.looked_at.discard(column)
            self._warn(column, f"{reason}: not checked")
        else:
            self._fail(column, reason)

    def _reason(self, heard: Heard, status: int | None, told: dict[str, Any]) -> str:
        if told.get("code") == "pipeline_timeout":
            return self._too_long()
        if heard.error is not None:
            return why(heard.error, self.source)
        return f"answers {status or 'an error'}: {told.get('message')}"

    def _too_long(self) -> str:
        self.result.hangs = True
        at = standing_at(self.source)
        return f"hangs: no end after {self.timeout:g} s{f', at {at}' if at else ''}"

    def _fail(self, column: Column, text: str) -> None:
        self.result.looked_at.add(column)
        self.result.add(column, text)

    def _warn(self, column: Column, text: str) -> None:
        self.result.add(column, text, fails=False)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What was read of a response.

    :param is_endless: it was not read to its end.
    """

    status: int
    content_type: str
    text: str
    is_endless: bool

    @property
    def told(self) -> dict[str, Any]:
        """The error that it is, in OpenAI's shape."""
        try:
            told: dict[str, Any] = json.loads(self.text)["error"]
        except (ValueError, KeyError, TypeError):
            return {}
        return told


def _read(response: TestResponse) -> _Answer:
    pieces, events = [], 0
    for piece in response.iter_encoded():  # a stream is made while it is read
        pieces.append(piece)
        events += piece.count(b"\n\n")
        if events > MOST_EVENTS:
            break
    response.close()
    text = b"".join(pieces).decode()
    return _Answer(response.status_code, response.content_type or "", text, events > MOST_EVENTS)


def _cut(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}...")
