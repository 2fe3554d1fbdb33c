"""Saving off the threads that write streams, which must not wait for a database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from flaskcompat.fork import reset_in_child
from flaskcompat.protocol import sse

# SQLite takes one at a time; others may be far away.
_THREADS = 4


class Saver:
    """Threads that save; started when they are needed, anew in a forked child."""

    def __init__(self) -> None:
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None

    def submit(self, save: Callable[[], None]) -> Future[None]:
        """Have *save* called, in a copy of the current context."""
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="flaskcompat-save")
            return self._threads.submit(copy_context().run, save)


#: The saver of this process.
saver = Saver()


class Keep:
    """How an answer is kept once it is whole, before its client sees the end of it.

    :param save: keeps it, given it and its JSON.
    :param waits: whether *save* may have to wait.
    :param failures: whether answers that failed are kept, too.
    """

    def __init__(self, save: Callable[[dict[str, Any], str], None], *, waits: bool, failures: bool) -> None:
        self.save = save
        self.failures = failures
        self._waits = waits

    def begin(self, answer: dict[str, Any]) -> Future[None]:
        """Begin to keep *answer*; what comes of it can be had from the future."""
        if self._waits:
            return saver.submit(lambda: self.save(answer, sse.dumps(answer)))
        done: Future[None] = Future()
        try:
            self.save(answer, sse.dumps(answer))
            done.set_result(None)
        except BaseException as error:
            done.set_exception(error)
        return done
