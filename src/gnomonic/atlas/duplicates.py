"""Rows that say the same: groups around the row that is kept of each.

Distance here is the angle between two vectors as a share of half a turn, arccos(cos) / pi, for graphs of cosine
distances, and the graph's own for Euclidean ones. With the bundled model the default cut-off of 0.1 (18 degrees, a
cosine distance of 0.049) is where texts with small edits are found and others not, a cosine
distance of 0.1 would join many texts that only follow one pattern.

Joining all pairs within the cut-off would let a chain of near rows join far ones. Here every row of a group is within
the cut-off of the group's kept row: either the graph has the two as neighbours, or a path between them over the graph
is short enough to prove it by the triangle inequality, which angles obey. So of a pair within the cut-off both can
still be kept, as each may have gone to, or be, a row that others are nearer to. Identical rows are always one group,
however many there are.
"""

from __future__ import annotations

import ctypes
import heapq
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.kernels import library, pointer
from gnomonic.atlas.neighbors import NeighborGraph
from gnomonic.atlas.options import DuplicateOptions
from gnomonic.atlas.vector_rows import check_vectors, identical_rows, survey_rows
from gnomonic.errors import InputError

__all__ = ["CLASS_NAMES", "Duplicates", "duplicate_groups", "find_duplicates"]

CLASS_NAMES = ("singleton", "retention candidate", "deletion candidate")
"""What the numbers of `Duplicates.classes` mean."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Duplicates:
    """Which rows are duplicates of which."""

    cluster: NDArray[np.int32]
    """[n] int32: the group of each row, numbered in the order of their first rows; a row like no other is a group."""
    classes: NDArray[np.uint8]
    """[n] uint8, places in CLASS_NAMES: alone in its group, the one to keep of it, or one to delete."""

    def save(self, folder: Path) -> None:
        """Write cluster.npy and classes.npy."""
        np.save(folder / "cluster.npy", self.cluster)
        np.save(folder / "classes.npy", self.classes)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; the arrays stay on disk until they are used."""
        return cls(
            cluster=np.load(folder / "cluster.npy", mmap_mode="r"),
            classes=np.load(folder / "classes.npy", mmap_mode="r"),
        )


def find_duplicates(graph: NeighborGraph, vectors: NDArray[Any], options: DuplicateOptions | None = None) -> Duplicates:
    """Group rows that are within a cut-off of each other.

    Args:
        graph: neighbours of the rows.
        vectors: [n, dim] float16 or float32, a memory map too; read once, for rows that are equal in every bit.
        options: the cut-off, a distance as this module measures it.

    Raises:
        InputError: the graph and the vectors are not of the same rows, or a vector is not finite.
    """
    options = options or DuplicateOptions()
    if len(graph.indices) != len(vectors):
        raise InputError(
            f"the graph has {len(graph.indices):,} rows and the vectors are {len(vectors):,}; build it again"
        )
    return duplicate_groups(graph, options.duplicate_cutoff, vectors)


def duplicate_groups(graph: NeighborGraph, cutoff: float, vectors: NDArray[Any] | None = None) -> Duplicates:
    """Group rows by the edges of a graph.

    Args:
        graph: neighbours of the rows.
        cutoff: the largest distance between a row and the one that is kept for it, as this module measures it.
        vectors: [n, dim]: groups identical rows even where the graph does not join them all, as it may not when there
            are more than it has neighbours a row; without them the graph's distances of 0 do.

    Raises:
        InputError: the cut-off is negative or not a number.
    """
    if not cutoff >= 0:
        raise InputError(f"cutoff {cutoff} is not a distance; choose 0 or more")
    n = len(graph.indices)
    same = np.arange(n, dtype=np.int32)
    if vectors is not None and n:
        checked = check_vectors(vectors)
        identical = identical_rows(checked, survey_rows(checked, metric=graph.metric)[1])
        if identical is not None:
            same = identical.first[identical.group].astype(np.int32)
    kept = _kept(graph, same, float(cutoff))
    _, first, group, size = np.unique(kept, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(first), dtype=np.int32)
    rank[np.argsort(first)] = np.arange(len(first))
    classes = np.where(size[group] == 1, 0, np.where(kept == np.arange(n), 1, 2))
    return Duplicates(cluster=rank[group], classes=classes.astype(np.uint8))


def _kept(graph: NeighborGraph, same: NDArray[np.int32], cutoff: float) -> NDArray[np.int32]:
    """Return the row that is kept of each row's group."""
    angles = graph.metric == "cosine"
    limit = math.pi * min(cutoff, 1.0) if angles else cutoff
    farthest = 1.0 - math.cos(limit) if angles else cutoff
    kernels = library()
    if kernels is None or not len(same):
        return _kept_slowly(graph, same, farthest, limit)
    indices = np.ascontiguousarray(graph.indices, dtype=np.int32)
    distances = np.ascontiguousarray(graph.distances, dtype=np.float32)
    kept = np.empty(len(same), dtype=np.int32)
    if kernels.duplicates_groups(
        ctypes.c_int64(len(same)), ctypes.c_int64(indices.shape[1]), pointer(indices), pointer(distances),
        pointer(same), ctypes.c_double(farthest), ctypes.c_double(limit), ctypes.c_int32(angles), pointer(kept),
    ):  # fmt: skip
        raise MemoryError(f"no memory for the duplicates of {len(same):,} rows")
    return kept


def _kept_slowly(graph: NeighborGraph, same: NDArray[np.int32], farthest: float, limit: float) -> NDArray[np.int32]:
    """Give the kernel's answer."""
    parent = same.tolist()

    def root(of: int) -> int:
        while parent[of] != of:
            of = parent[of]
        return of

    row, column = np.nonzero((graph.distances <= farthest) & (graph.indices >= 0))
    ends, lengths = graph.indices[row, column].tolist(), graph.distances[row, column].tolist()
    pairs = list(zip(row.tolist(), ends, lengths, strict=True))
    for a, b, away in pairs:
        if away <= 0:
            low, high = sorted((root(a), root(b)))
            parent[high] = low
    edges: defaultdict[int, list[tuple[int, float]]] = defaultdict(list)
    for a, b, distance in pairs:
        one, other = root(a), root(b)
        if one != other:
            away = math.acos(1.0 - min(distance, 2.0)) if graph.metric == "cosine" else distance
            edges[one].append((other, away))
            edges[other].append((one, away))
    leader = _leaders(edges, limit)
    return np.array([leader.get(one, one) for one in map(root, range(len(parent)))], dtype=np.int32)


def _leaders(edges: Mapping[int, Sequence[tuple[int, float]]], limit: float) -> dict[int, int]:
    """Give rows the row whose group they join, that with the most edges choosing first."""
    leader: dict[int, int] = {}
    for first in sorted(edges, key=lambda one: (-len(edges[one]), one)):
        queue = [] if first in leader else [(0.0, first)]
        while queue:
            far, at = heapq.heappop(queue)
            if at in leader:
                continue
            leader[at] = first
            for other, away in edges[at]:
                if other not in leader and (at == first or far + away <= limit):
                    heapq.heappush(queue, (far + away, other))
    return leader
