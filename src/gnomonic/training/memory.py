"""Keeping a long run's memory in bounds."""

from __future__ import annotations

import ctypes
import mmap
import sys
from pathlib import Path

__all__ = ["HeapKeeper"]

_GROWN = 2.0
_STATM = Path("/proc/self/statm")


class HeapKeeper:
    """Gives freed heap pages back to the system when they have become many, where the C library can: glibc's.

    Batches differ in size from step to step, and their activations fragment the heap: a run that needs 2 GB was seen to
    hold 12 GB after 200 steps. Giving pages back splits huge pages, though: at every line of metrics it made steps a
    fifth slower (benchmarks/LOG.md), and having malloc return every large block at once spent 40 % of the time in page
    faults. So the process may grow to twice what it held after the last time.
    """

    def __init__(self) -> None:
        """Find malloc_trim(3)."""
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
        self._kept = 0

    def check(self) -> bool:
        """Give pages back if the process has doubled; return whether it did."""
        if self._trim is None:
            return False
        held = _resident()
        if not self._kept:
            self._kept = held
        if held < _GROWN * self._kept:
            return False
        self._trim(0)
        self._kept = _resident()
        return True


def _resident() -> int:
    """Return the bytes of this process in memory."""
    return int(_STATM.read_text(encoding="ascii").split()[1]) * mmap.PAGESIZE
