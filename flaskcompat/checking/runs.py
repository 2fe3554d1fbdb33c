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
from flaskcompat.checking.mock import Script
from flaskcompat.runtime.registry import Model
from flaskcompat.runtime.wrapper import implements

_CONTENT = b"What a check uploads.\n"
_ARGUMENTS = ("model", "messages", "body")
_UPLOAD_ARGUMENTS = ("filename", "content_type", "content", "purpose")


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
        # What says something else each time has no fault of its form.
        if given.text != said.text and self._is_steady(contract, said):
            self._fail(column, "answers something else where the content is a list of parts")
        elif saw and not saw_parts:
            self._fail(column, "does not give the model the question where the content is a list of parts")
        return said

    def _asked(self, contract: Contract, column: Column, *, parts: bool = False) -> tuple[Said | None, bool]:
        """One whole answer, and whether a scripted model was given the question."""
        before = "content as a list of parts: " if parts else ""
        with hearing() as heard:
            response = self._post(contract, contract.body(self.model.name, parts=parts))
            saw = any(QUESTION in asked.inputs for asked in self._taken(column, heard))
        if response.status_code != 200:
            self._fail(column, before + self._reason(heard, response.status_code, _told(response)))
            return None, saw
        said = contract.whole(json.loads(response.get_data()))
        self._note(column, said, before)
        return said, saw

    def _is_steady(self, contract: Contract, said: Said) -> bool:
        with hearing():
            response = self._post(contract, contract.body(self.model.name))
        return response.status_code == 200 and contract.whole(json.loads(response.get_data())).text == said.text

    def _ask_streamed(self, contract: Contract, whole: Said | None) -> None:
        column = contract.stream_column
        self.result.looked_at.add(column)
        with hearing() as heard:
            response = self._post(contract, contract.body(self.model.name, stream=True))
            asked = self._taken(column, heard)
        if response.status_code != 200:
            self._fail(column, self._reason(heard, response.status_code, _told(response)))
            return
        said = contract.streamed(response.content_type, response.get_data(as_text=True))
        if said.error is not None:
            after = "" if said.error.get("code") == "pipeline_timeout" else "breaks off: "
            self._fail(column, after + self._reason(heard, None, said.error))
            return
        self._note(column, said)
        if self.script is None or whole is None or said.is_empty:
            return
        if said.text != whole.text and self._is_steady(contract, whole):
            self._fail(column, f"whole and streamed differ: {_cut(whole.text)} and {_cut(said.text)}")
        able = sorted({one.name for one in asked if one.can_stream})
        if able and said.pieces == 1 < len(self.script.pieces):
            names = ", ".join(able)
            self._warn(
                column, f"does not stream, though {names} can: the text comes in one piece (streaming_generator)"
            )

    def _post(self, contract: Contract, body: dict[str, Any]) -> TestResponse:
        response = self.app.test_client().post(contract.path, json=body)
        response.get_data()  # a stream is made while it is read
        return response

    def _taken(self, column: Column, heard: Heard) -> list[Any]:
        """How scripted models were asked; what blocked the event loop meanwhile is noted."""
        asked: list[Any] = []
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

        def upload() -> TestResponse:
            form = {"purpose": "user_data", "file": (io.BytesIO(_CONTENT), "check.txt", "text/plain")}
            return client.post("/v1/files", data=form, content_type="multipart/form-data")

        with hearing() as heard:
            try:
                response = within(self.timeout, upload)
            except TookTooLong:
                self._fail("files", self._too_long())
                return
        if response.status_code != 200:
            self._fail("files", self._reason(heard, response.status_code, _told(response)))
            return
        file = json.loads(response.get_data())
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

    def _reason(self, heard: Heard, status: int | None, told: dict[str, Any]) -> str:
        if told.get("code") == "pipeline_timeout":
            return self._too_long()
        if heard.error is not None:
            return why(heard.error, self.source)
        return f"answers {status or 'an error'}: {told.get('message')}"

    def _too_long(self) -> str:
        at = standing_at(self.source)
        return f"hangs: no end after {self.timeout:g} s{f', at {at}' if at else ''}"

    def _fail(self, column: Column, text: str) -> None:
        self.result.looked_at.add(column)
        self.result.add(column, text)

    def _warn(self, column: Column, text: str) -> None:
        self.result.add(column, text, fails=False)


def _told(response: TestResponse) -> dict[str, Any]:
    told: dict[str, Any] = (response.get_json(silent=True) or {}).get("error") or {}
    return told


def _cut(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}...")
