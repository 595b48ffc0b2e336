"""The layout: positions pulled together along a graph's edges and pushed apart at random, epoch by epoch (UMAP).

Each epoch every row moves by itself, from where all others stood when the epoch began, with random numbers of its own;
so a seed gives the same plane whatever the number of threads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.fuzzy import EdgeGraph
from gnomonic.atlas.kernels import library, pointer, threads

__all__ = ["fit_curve", "optimize"]

_LANES = 8
_PULLS = 2
"""Attractions a step; an edge attracts twice whenever its turn comes, once for each of its directions."""
_PUSHES = 5
"""Random rows that repel in a step: UMAP's negative samples."""
_CLIP = 4.0
_GOLDEN = np.uint32(0x9E3779B9)
_ANOTHER = np.uint32(0x85EBCA6B)


def fit_curve(min_dist: float, spread: float) -> tuple[float, float]:
    """Return a and b of the layout's nearness curve, 1 / (1 + a d^2b).

    It is fitted by least squares to 1 up to min_dist and exp(-(d - min_dist) / spread) beyond (McInnes, Healy and
    Melville 2018, "UMAP", definition 11), with Levenberg's steps.

    Args:
        min_dist: distance up to which rows count as touching.
        spread: distance over which nearness falls off, larger than 0.
    """
    d = np.linspace(0.0, 3.0, 300)[1:]
    near = np.where(d < min_dist / spread, 1.0, np.exp(-(d - min_dist / spread)))
    found, damping = np.array([0.0, 0.0]), 1e-3  # logarithms of a and b, in units of the spread

    def error(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        a, b = np.exp(logs)
        return np.asarray(1.0 / (1.0 + a * d ** (2.0 * b)) - near)

    best = error(found)
    for _ in range(200):
        nearness = best + near
        slope = -nearness * (1.0 - nearness)
        jacobian = np.stack([slope, slope * 2.0 * np.exp(found[1]) * np.log(d)], axis=1)
        normal = jacobian.T @ jacobian
        change = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-12), -jacobian.T @ best)
        tried = error(np.clip(found + change, -20.0, 20.0))
        if tried @ tried < best @ best:
            found, best, damping = np.clip(found + change, -20.0, 20.0), tried, damping / 3.0
        else:
            damping *= 4.0
        if damping > 1e12 or np.abs(change).max() < 1e-9:
            break
    a, b = np.exp(found)
    return float(a / spread ** (2.0 * b)), float(b)


def optimize(
    edges: EdgeGraph,
    start: NDArray[np.float32],
    *,
    epochs: int,
    curve: tuple[float, float],
    seed: int = 0,
    rate: float = 0.3,
    on_epoch: Callable[[int], None] = lambda _: None,
) -> NDArray[np.float32]:
    """Return the positions after some epochs.

    Args:
        edges: the graph.
        start: [n, 2] float32 where the rows begin.
        epochs: how many times each row moves; an edge of weight w takes part in a share of w of them.
        curve: a and b of `fit_curve`.
        seed: of the random rows.
        rate: length of the first epoch's moves; it falls to 0 with the cube of what is left.
        on_epoch: told how many epochs are done, after each.

    Returns:
        [n, 2] float32.
    """
    before, after = np.array(start, dtype=np.float32, order="C"), np.empty_like(start, order="C")
    if len(edges) < 2:
        return before
    most = float(edges.weights.max(initial=0.0)) or 1.0
    rates = np.minimum(edges.weights / np.float32(most) * 2.0**32, 2.0**32 - 256.0).astype(np.uint32)
    kernels = library()
    for epoch in range(epochs):
        key = int(
            _scramble(np.array([(seed * 0x9E3779B1 + epoch * 0x85EBCA77 + 0x27D4EB2F) & 0xFFFFFFFF], np.uint32))[0]
        )
        now = rate * (1.0 - epoch / epochs) ** 3
        if kernels is None:
            after = _move(edges, rates, before, epoch, key, (now, *curve))
        elif kernels.layout_epoch(
            pointer(edges.offsets), pointer(edges.targets), pointer(rates), pointer(before), pointer(after),
            ctypes.c_int64(len(before)), ctypes.c_uint32(epoch), ctypes.c_uint32(key),
            ctypes.c_float(now), ctypes.c_float(curve[0]), ctypes.c_float(curve[1]), threads(),
        ):  # fmt: skip
            raise MemoryError("no memory for the layout's epochs")
        before, after = after, before
        on_epoch(epoch + 1)
    return before


def _move(
    edges: EdgeGraph,
    rates: NDArray[np.uint32],
    before: NDArray[np.float32],
    epoch: int,
    key: int,
    force: tuple[float, float, float],
) -> NDArray[np.float32]:
    """Give the kernel's epoch: the first steps of all rows at once, then the second ones, and so on."""
    n = len(before)
    with np.errstate(over="ignore"):
        turn = np.arange(len(rates), dtype=np.uint32) * _GOLDEN + np.uint32(epoch) * rates
        keys = _scramble(np.uint32(key) + np.arange(n, dtype=np.uint32) * _GOLDEN)
    due = np.flatnonzero(turn < rates)
    first = np.searchsorted(due, edges.offsets)
    count = np.diff(first)
    targets = edges.targets[due]
    after = before.copy()
    lanes = np.arange(_PULLS, _PULLS + _PUSHES, dtype=np.uint32)
    for i in range(int(count.max(initial=0))):
        rows = np.flatnonzero(count > i)
        others = np.empty((len(rows), _PULLS + _PUSHES), dtype=np.int64)
        for lane in range(_PULLS):
            others[:, lane] = targets[first[rows] + (2 * i + lane) % count[rows]]
        with np.errstate(over="ignore"):
            draws = _scramble(keys[rows, None] + (np.uint32(_LANES) * np.uint32(i) + lanes) * _ANOTHER)
        others[:, _PULLS:] = draws.astype(np.uint64) * np.uint64(n) >> np.uint64(32)
        after[rows] = _step(before[others], after[rows], others != rows[:, None], force)
    return after


def _step(
    others: NDArray[np.float32], own: NDArray[np.float32], counts: NDArray[np.bool_], force: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Return rows [m, 2] moved by the others [m, lanes, 2] that count."""
    rate, a, b = map(np.float32, force)
    away = own[:, None, :] - others
    square = (away * away).sum(axis=2)
    safe = np.maximum(square, np.float32(1e-12))
    power = safe**b
    below = 1 + a * power
    coefficient = np.empty_like(square)
    coefficient[:, :_PULLS] = (-2 * a * b * power / (safe * below))[:, :_PULLS]
    coefficient[:, _PULLS:] = (2 * b / ((np.float32(0.001) + safe) * below))[:, _PULLS:]
    coefficient = np.where(counts & (square > 0), coefficient, np.float32(0.0))
    moved: NDArray[np.float32] = own + rate * np.clip(coefficient[:, :, None] * away, -_CLIP, _CLIP).sum(
        axis=1, dtype=np.float32
    )
    return moved


def _scramble(x: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return random bits of numbers that are not; wraps around."""
    with np.errstate(over="ignore"):
        x = x ^ (x >> np.uint32(16))
        x = x * np.uint32(0x21F0AAAD)
        x = x ^ (x >> np.uint32(15))
        x = x * np.uint32(0xD35A2D97)
        return x ^ (x >> np.uint32(15))
