"""Single linkage over sorted edges: the tree, its leaves, and labels grown along it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.kernels import library, pointer

__all__ = ["Linkage", "grow", "leaves", "link"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Linkage:
    """Merges of points, closest first."""

    children: NDArray[np.int32]
    """[merges, 2] int32: what each merge joins; below n a point, n + i the i-th merge."""
    sizes: NDArray[np.int32]
    """[merges] int32 points."""
    edges: NDArray[np.int64]
    """[merges] int64: the edge that made each."""
    groups: NDArray[np.int32]
    """[n] int32: the set each point ends in, numbered in the order of the points."""


def link(n: int, start: NDArray[np.int32], end: NDArray[np.int32]) -> Linkage:
    """Merge points by edges, in the order given: with edges sorted by length, Kruskal's minimum spanning forest.

    Args:
        n: points.
        start: [edges] int32 points.
        end: [edges] int32 points.
    """
    kernels = library()
    if kernels is None or n == 0:
        return _link_slowly(n, start, end)
    start, end = _contiguous(start), _contiguous(end)
    children = np.empty((max(n - 1, 0), 2), dtype=np.int32)
    sizes = np.empty(len(children), dtype=np.int32)
    edges = np.empty(len(children), dtype=np.int64)
    groups = np.empty(n, dtype=np.int32)
    merges, sets = ctypes.c_int64(), ctypes.c_int64()
    if kernels.clusters_linkage(
        ctypes.c_int64(n), ctypes.c_int64(len(start)), pointer(start), pointer(end),
        pointer(children), pointer(sizes), pointer(edges), pointer(groups), ctypes.byref(merges), ctypes.byref(sets),
    ):  # fmt: skip
        raise MemoryError(f"no memory for the tree of {n:,} points")
    done = merges.value
    return Linkage(children=children[:done], sizes=sizes[:done], edges=edges[:done], groups=groups)


def leaves(n: int, children: NDArray[np.int32], split: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Label points by the leaves of a tree in which only some merges count as partings.

    Args:
        n: points, 1 or more.
        children: [n - 1, 2] int32, of a tree that joins all points.
        split: [n - 1] bool: the merges that count.

    Returns:
        [n] int32: leaves numbered from 0; -1 for points outside every leaf.
    """
    labels = np.empty(n, dtype=np.int32)
    kernels = library()
    if kernels is None:
        return _leaves_slowly(n, children, split)
    children, marks = np.ascontiguousarray(children, dtype=np.int32), np.ascontiguousarray(split, dtype=np.uint8)
    if kernels.clusters_leaves(ctypes.c_int64(n), pointer(children), pointer(marks), pointer(labels)):
        raise MemoryError(f"no memory for the tree of {n:,} points")
    return labels


def grow(
    labels: NDArray[np.int32], start: NDArray[np.int32], end: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Give points without a label that of the labelled point they are joined to first.

    The seeded watershed: edges are taken in order; sets of unlabelled points merge until one touches a label.

    Args:
        labels: [n] int32, -1 for none.
        start: [edges] int32 points, shortest edge first.
        end: [edges] int32 points.

    Returns:
        labels [n] int32; joined [n] int64: the edge that gave each its label, -1 where it had one or got none.
    """
    found = np.array(labels, dtype=np.int32)
    kernels = library()
    if kernels is None:
        return _grow_slowly(found, start, end)
    start, end = _contiguous(start), _contiguous(end)
    joined = np.empty(len(found), dtype=np.int64)
    if kernels.clusters_grow(
        ctypes.c_int64(len(found)), ctypes.c_int64(len(start)), pointer(start), pointer(end),
        pointer(found), pointer(joined),
    ):  # fmt: skip
        raise MemoryError(f"no memory to label {len(found):,} points")
    return found, joined


def _contiguous(points: NDArray[np.int32]) -> NDArray[np.int32]:
    return np.ascontiguousarray(points, dtype=np.int32)


def _find(parent: list[int], of: int) -> int:
    while parent[of] != of:
        parent[of] = parent[parent[of]]
        of = parent[of]
    return of


def _link_slowly(n: int, start: NDArray[np.int32], end: NDArray[np.int32]) -> Linkage:
    parent, node, size = list(range(n)), list(range(n)), [1] * n
    children: list[tuple[int, int]] = []
    sizes: list[int] = []
    edges: list[int] = []
    for edge, (one, other) in enumerate(zip(start.tolist(), end.tolist(), strict=True)):
        if len(children) == n - 1:
            break
        a, b = _find(parent, one), _find(parent, other)
        if a == b:
            continue
        children.append((node[a], node[b]))
        if size[a] < size[b]:
            a, b = b, a
        parent[b] = a
        size[a] += size[b]
        node[a] = n + len(sizes)
        sizes.append(size[a])
        edges.append(edge)
    roots = np.array([_find(parent, i) for i in range(n)], dtype=np.int64)
    _, first, place = np.unique(roots, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int32)
    rank[np.argsort(first)] = np.arange(len(first))
    return Linkage(
        children=np.array(children, dtype=np.int32).reshape(-1, 2),
        sizes=np.array(sizes, dtype=np.int32),
        edges=np.array(edges, dtype=np.int64),
        groups=rank[place.reshape(-1)],
    )


def _leaves_slowly(n: int, children: NDArray[np.int32], split: NDArray[np.bool_]) -> NDArray[np.int32]:
    pairs, marks = children.tolist(), split.tolist()
    parted = [False] * (2 * n - 1)
    for i, (a, b) in enumerate(pairs):
        parted[n + i] = marks[i] or parted[a] or parted[b]
    label = [-1] * (2 * n - 1)
    following = 0
    if not parted[-1]:
        label[-1], following = 0, 1
    for i in range(n - 2, -1, -1):
        for child in pairs[i]:
            label[child] = label[n + i]
            if marks[i] and not parted[child]:
                label[child] = following
                following += 1
    return np.array(label[:n], dtype=np.int32)


def _grow_slowly(
    labels: NDArray[np.int32], start: NDArray[np.int32], end: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    found, n = labels.tolist(), len(labels)
    joined = [-1] * n
    parent, members = list(range(n)), [[i] for i in range(n)]
    for edge, (a, b) in enumerate(zip(start.tolist(), end.tolist(), strict=True)):
        if a == b or (found[a] >= 0 and found[b] >= 0):
            continue
        if found[a] < 0 and found[b] < 0:
            a, b = _find(parent, a), _find(parent, b)
            if a != b:
                if len(members[a]) < len(members[b]):
                    a, b = b, a
                parent[b] = a
                members[a] += members[b]
            continue
        given = max(found[a], found[b])
        for i in members[_find(parent, a if found[a] < 0 else b)]:
            found[i], joined[i] = given, edge
    return np.array(found, dtype=np.int32), np.array(joined, dtype=np.int64)
