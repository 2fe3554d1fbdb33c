"""What the C library does with memory that was freed."""

from __future__ import annotations

import ctypes
import os

# Numbers of mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# A piece of memory below this many bytes is taken from what is there, and kept when it is freed; in each of the areas
# that threads share, up to twice as much is.
_KEPT = 4 * 2**20


def keep_freed_memory() -> None:
    """Keep what was freed for the next request, in steps of a few megabytes.

    glibc gives memory back and asks for it again with each long request, depending on what happens to lie behind it; a
    request of a megabyte takes half as long again then, in page faults. Does nothing under another C library, and where
    the environment says what to do.
    """
    if any(name in os.environ for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")):
        return
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - looked up: another library has none
        library.mallopt(_MMAP_THRESHOLD, _KEPT)
        library.mallopt(_TRIM_THRESHOLD, 2 * _KEPT)
    except (AttributeError, OSError, TypeError):  # TypeError: Windows
        pass
