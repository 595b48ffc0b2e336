"""Keeping a long run's memory flat."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["release_free_memory"]


def release_free_memory() -> None:
    """Give freed heap pages back to the system, where the C library can (glibc's malloc_trim(3)).

    Batches differ in size from step to step, and their activations fragment the heap: without this, a run that needs
    2 GB was seen to hold 12 GB after 200 steps. Having malloc return every large block at once keeps memory lower
    still, but spent 40 % of the time in page faults (docs/decisions/0004-first-bundled-model.md).
    """
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
