"""How a client's program tells what came of a scenario: one line of JSON each."""

import asyncio
import inspect
import json
import sys
from collections.abc import Callable
from typing import Any

BASE_URL = sys.argv[1]
KEY = "not-used"
#: The model that is asked on each surface.
CHAT, RESPONSES = "scripted", "scripted_async"

PLAIN = "hello there"
THINK = "think about it please"
WEATHER = "weather in Paris"
BOTH = "weather in Paris and Rome"
FAILURE = "fail midway"
TURNS = ("one", "two", "three")


def weather(city: str) -> str:
    """What a tool of the client's says."""
    return f"21 degrees in {city}"


Scenario = Callable[[], Any]
_scenarios: list[tuple[str, Scenario]] = []


def scenario(name: str) -> Callable[[Scenario], Scenario]:
    """Register a function, or coroutine function, that gives what came of the scenario *name*, such as ``chat plain``.

    See ``scenarios.py`` for the names and what is expected of each.
    """

    def register(function: Scenario) -> Scenario:
        _scenarios.append((name, function))
        return function

    return register


def problem(error: BaseException) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {error}"


def run() -> None:
    """Run all scenarios, one after the other; one that raises is told as such."""

    async def all_of_them() -> None:
        for name, function in _scenarios:
            try:
                found = function()
                result = await found if inspect.isawaitable(found) else found
            except Exception as error:
                result = {"raised": problem(error)[:2000]}
            print(json.dumps({"scenario": name, **result}), flush=True)

    asyncio.run(all_of_them())
