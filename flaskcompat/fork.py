"""One hook for forked children, which have none of their parent's threads, and copies of locks that nobody releases."""

from __future__ import annotations

import os
import threading
from typing import Protocol
from weakref import WeakSet

from flaskcompat.log import log


class Forkable(Protocol):
    def reset_after_fork(self) -> None:
        """Forget, in a forked child, what belongs to the parent."""


# Held weakly: a hook cannot be removed, and would keep its owner, and the owner's application, in memory for ever.
_owners: WeakSet[Forkable] = WeakSet()
_pid = os.getpid()
_lock = threading.Lock()


def reset_in_child(owner: Forkable) -> None:
    """Have *owner* reset in each child that is forked while it is in use; does not keep it alive."""
    _owners.add(owner)


def check_process() -> None:
    """Reset what belongs to the parent if this is a child that was forked without Python's hooks, as uWSGI does it."""
    if os.getpid() != _pid:
        with _lock:  # the first requests of a child come at the same time
            if os.getpid() != _pid:
                _reset_all()


def _reset_all() -> None:
    global _pid
    for owner in list(_owners):
        try:
            owner.reset_after_fork()
        except Exception as error:  # the others are reset all the same
            log.opt(exception=error).error("{} could not be reset in a forked child", type(owner).__name__)
    _pid = os.getpid()  # only now: others go on from here


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_reset_all)
