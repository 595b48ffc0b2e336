"""Loads the compiled loops of the map by ctypes; each has a numpy form that gives the same answer, only later.

A module of the map asks `library()`; where it is None (no compiler when the package was installed) it takes its numpy
way. Arrays are checked and made contiguous by the callers.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

__all__ = ["library", "pointer", "threads"]

log = logging.getLogger(__name__)

_VERSION = 1
_LIBRARY = Path(__file__).parent / "libkernels.so.1"


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the compiled kernels, None where there are none that fit."""
    try:
        found = ctypes.CDLL(str(_LIBRARY))
        version = int(found.kernels_version())
    except (OSError, AttributeError) as error:
        log.warning("maps are built without compiled kernels, far slower: %s", error)
        return None
    if version != _VERSION:
        log.warning("the compiled kernels are of version %d and not %d: install the package again", version, _VERSION)
        return None
    return found


def pointer(array: NDArray[Any]) -> ctypes.c_void_p:
    """Return the address of a C-contiguous array's first element; the caller keeps the array alive."""
    if not array.flags.c_contiguous:
        raise ValueError("kernels take contiguous arrays")
    return ctypes.c_void_p(array.ctypes.data)


def threads() -> int:
    """Return how many threads a kernel may use: the CPUs this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
