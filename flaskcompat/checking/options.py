"""How a check is done."""

from __future__ import annotations

from dataclasses import dataclass

#: Seconds that loading a model, or one answer of it, may take.
TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Options:
    """How to check.

    :param real: ask the real models, over the network.
    :param reply: what scripted models say.
    :param timeout: seconds for loading a model, and for each answer.
    """

    real: bool = False
    reply: str | None = None
    timeout: float = TIMEOUT
