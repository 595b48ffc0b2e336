"""The graph of nearest neighbours, and the neighbours of new vectors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.best_matches import SPARE, BestLists, exact_distances, nearest_of_all, row_groups, zero_bias
from gnomonic.atlas.cell_search import search_cells
from gnomonic.atlas.kernel_calls import run_kernel
from gnomonic.atlas.kernels import threads
from gnomonic.atlas.options import NeighborOptions
from gnomonic.atlas.progress import OnProgress, Progress, no_progress
from gnomonic.atlas.vector_rows import (
    IdenticalRows,
    VectorRows,
    check_vectors,
    identical_rows,
    survey_rows,
    unit_scale,
)
from gnomonic.errors import DatasetError, InputError

__all__ = ["NeighborGraph", "build_neighbors", "effective_metric", "query_neighbors"]

_POSITION_DIM = 3
"""Vectors of up to this many dimensions are positions."""
_FEW_QUERIES = 4
"""Up to this many are compared straight with the stored rows, which costs one pass over them each."""
_BASE_BYTES = 64 << 20
_QUERY_ROWS = 16_384


@dataclass(frozen=True, kw_only=True, slots=True)
class NeighborGraph:
    """Each row's nearest other rows."""

    indices: NDArray[np.int32]
    """[n, k] int32, nearest first; -1 where there are fewer than k other rows."""
    distances: NDArray[np.float32]
    """[n, k] float32, ascending: 1 - cosine, or Euclidean; inf where there is no neighbour.

    Identical rows are at 0 from each other. A zero vector is at cosine distance 0 from zero vectors and 1 from others.
    """
    metric: str
    recall: float
    """Share of the true neighbours found, 1.0 where every pair was compared, else measured on up to 1,000 rows."""
    exact: bool

    def save(self, folder: Path) -> None:
        """Write the graph into a folder that exists: two .npy files and a small .json."""
        np.save(folder / "indices.npy", self.indices, allow_pickle=False)
        np.save(folder / "distances.npy", self.distances, allow_pickle=False)
        told = {"metric": self.metric, "recall": self.recall, "exact": self.exact}
        (folder / "neighbors.json").write_text(json.dumps(told), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a graph that `save` wrote; its arrays are read-only memory maps.

        Raises:
            DatasetError: a file is absent or damaged.
        """
        try:
            told = json.loads((folder / "neighbors.json").read_text(encoding="utf-8"))
            indices, distances = (
                np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ("indices", "distances")
            )
            return cls(
                indices=indices,
                distances=distances,
                metric=str(told["metric"]),
                recall=float(told["recall"]),
                exact=bool(told["exact"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DatasetError(
                f"the neighbour graph in {folder} cannot be read ({error}); build the map again"
            ) from error


def effective_metric(metric: str, dim: int) -> str:
    """Return the metric that vectors of a size are compared by: up to three dimensions are positions, "euclidean".

    Args:
        metric: the one asked for, "cosine" or "euclidean".
        dim: numbers in a vector.

    Raises:
        InputError: there is no such metric.
    """
    if metric not in ("cosine", "euclidean"):
        raise InputError(f"metric {metric!r} is unknown; choose one of cosine, euclidean")
    return "euclidean" if dim <= _POSITION_DIM else metric


def build_neighbors(
    vectors: NDArray[Any],
    options: NeighborOptions = NeighborOptions(),  # noqa: B008
    *,
    seed: int = 0,
    on_progress: OnProgress = no_progress,
) -> NeighborGraph:
    """Find the nearest other rows of every row.

    Below `options.exact_below` rows every pair is compared. Above, rows are cut into cells and meet those of the cells
    around them, as many as a sample with known neighbours asks for, so that most of the true neighbours are found. Of
    identical rows each lists the next ones of its group, in a ring, so that none is a neighbour of all.

    Args:
        vectors: [n, d] float16 or float32, or a memory map of them; other numbers are converted to float32.
        options: k, metric and when to be exact.
        seed: the same seed gives the same graph.
        on_progress: told how many rows' worth of the work is done.

    Raises:
        InputError: the vectors are no matrix of finite numbers; it names the first bad row.
    """
    vectors = check_vectors(vectors)
    n, k = len(vectors), options.k

    def report(share: float) -> None:
        on_progress(Progress(stage="neighbors", done=share * n, total=n))

    metric = effective_metric(options.metric, vectors.shape[1])
    report(0.0)
    rows, digests = survey_rows(vectors, metric=metric)
    same = identical_rows(vectors, digests)
    if same is not None:
        rows = rows.rows(same.first)
    within = max(0, min(k, len(rows) - 1))
    exact = len(rows) < options.exact_below or not within
    recall = 1.0
    if not within:
        ids, distances = np.empty((len(rows), 0), dtype=np.int32), np.empty((len(rows), 0), dtype=np.float32)
    elif exact:
        ids, distances = nearest_of_all(rows, np.arange(len(rows)), within, report)
    else:
        ids, distances, recall = search_cells(rows, within, seed=seed, report=report)
    if within < k:
        ids = np.pad(ids, ((0, 0), (0, k - within)), constant_values=-1)
        distances = np.pad(distances, ((0, 0), (0, k - within)), constant_values=np.inf)
    if same is not None:
        ids, distances = _expand(same, ids, distances)
    report(1.0)
    return NeighborGraph(indices=ids, distances=distances, metric=metric, recall=recall, exact=exact)


def query_neighbors(
    vectors: NDArray[Any],
    queries: NDArray[Any],
    k: int,
    *,
    metric: str = "cosine",
    among: NDArray[np.int64] | NDArray[np.bool_] | None = None,
    on_progress: OnProgress = no_progress,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Find the nearest rows of each query, every pair compared.

    Args:
        vectors: [n, d] float16 or float32, or a memory map of them, finite.
        queries: [m, d] real numbers.
        k: rows wanted for each query, at least 1.
        metric: "cosine" or "euclidean", taken as it is whatever the dimension.
        among: the rows that count: their numbers [r] int64, each once, or a mask [n] bool; None for all.
        on_progress: told how many queries are answered.

    Returns:
        row numbers [m, k'] int32 and distances [m, k'] float32, ascending; k' is k or the number of rows that count,
        whichever is less.

    Raises:
        InputError: sizes do not fit, a query is not finite, or `among` names rows that are not there.
    """
    vectors, queries = check_vectors(vectors), check_vectors(queries)
    if vectors.shape[1] != queries.shape[1]:
        raise InputError(
            f"queries have {queries.shape[1]} numbers each and vectors {vectors.shape[1]}; they must match"
        )
    if metric not in ("cosine", "euclidean"):
        raise InputError(f"metric {metric!r} is unknown; choose one of cosine, euclidean")
    if k < 1:
        raise InputError(f"k {k} is out of range; ask for at least 1 neighbour")
    base = _base(among, len(vectors))
    asked, _ = survey_rows(queries, metric=metric)
    k = min(k, len(base))
    if k == 0:
        return np.empty((len(queries), 0), dtype=np.int32), np.empty((len(queries), 0), dtype=np.float32)
    # The lengths of rows are taken as they are met.
    scale = np.ones(len(vectors), dtype=np.float32) if metric == "cosine" else None
    rows = VectorRows(vectors=vectors, scale=scale)
    ids = np.empty((len(queries), k), dtype=np.int32)
    distances = np.empty((len(queries), k), dtype=np.float32)
    find = _scan if len(queries) <= _FEW_QUERIES else _meet
    for begin in range(0, len(queries), _QUERY_ROWS):
        part = asked.part(begin, begin + _QUERY_ROWS)
        candidates = find(rows, base, part, min(k + SPARE, len(base)))
        done = slice(begin, begin + len(part))
        ids[done], distances[done] = exact_distances(part, rows, candidates, k)
        on_progress(Progress(stage="search", done=begin + len(part), total=len(queries), unit="queries"))
    return ids, distances


def _base(among: NDArray[Any] | None, n: int) -> NDArray[np.int64]:
    """Return the numbers of the rows that count [r] int64, ascending."""
    if among is None:
        return np.arange(n)
    if among.dtype == np.bool_:
        if among.shape != (n,):
            raise InputError(f"the mask of rows has shape {among.shape}; it must be ({n},), one for each vector")
        return np.flatnonzero(among)
    if among.ndim != 1 or (among.size and among.dtype.kind not in "iu"):
        raise InputError(f"`among` of shape {among.shape} and type {among.dtype} is no list of row numbers")
    base = np.unique(among).astype(np.int64)
    if len(base) and (base[0] < 0 or base[-1] >= n):
        raise InputError(f"row {base[0] if base[0] < 0 else base[-1]} is not there; rows are 0 to {n - 1}")
    return base


def _scan(rows: VectorRows, base: NDArray[np.int64], queries: VectorRows, keep: int) -> NDArray[np.int32]:
    """Return candidates [m, keep] int32, each query compared straight with the stored rows."""
    vectors, half, _, scale = rows.arguments
    found = np.empty((len(queries), keep), dtype=np.int32)
    scores = np.empty(len(base), dtype=np.float32)
    which = None if len(base) == len(vectors) else base
    for number, query in enumerate(queries.read()):
        if not run_kernel(
            "neighbors_scan",
            vectors,
            half,
            rows.dim,
            which,
            len(base),
            query,
            int(scale is not None),
            scores,
            threads(),
        ):
            return _meet(rows, base, queries, keep)
        found[number] = best = base[np.argpartition(-scores, keep - 1)[:keep]]
        if rows.scale is not None:
            rows.scale[best] = _scale_of(VectorRows(vectors=vectors, which=best).read())
    return found


def _meet(rows: VectorRows, base: NDArray[np.int64], queries: VectorRows, keep: int) -> NDArray[np.int32]:
    """Return candidates [m, keep] int32, all queries compared with a block of rows at a time."""
    lists = BestLists.empty(len(queries), keep)
    size = max(1, _BASE_BYTES // (4 * rows.dim))
    for begin in range(0, len(base), size):
        part = base[begin : begin + size]
        block = VectorRows(vectors=VectorRows(vectors=rows.vectors, which=part).read())
        if rows.scale is not None:
            rows.scale[part] = scale = _scale_of(block.vectors)
            block = VectorRows(vectors=block.vectors, scale=scale)
        lists.join(
            queries,
            block,
            bias=zero_bias(block.zeros()),
            differences=rows.scale is None,
            groups=row_groups(len(queries)),
            segments=np.array([[0, len(part)]], dtype=np.int64),
            first_id=begin,
        )
    return np.where(lists.ids >= 0, base[lists.ids], -1).astype(np.int32)


def _scale_of(block: NDArray[np.float32]) -> NDArray[np.float32]:
    return unit_scale(np.einsum("ij,ij->i", block, block, dtype=np.float64))


def _expand(
    same: IdenticalRows, ids: NDArray[np.int32], distances: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the neighbours of all rows [n, k] from those of the groups [groups, k].

    A row has the rest of its group first, then the members of the groups near its own. It begins with the member at
    its own place in the group, or the one after it, so that the members of a large group are listed equally often.
    """
    n, k = len(same.group), ids.shape[1]
    sizes = np.diff(same.starts)
    all_ids = np.full((n, k), -1, dtype=np.int32)
    all_distances = np.full((n, k), np.inf, dtype=np.float32)
    place = np.empty(n, dtype=np.int64)
    place[same.order] = np.arange(n) - np.repeat(same.starts[:-1], sizes)
    for begin in range(0, n, 65_536):
        rows = np.arange(begin, min(begin + 65_536, n))
        group = same.group[rows]
        # Column 0 is the row's own group, whose other members are at distance 0.
        near = np.concatenate([group[:, None], ids[group]], axis=1)
        held = np.where(near >= 0, sizes[near], 0)
        held[:, 0] -= 1
        ends = np.cumsum(held, axis=1)
        for slot in range(k):
            column = (ends <= slot).sum(axis=1)
            there = column <= k
            column = np.minimum(column, k)
            # Where all of a row's groups are used up, any other stands in; what it gives is not kept.
            chosen = np.maximum(near[np.arange(len(rows)), column], 0)
            offset = slot - ends[np.arange(len(rows)), column] + held[np.arange(len(rows)), column]
            offset += place[rows] + (column == 0)
            member = same.order[same.starts[chosen] + offset % sizes[chosen]]
            away = np.where(column == 0, 0, distances[group, np.maximum(column - 1, 0)])
            all_ids[rows, slot] = np.where(there, member, -1)
            all_distances[rows, slot] = np.where(there, away, np.inf)
    return all_ids, all_distances
