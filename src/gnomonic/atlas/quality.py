"""How far a map can be trusted: what the plane keeps of the neighbourhoods and distances of the vectors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.kernel_calls import run_kernel
from gnomonic.atlas.kernels import threads
from gnomonic.atlas.plane import plane_neighbors
from gnomonic.atlas.progress import OnProgress, Progress, no_progress
from gnomonic.errors import InputError

if TYPE_CHECKING:
    from gnomonic.atlas.neighbors import NeighborGraph

__all__ = ["Quality", "measure_quality"]

_PRESERVED = 10
_TRUSTED = 15
_TRIPLETS_A_SAMPLE = 20
_BLOCK = 8192
_TIE = 2e-6
"""Scores nearer than this share of their scale are equal: float32 sums cannot tell them apart."""
_Z95 = 1.96


@dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """What a map keeps of its vectors, each from 0 (nothing) to 1 (all); None where there are too few rows to say.

    Beside each figure from a sample is half the width of its 95 % confidence interval, 0 if every row was compared.
    """

    neighbor_recall: float
    """Share of the true nearest neighbours by vector that the neighbour graph holds."""
    neighborhood_preservation: float | None
    """Mean share of a row's 10 nearest on the map that are among its 10 nearest by vector."""
    neighborhood_preservation_error: float
    trustworthiness: float | None
    """Of the 15 nearest on the map; low where rows lie together that are far apart by vector."""
    trustworthiness_error: float
    triplet_accuracy: float | None
    """Share of random triplets of rows in which the same one of two is the nearer to the third; chance gives 0.5."""
    triplet_accuracy_error: float
    noise_share: float | None
    """Share of rows that are in no topic; None without topics."""
    sampled_rows: int
    """Rows compared with all others."""


def measure_quality(
    vectors: NDArray[Any],
    xy: NDArray[np.float32],
    graph: NeighborGraph,
    labels: NDArray[np.int32] | None = None,
    *,
    seed: int = 0,
    samples: int = 1000,
    on_progress: OnProgress = no_progress,
) -> tuple[Quality, NDArray[np.uint8]]:
    """Measure a map as a whole, and point by point.

    Rows of equal distance are equally near: whichever of them the map puts closer, it keeps the neighbourhood.

    Args:
        vectors: [n, dim] float16 or float32, finite; a memory map is read in blocks.
        xy: [n, 2] float32 positions.
        graph: the vectors' neighbours; its metric is the one measured by.
        labels: [depths, n] int32 topics, -1 for none; None for a map without.
        seed: of the sample.
        samples: rows to compare with all others; all of them where there are no more.
        on_progress: told of the rows that the sample has been compared with.

    Returns:
        the quality; and trust [n] uint8, from 0 to 255: the share of a row's (up to 15) neighbours by vector which lie
        near it on the map, that is within twice the distance to its 15th neighbour there. A row without neighbours
        has 255.

    Raises:
        InputError: the arrays do not have a row each for the same rows, or positions are not finite.
    """
    count = len(vectors)
    for name, given in (("positions", len(xy)), ("rows in the neighbour graph", len(graph.indices))):
        if given != count:
            raise InputError(f"there are {given} {name} for {count} vectors; give one each")
    if labels is not None and labels.shape[1] != count:
        raise InputError(f"there are {labels.shape[1]} topic labels for {count} vectors; give one each")
    near, distances = plane_neighbors(np.asarray(xy), _TRUSTED)
    random = np.random.default_rng(seed)
    rows = np.sort(random.choice(count, size=min(samples, count), replace=False))
    space = _Space(vectors, graph.metric, rows)
    ranks = _ranks(space, rows, near[rows], on_progress)
    preservation, trustworthiness = _neighborhoods(ranks, count)
    accuracy = _triplets(space, np.asarray(xy), random, _TRIPLETS_A_SAMPLE * len(rows))
    noise = None
    if labels is not None and count:
        noise = float((labels < 0).all(axis=0).mean())
    quality = Quality(
        neighbor_recall=float(graph.recall),
        neighborhood_preservation=preservation[0],
        neighborhood_preservation_error=preservation[1],
        trustworthiness=trustworthiness[0],
        trustworthiness_error=trustworthiness[1],
        triplet_accuracy=accuracy[0],
        triplet_accuracy_error=accuracy[1],
        noise_share=noise,
        sampled_rows=len(rows),
    )
    return quality, _trust(np.asarray(xy), graph.indices, distances)


