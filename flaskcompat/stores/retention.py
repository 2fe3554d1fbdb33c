"""How long records are kept, and how many bytes of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from time import monotonic

from flaskcompat.log import log
from flaskcompat.stores.records import Kind, Record, Records

# Records that are deleted at once: nobody else waits for long then.
_STEP = 500
# Seconds between two looks; the one that saves something does it.
_INTERVAL = 60.0


class Retention:
    """Deletes the records of *kinds* that are to go.

    :param max_age: seconds for which a record is kept; 0: until it is deleted.
    :param most: bytes that all of them may take; None: any number.
    :param on_gone: called with those that were deleted.
    :param also: called when it is looked what is to go.
    :param clock: gives seconds since the epoch.
    """

    def __init__(
        self,
        records: Records,
        kinds: Sequence[Kind],
        max_age: float,
        most: int | None,
        on_gone: Callable[[list[Record]], None] | None = None,
        also: Callable[[], None] | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.max_age = max_age
        self._records = records
        self._kinds = kinds
        self._most = most
        self._on_gone = on_gone
        self._also = also
        self._clock = clock
        self._next = 0.0
        self._lock = threading.Lock()

    def expiry(self, created: float) -> float | None:
        """When something of that time is to go."""
        return created + self.max_age if self.max_age > 0 else None

    def tidy(self) -> None:
        """Delete some of what is to go, now and then; called by whoever has saved something."""
        if monotonic() < self._next or not self._lock.acquire(blocking=False):
            return
        try:
            if self._also is not None:
                self._also()
            gone = self._purge_some()
            # A backlog goes in small steps, at once.
            self._next = monotonic() + (0.0 if gone >= _STEP else _INTERVAL)
        except Exception as error:  # what was saved is saved
            self._next = monotonic() + _INTERVAL
            log.warning("what is too old could not be deleted: {}", type(error).__name__)
        finally:
            self._lock.release()

    def purge(self) -> int:
        """Delete all that is to go; gives how many records it was."""
        total = 0
        while gone := self._purge_some():
            total += gone
        return total

    def _purge_some(self) -> int:
        gone = self._records.purge(self._kinds, self._clock(), self._most, _STEP)
        if gone and self._on_gone is not None:
            self._on_gone(gone)
        return len(gone)
