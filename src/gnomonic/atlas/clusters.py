"""Regions of the map: clusters of the density of its points, at several sizes, the finer inside the coarser.

The method is that of HDBSCAN (Campello, Moulavi and Sander 2013): the core distance of a point is that to its k-th
neighbour; an edge is as long as the largest of its own length and the core distances of its ends; single linkage over
the edges is a tree; a merge counts as a parting when both sides have at least some number of points, and the clusters
are the leaves that remain. Here the number is chosen a depth, so that about as many clusters come out as a person can
take in; only edges between near neighbours are looked at; and points outside the leaves go to the leaf that they are
joined to first, unless that is far.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.linkage import Linkage, grow, leaves, link
from gnomonic.atlas.plane import plane_neighbors
from gnomonic.errors import InputError

__all__ = ["cluster"]

_NEIGHBORS = 15
_SMALLEST = 8
"""Points of the smallest cluster ever made."""
_SAMPLES = 64
"""Points of an island that are looked at to find the islands next to it."""
_FAR = 4.0
"""Points that would join a cluster only at this many times its own typical distance stay outside."""
_OUTSIDE = 0.2
"""The largest share of points left outside at any depth."""

_Edges = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]


def cluster(xy: NDArray[np.float32], *, depths: int = 3, seed: int = 0) -> NDArray[np.int32]:
    """Return clusters of the plane at several depths.

    With n rows there are at the finest depth about sqrt(n) clusters, 1,000 at most, at the coarsest 3 to 12, and the
    depths between are spaced evenly on a scale of ratios; fewer where the plane has fewer, so that depths may be equal.
    Too few rows to part make one cluster of all.

    Args:
        xy: [n, 2] float32 positions, finite.
        depths: how many; 1 or more.
        seed: of the sample by which islands find each other.

    Returns:
        [depths, n] int32: cluster of each row, the coarsest depth first, numbered from 0 by size, largest first; -1
        outside every cluster. All rows of a cluster have the same cluster at every coarser depth.

    Raises:
        InputError: the positions are not [n, 2] or not finite, or depths is below 1.
    """
    if depths < 1:
        raise InputError(f"depths {depths} is smaller than 1; ask for one depth or more")
    n = len(xy)
    found = np.zeros((depths, n), dtype=np.int32)
    if n < 2 * _SMALLEST:
        return found
    points = np.ascontiguousarray(xy, dtype=np.float32)
    (start, end, length), tree = _spanning_tree(points, np.random.default_rng(seed))
    below = np.concatenate([np.ones(n, dtype=np.int32), tree.sizes])
    smaller = np.where(length > 0, below[tree.children].min(axis=1), 0)
    sizes = _partings(smaller, n, depths)
    finer: NDArray[np.int32] | None = None
    for depth in range(depths - 1, -1, -1):
        labels = leaves(n, tree.children, smaller >= sizes[depth])
        found[depth] = finer = _by_size(_fill(labels, (start, end, length), finer))
    return found


def _spanning_tree(points: NDArray[np.float32], draw: np.random.Generator) -> tuple[_Edges, Linkage]:
    """Return the n - 1 edges that join all points, shortest first, and the tree they make."""
    n = len(points)
    neighbors, distances = plane_neighbors(points, min(_NEIGHBORS, n - 1))
    core = distances[:, -1]
    start = np.repeat(np.arange(n, dtype=np.int32), neighbors.shape[1])
    end, length = neighbors.ravel(), distances.ravel()
    while True:
        length = np.maximum(length, np.maximum(core[start], core[end]))
        order = np.argsort(length, kind="stable")
        start, end, length = start[order], end[order], length[order]
        tree = link(n, start, end)
        start, end, length = start[tree.edges], end[tree.edges], length[tree.edges]
        if len(tree.edges) == n - 1:
            return (start, end, length), tree
        bridges = _bridges(points, tree.groups, draw)
        start, end, length = (np.concatenate(pair) for pair in zip((start, end, length), bridges, strict=True))


def _bridges(points: NDArray[np.float32], groups: NDArray[np.int32], draw: np.random.Generator) -> _Edges:
    """Return edges from every island to those next to it, by a sample of each."""
    most = max(1, min(_SAMPLES, 200_000 // (int(groups.max()) + 1)))
    shuffled = draw.permutation(len(points))
    order = shuffled[np.argsort(groups[shuffled], kind="stable")]
    rank = np.arange(len(order)) - np.searchsorted(groups[order], groups[order])
    sample = order[rank < most]
    # As many neighbours as an island has samples: one of them at least is on another island.
    neighbors, distances = plane_neighbors(points[sample], most)
    island = groups[sample]
    other = np.where(neighbors >= 0, island[neighbors] != island[:, None], False)
    row = np.flatnonzero(other.any(axis=1))
    first = other[row].argmax(axis=1)
    return (
        sample[row].astype(np.int32),
        sample[neighbors[row, first]].astype(np.int32),
        distances[row, first],
    )


def _partings(smaller: NDArray[np.int32], n: int, depths: int) -> list[int]:
    """Return for each depth how many points both sides of a merge must have for it to part clusters.

    Around the count that is wanted, the one is taken after which the next parting would be smaller by a large ratio:
    where the data have clusters of their own, that is their number.
    """
    most = np.sort(smaller[smaller >= _SMALLEST])[::-1].astype(np.float64)
    finest = float(np.clip(0.9 * n**0.5, 2.0, 1000.0))
    coarsest = min(finest, float(np.clip(2.0 * np.log10(n) - 0.5, 3.0, 12.0)))
    sizes: list[int] = []
    for depth in range(depths):
        share = depth / (depths - 1) if depths > 1 else 0.5
        target = coarsest ** (1 - share) * finest**share
        low, high = int(max(2, target * 0.5)), int(np.ceil(target * 1.4))
        counts = np.arange(low, min(high, len(most)) + 1)
        if len(counts):
            after = np.append(most, _SMALLEST / 2)[counts - 1]
            # Gaps shrink as counts grow, so they are weighed by the count; near the target is better than far.
            gap = counts * np.log(most[counts - 2] / after) * np.exp(-2.0 * np.log(counts / target) ** 2)
            count = int(counts[np.argmax(gap)])
        else:
            count = len(most) + 1
        sizes.append(int(most[count - 2]) if count >= 2 else n)
    return sizes


def _fill(labels: NDArray[np.int32], edges: _Edges, finer: NDArray[np.int32] | None) -> NDArray[np.int32]:
    """Give points outside the leaves to the near ones; clusters of a finer depth go as a whole."""
    start, end, length = edges
    if finer is None:
        count, unit, seeds = 0, np.arange(len(labels), dtype=np.int32), labels
    else:
        inside, count = finer >= 0, int(finer.max()) + 1
        unit = np.where(inside, finer, count + np.cumsum(~inside, dtype=np.int32) - 1).astype(np.int32)
        seeds = np.full(int(unit.max()) + 1, -1, dtype=np.int32)
        seeds[unit[~inside]] = labels[~inside]
        seeds[:count] = _majority(finer[inside], labels[inside], count)
    grown, joined = grow(seeds, unit[start], unit[end])
    # Nothing of a finer cluster is dropped: each has a parent.
    height = np.where((joined >= 0) & (np.arange(len(seeds)) >= count), length[joined], 0.0)
    inner = (grown[unit[start]] == grown[unit[end]]) & (grown[unit[start]] >= 0)
    label = grown[unit[start[inner]]]
    typical = np.bincount(label, weights=length[inner]) / np.maximum(np.bincount(label), 1)
    typical = np.append(typical, np.zeros(int(grown.max()) + 1 - len(typical)))
    limit = np.maximum(_FAR * typical[grown], np.quantile(height[unit], 1 - _OUTSIDE))
    grown[height > limit] = -1
    return grown[unit]


def _majority(units: NDArray[np.int32], labels: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """Return the label most points of each unit have, -1 where they have none."""
    has = labels >= 0
    found = np.full(count, -1, dtype=np.int32)
    pairs, votes = np.unique(units[has].astype(np.int64) << 32 | labels[has], return_counts=True)
    order = np.argsort(votes, kind="stable")
    found[pairs[order] >> 32] = (pairs[order] & 0xFFFFFFFF).astype(np.int32)
    return found


def _by_size(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Number labels by their count, largest first."""
    counts = np.bincount(labels[labels >= 0])
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(len(counts) + 1, dtype=np.int32)
    rank[order] = np.arange(len(counts))
    rank[-1] = -1
    return rank[labels]
