"""The neighbour graph of a static export: each row's nearest others, and the edges that duplicates are made of."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.duplicates import Duplicates
from gnomonic.atlas.neighbors import NeighborGraph
from gnomonic.atlas.static_export_files import pack, write_file

__all__ = ["NEIGHBOR_ROWS", "places_of", "write_edges", "write_groups", "write_neighbors"]

NEIGHBOR_ROWS = 4096
"""Positions of a file of neighbours."""
_NEIGHBORS = 15
"""Of a row, at most."""
_NONE = 2**32 - 1
_STEPS = 65_535
_BOUND = 0.3
"""Largest cut-off of duplicates by angle that an export can answer, unless the map's own is larger."""
_TIMES = 3.0
"""By Euclidean distance it is so many times the map's own."""
_EDGES = 2_000_000
"""Edges at most; beyond them the bound is lowered, though not below the map's own cut-off."""


def places_of(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the map position of each row, [n] int64 in row order."""
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order))
    return places


def write_neighbors(folder: Path, graph: NeighborGraph, order: NDArray[np.int64], there: NDArray[np.bool_]) -> int:
    """Write `{block}.bin`: positions u32 and distances u16 of every row's neighbours; return how many a row.

    Args:
        folder: where they go.
        graph: in row order.
        order: the map order.
        there: [n] bool in row order: the rows that are not gone.
    """
    places = places_of(order)
    k = int(min(_NEIGHBORS, graph.indices.shape[1]))
    for number, begin in enumerate(range(0, len(order), NEIGHBOR_ROWS)):
        at = order[begin : begin + NEIGHBOR_ROWS]
        near = np.asarray(graph.indices[at])
        apart = np.asarray(graph.distances[at], dtype=np.float32)
        use = (near >= 0) & there[np.maximum(near, 0)] & there[at][:, None]
        # Those that are left move up into the places of those that are gone.
        kept = np.argsort(~use, axis=1, kind="stable")[:, :k]
        use = np.take_along_axis(use, kept, axis=1)
        near = np.where(use, places[np.maximum(np.take_along_axis(near, kept, axis=1), 0)], _NONE)
        apart = np.where(use, np.take_along_axis(apart, kept, axis=1), 0)
        step = float(apart.max(initial=0.0)) / _STEPS
        coded = np.rint(apart / step) if step > 0 else np.zeros_like(apart)
        arrays = {"positions": near.astype(np.uint32), "distances": coded.astype(np.uint16)}
        write_file(folder / f"{number}.bin", pack({"k": k, "step": step}, arrays))
    return k


def write_edges(
    path: Path, graph: NeighborGraph, order: NDArray[np.int64], numbers: NDArray[np.int64], cutoff: float
) -> tuple[dict[str, Any], NDArray[np.int64]]:
    """Write the edges up to a bound; return what the export says of them, and the rows that have any.

    Args:
        path: the file.
        graph: in row order.
        order: the map order.
        numbers: [n] int64 in row order: the store's numbers of the rows, by which the first of a group is told.
        cutoff: that of the map's own duplicates.
    """
    bound = max(_BOUND, cutoff) if graph.metric == "cosine" else _TIMES * cutoff
    farthest = _distance(graph.metric, bound)
    distances = np.asarray(graph.distances)
    many = int((distances <= farthest).sum())
    if many > _EDGES:
        nearest = np.partition(distances[distances <= farthest], _EDGES)[_EDGES]
        bound = max(cutoff, _cutoff(graph.metric, float(nearest)))
        farthest = _distance(graph.metric, bound)
    row, column = np.nonzero((distances <= farthest) & (graph.indices >= 0))
    ends = np.asarray(graph.indices)[row, column].astype(np.int64)
    nodes = np.unique(np.concatenate([row, ends]))
    arrays: dict[str, NDArray[Any]] = {
        "positions": places_of(order)[nodes].astype(np.uint32),
        "ranks": np.argsort(np.argsort(numbers[nodes])).astype(np.uint32),
        "degrees": np.bincount(np.searchsorted(nodes, row), minlength=len(nodes)).astype(np.uint16),
        "ends": np.searchsorted(nodes, ends).astype(np.uint32),
        "distances": distances[row, column].astype(np.float32),
    }
    write_file(path, pack({"metric": graph.metric}, arrays))
    told = {"metric": graph.metric, "cutoff": cutoff, "bound": bound, "edges": len(row), "nodes": len(nodes)}
    return told, nodes


def write_groups(
    path: Path, found: Duplicates, order: NDArray[np.int64], numbers: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Write the groups that the map was built with, which know of rows that are equal in every bit; return their rows.

    Args:
        path: the file.
        found: the groups.
        order: the map order.
        numbers: [n] int64 in row order: the store's numbers of the rows.
    """
    rows = np.flatnonzero(np.asarray(found.classes))
    arrays: dict[str, NDArray[Any]] = {
        "positions": places_of(order)[rows].astype(np.uint32),
        "ranks": np.argsort(np.argsort(numbers[rows])).astype(np.uint32),
        "groups": np.asarray(found.cluster)[rows].astype(np.uint32),
        "classes": np.asarray(found.classes)[rows].astype(np.uint8),
    }
    write_file(path, pack({}, arrays))
    return rows


def _distance(metric: str, cutoff: float) -> float:
    """Return the graph's distance of a cut-off, as `duplicates` measures it."""
    return 1.0 - math.cos(math.pi * min(cutoff, 1.0)) if metric == "cosine" else cutoff


def _cutoff(metric: str, distance: float) -> float:
    return math.acos(1.0 - min(distance, 2.0)) / math.pi if metric == "cosine" else distance
