"""How long a map will take and how much memory, told before it is built."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from gnomonic.errors import InputError

__all__ = ["MEASURED", "Estimate", "estimate", "probe_machine"]

_SIZES = (10_000, 100_000, 1_000_000)
_DIM = 768

MEASURED: dict[str, dict[str, tuple[float, ...]]] = {
    # Seconds of each stage at `_SIZES` rows of `_DIM` dimensions, and the share of them that grows with the dimension:
    # benchmarks/map_build.py; topics with texts to name them by.
    "neighbors": {"seconds": (1.2, 12.0, 144.0), "with_dim": (0.6,)},
    "projection": {"seconds": (1.5, 5.7, 118.0), "with_dim": (0.0,)},
    "topics": {"seconds": (2.0, 4.0, 17.0), "with_dim": (0.2,)},
    "duplicates": {"seconds": (0.01, 0.03, 0.7), "with_dim": (0.5,)},
    "quality": {"seconds": (0.3, 1.4, 14.0), "with_dim": (0.9,)},
    "tiles": {"seconds": (0.1, 0.5, 5.0), "with_dim": (0.0,)},
    # Bytes the process holds at its peak: the fixed part, for each row, and for each of a row's dimensions.
    "memory": {"bytes": (350e6, 2000.0, 4.0)},
    # Of the machine all this was measured on: float32 matrix products, in units of 1e9 multiplications and additions.
    "machine": {"gflops": (210.0,)},
}

_PROBE_SIDE = 512
_PROBE_SECONDS = 0.15


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What a build will take; within a factor of two on an idle machine."""

    seconds: dict[str, float]
    """By stage, in order; "embeddings" only where there is something to embed."""
    total_seconds: float
    """Of all stages."""
    peak_bytes: int
    """Memory of the building process, vectors on disk not counted."""


def estimate(n: int, dim: int, *, embed_rate: float | None = None, gflops: float | None = None) -> Estimate:
    """Return how long a map of that size takes on this machine.

    Args:
        n: rows.
        dim: length of their vectors.
        embed_rate: rows embedded a second; None where the vectors are given.
        gflops: this machine's speed as `probe_machine` gives it; measured, in less than 0.3 s, if not given.

    Returns:
        the estimate: what was measured at three sizes, drawn through them on logarithmic axes, and taken in proportion
        to the machine's speed.

    Raises:
        InputError: a number is negative, or a rate is not above 0.
    """
    if n < 0 or dim < 0:
        raise InputError(f"{n} rows of {dim} dimensions cannot be mapped; give 0 or more")
    for name, rate in (("embed_rate", embed_rate), ("gflops", gflops)):
        if rate is not None and not rate > 0:
            raise InputError(f"{name} {rate} is not above 0; leave it out where it is not known")
    slower = MEASURED["machine"]["gflops"][0] / (gflops or probe_machine())
    seconds = {} if embed_rate is None else {"embeddings": n / embed_rate}
    for stage, told in MEASURED.items():
        if "seconds" in told:
            share = told["with_dim"][0]
            seconds[stage] = _at(told["seconds"], n) * slower * (1 - share + share * dim / _DIM)
    fixed, per_row, per_value = MEASURED["memory"]["bytes"]
    peak = int(fixed + n * (per_row + per_value * dim))
    return Estimate(seconds=seconds, total_seconds=sum(seconds.values()), peak_bytes=peak)


def probe_machine() -> float:
    """Return the speed of this machine's float32 matrix products, in units of 1e9 operations a second."""
    matrix = np.full((_PROBE_SIDE, _PROBE_SIDE), 0.5, dtype=np.float32)
    matrix @ matrix
    began = last = time.perf_counter()
    best = math.inf
    # The best of several: others may use the machine meanwhile, and the first ones wake it up.
    while last - began < _PROBE_SECONDS:
        matrix @ matrix
        now = time.perf_counter()
        best = min(best, now - last)
        last = now
    return float(2 * _PROBE_SIDE**3 / max(best, 1e-9) / 1e9)


def _at(seconds: tuple[float, ...], n: int) -> float:
    """Return the value at n rows of a line through measured ones, straight on logarithmic axes and beyond its ends."""
    if n == 0:
        return 0.0
    pair = 0 if n < _SIZES[1] else 1
    slope = math.log(seconds[pair + 1] / seconds[pair]) / math.log(_SIZES[pair + 1] / _SIZES[pair])
    return float(seconds[pair] * (n / _SIZES[pair]) ** slope)
