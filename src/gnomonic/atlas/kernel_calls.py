"""Calls of compiled kernels with numpy arrays."""

from __future__ import annotations

import ctypes
from typing import Any

from numpy.typing import NDArray

from gnomonic.atlas.kernels import library, pointer

__all__ = ["run_kernel"]


def run_kernel(name: str, *arguments: NDArray[Any] | int | None) -> bool:
    """Run a kernel whose whole numbers are 64 bits wide and that returns 0, or 1 where memory ran out.

    Args:
        name: the C function.
        arguments: C-contiguous arrays, whole numbers, and None for no array.

    Returns:
        False, with nothing done, where there are no compiled kernels.

    Raises:
        MemoryError: the kernel ran out of memory.
    """
    kernels = library()
    if kernels is None:
        return False
    given = [
        argument if argument is None else ctypes.c_int64(argument) if isinstance(argument, int) else pointer(argument)
        for argument in arguments
    ]
    if getattr(kernels, name)(*given):
        raise MemoryError(f"the kernel {name} ran out of memory")
    return True
