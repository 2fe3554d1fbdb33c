"""Loads a model on another thread as if it were the main one, on which a server loads its models."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


def as_on_the_main_thread(work: Callable[[], T]) -> T:
    """What *work* gives: there is an event loop for ``asyncio.get_event_loop()``, and signals may be seen to.

    The handlers that *work* sets are left out: Ctrl-C is for the check.
    """
    if sys.version_info < (3, 14):  # from there on, the main thread has none by itself either
        asyncio.set_event_loop(_loop())
    try:
        with _no_handlers():
            return work()
    finally:
        asyncio.set_event_loop(None)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """One for all, which stays open: a wrapper may keep it."""
    return asyncio.new_event_loop()


@contextmanager
def _no_handlers() -> Iterator[None]:
    real = signal.signal

    def left_out(signalnum: Any, handler: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            return real(signalnum, handler)
        return signal.getsignal(signalnum)

    signal.signal = left_out
    try:
        yield
    finally:
        signal.signal = real