class _Space:
    """The vectors with a score for nearness: the cosine, or x·y − |y|²/2, which orders y as the distance to x does."""

    def __init__(self, vectors: NDArray[Any], metric: str, sample: NDArray[np.int64]) -> None:
        self.vectors = vectors
        self.cosine = metric == "cosine"
        # Distances between positions far from zero would drown in rounding.
        middle = vectors[sample].astype(np.float64).mean(axis=0) if len(sample) and not self.cosine else 0.0
        self._middle = np.asarray(middle, dtype=np.float32)

    def take(self, rows: NDArray[np.int64] | slice) -> NDArray[np.float32]:
        """Return vectors [rows, dim] as float32: of unit length for cosines (zeros stay), else around the middle."""
        found: NDArray[np.float32] = np.array(self.vectors[rows], dtype=np.float32)
        if not self.cosine:
            found -= self._middle
            return found
        squared = np.einsum("nd,nd->n", found, found)
        # Squares of very large components overflow and those of very small ones vanish.
        odd = ~((squared > 1e-20) & (squared < 1e30))
        if odd.any():
            largest = np.abs(found[odd]).max(axis=1, keepdims=True, initial=0.0)
            found[odd] /= np.where(largest > 0, largest, np.float32(1))
            squared[odd] = np.einsum("nd,nd->n", found[odd], found[odd])
        found /= np.sqrt(np.where(squared > 0, squared, np.float32(1)))[:, None]
        return found

    def scores(self, queries: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """Yield the scores [queries, block] of all vectors, block after block."""
        for begin in range(0, len(self.vectors), _BLOCK):
            block = self.take(slice(begin, begin + _BLOCK))
            found = queries @ block.T
            if not self.cosine:
                found -= self.loss(block)
            yield found

    def loss(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what is taken from the products with these vectors, [...] for [..., dim]."""
        if self.cosine:
            return np.zeros(vectors.shape[:-1], dtype=np.float32)
        half: NDArray[np.float32] = np.einsum("...d,...d->...", vectors, vectors) / np.float32(2)
        return half


def _ranks(
    space: _Space, rows: NDArray[np.int64], others: NDArray[np.int32], on_progress: OnProgress
) -> NDArray[np.int64]:
    """Return how many rows are nearer by vector to `rows` [s] than each of `others` [s, k] is; [s, k], -1 for none."""
    queries = space.take(rows)
    thresholds = np.empty(others.shape, dtype=np.float32)
    for begin in range(0, len(rows), 256):
        part = others[begin : begin + 256]
        found = space.take(np.maximum(part, 0).ravel().astype(np.int64)).reshape(*part.shape, -1)
        mine = queries[begin : begin + 256]
        scores = np.einsum("skd,sd->sk", found, mine) - space.loss(found)
        scale = np.linalg.norm(mine, axis=1)[:, None] * np.linalg.norm(found, axis=2) + space.loss(found)
        thresholds[begin : begin + 256] = scores + _TIE * scale
    counts = np.zeros(others.shape, dtype=np.int64)
    # The row itself is nearer than any other, and is none of its neighbours.
    own = np.einsum("sd,sd->s", queries, queries) - space.loss(queries)
    counts -= own[:, None] > thresholds
    done = 0
    for scores in space.scores(queries):
        _count_above(scores, thresholds, counts)
        done += scores.shape[1]
        on_progress(Progress(stage="quality", done=done, total=len(space.vectors)))
    return np.where(others < 0, -1, np.maximum(counts, 0))


def _count_above(scores: NDArray[np.float32], thresholds: NDArray[np.float32], counts: NDArray[np.int64]) -> None:
    """Add to counts [s, k] how many of scores [s, width] lie above each of thresholds [s, k]."""
    scores = np.ascontiguousarray(scores, dtype=np.float32)
    if not run_kernel("count_above", scores, *scores.shape, thresholds, thresholds.shape[1], counts, threads()):
        for column in range(thresholds.shape[1]):
            counts[:, column] += np.count_nonzero(scores > thresholds[:, column, None], axis=1)


def _neighborhoods(ranks: NDArray[np.int64], count: int) -> tuple[tuple[float | None, float], ...]:
    """Return neighbourhood preservation and trustworthiness, each with its error.

    Trustworthiness T(k) = 1 - 2 / (n k (2n - 3k - 1)) · Σ_i Σ_{j ∈ U_k(i)} (r(i, j) - k), where U_k(i) are the k
    nearest of i on the map which are not among its k nearest by vector, and r(i, j) is the rank of j by vector
    (Venna and Kaski, Neighborhood preservation in nonlinear projection methods, 2001, equation 1).
    """
    kept = min(_PRESERVED, count - 1)
    shares = (ranks[:, :kept] < kept).mean(axis=1) if kept > 0 else np.empty(0)
    k = min(_TRUSTED, (count - 1) // 2)
    if k < 1:
        return _mean(shares, count), (None, 0.0)
    excess = np.maximum(ranks[:, :k] + 1 - k, 0).sum(axis=1)
    return _mean(shares, count), _mean(1 - 2 * excess / (k * (2 * count - 3 * k - 1)), count)


def _triplets(
    space: _Space, xy: NDArray[np.float32], random: np.random.Generator, wanted: int
) -> tuple[float | None, float]:
    """Return the share of random triplets whose order of distances the map keeps, and its error.

    Triplets that tie by vector say nothing and are left out; those that tie on the map alone count half.
    """
    count = len(xy)
    if count < 3:
        return None, 0.0
    # Three different rows: the second and third are counted from the one before.
    first, second, third = (random.integers(0, count - taken, wanted) for taken in range(3))
    second = (first + 1 + second) % count
    low, high = np.minimum(first, second), np.maximum(first, second)
    third += third >= low
    third += third >= high
    kept = []
    for begin in range(0, wanted, 2048):
        i, j, m = (rows[begin : begin + 2048] for rows in (first, second, third))
        mine, one, other = space.take(i), space.take(j), space.take(m)
        lead = np.einsum("nd,nd->n", one - other, mine) - (space.loss(one) - space.loss(other))
        scale = np.linalg.norm(mine, axis=1) * np.linalg.norm(one - other, axis=1)
        scale += space.loss(one) + space.loss(other)
        at, to_one, to_other = (xy[rows].astype(np.float64) for rows in (i, j, m))
        plane = ((at - to_other) ** 2).sum(axis=1) - ((at - to_one) ** 2).sum(axis=1)
        told = np.abs(lead) > _TIE * scale
        kept.append(0.5 + 0.5 * (np.sign(lead) * np.sign(plane))[told])
    return _mean(np.concatenate(kept), math.inf)


def _mean(values: NDArray[np.float64], population: float) -> tuple[float | None, float]:
    """Return the mean of a sample, None of nothing, and half its 95 % interval for a population of that size."""
    size = len(values)
    if not size:
        return None, 0.0
    if size < 2 or size >= population:
        return float(values.mean()), 0.0
    left = 1.0 if math.isinf(population) else (population - size) / (population - 1)
    return float(values.mean()), float(_Z95 * values.std(ddof=1) * math.sqrt(left / size))


def _trust(xy: NDArray[np.float32], neighbors: NDArray[np.int32], distances: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the share of each row's neighbours by vector that lie near it on the map, as 0 to 255."""
    trust = np.full(len(xy), 255, dtype=np.uint8)
    for begin in range(0, len(xy), _BLOCK):
        part = np.asarray(neighbors[begin : begin + _BLOCK, :_TRUSTED])
        away = xy[np.maximum(part, 0)].astype(np.float64) - xy[begin : begin + _BLOCK, None]
        length = np.sqrt((away * away).sum(axis=2))
        # Fewer than 15 others: all of them are near.
        near = (length <= 2.0 * distances[begin : begin + _BLOCK, -1:]) & (part >= 0)
        known = (part >= 0).sum(axis=1)
        share = near.sum(axis=1) / np.maximum(known, 1)
        trust[begin : begin + _BLOCK] = np.where(known > 0, np.rint(255 * share), 255)
    return trust
