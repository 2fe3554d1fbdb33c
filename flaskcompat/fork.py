"""One hook for forked children, which have none of their parent's threads, and copies of locks that nobody releases."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet

from flaskcompat.log import log


class Forkable(Protocol):
    def reset_after_fork(self) -> None:
        """Forget, in a forked child, what belongs to the parent."""


# Held weakly: a hook cannot be removed, and would keep its owner, and the owner's application, in memory for ever.
_owners: WeakSet[Forkable] = WeakSet()


def reset_in_child(owner: Forkable) -> None:
    """Have *owner* reset in each child that is forked while it is in use; does not keep it alive."""
    _owners.add(owner)


def _reset_all() -> None:
    for owner in list(_owners):
        try:
            owner.reset_after_fork()
        except Exception as error:  # the others are reset all the same
            log.opt(exception=error).error("{} could not be reset in a forked child", type(owner).__name__)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_reset_all)
