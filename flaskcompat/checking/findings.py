"""What a check finds, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

#: What is looked at in each model, in order.
Column = Literal["load", "chat", "chat stream", "responses", "responses stream", "files"]
COLUMNS: tuple[Column, ...] = ("load", "chat", "chat stream", "responses", "responses stream", "files")

#: How a column came out; ``-`` where there was nothing to look at.
State = Literal["ok", "-", "FAIL"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to mend (``fails``), or to think about.

    :param text: one line: what is wrong, where, and what to write instead.
    """

    column: Column
    text: str
    fails: bool = True


@dataclass(slots=True)
class Result:
    """What was found about one model.

    :param hangs: something of it was left behind, still at work.
    """

    model: str
    looked_at: set[Column] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    hangs: bool = False

    def add(self, column: Column, text: str, *, fails: bool = True) -> None:
        # A wrapper's text could steer the terminal, or be none that can be written.
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
        finding = Finding(column, shown, fails)
        if finding not in self.findings:
            self.findings.append(finding)

    def failures(self, column: Column) -> list[Finding]:
        return [finding for finding in self.findings if finding.fails and finding.column == column]

    def state(self, column: Column) -> State:
        if self.failures(column):
            return "FAIL"
        return "ok" if column in self.looked_at else "-"

    @property
    def failed(self) -> bool:
        return any(finding.fails for finding in self.findings)
