"""What sets a selection of rows apart from all others: phrases, values, topics, most typical rows and outliers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.column_values import ColumnValues
from gnomonic.atlas.keyphrases import count_phrases
from gnomonic.atlas.topics import Topics

__all__ = [
    "EXPLAINED_CHARACTERS", "EXPLAINED_ROWS", "FieldShare", "PhraseShare", "TopicShare", "central_rows", "draw_rows",
    "field_shares", "phrase_shares", "topic_shares",
]  # fmt: skip

EXPLAINED_ROWS = 2000
"""Rows inside, and as many outside, whose texts are compared."""
EXPLAINED_CHARACTERS = 600
"""Of each text, what is read."""
_LEAST_ROWS = 3
"""With fewer rows a value is chance."""
_LEAST_LIFT = 1.05
_SMALL = 0.01
"""Added to the share outside: what is nowhere else is not infinitely telling."""

_Mask = NDArray[np.bool_]
_Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class PhraseShare:
    """A phrase that is more frequent in the selection."""

    phrase: str
    share: float
    """Of the texts inside, how many hold it."""
    rest: float
    """Of those outside."""
    score: float
    """p log2(p / q) in bits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldShare:
    """A value of a column that is more frequent in the selection."""

    column: str
    value: str
    code: int
    share: float
    rest: float
    lift: float
    """share / rest; where no row outside has the value, as if half of one had."""
    count: int
    """Rows of the selection that have it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TopicShare:
    """How much of the selection is in a topic."""

    id: int
    name: str
    depth: int
    count: int
    share: float
    rest: float


def draw_rows(among: _Mask, count: int, *, seed: int = 0) -> _Rows:
    """Return some places where a mask is true, at random, ascending; all where there are no more than `count`."""
    there = np.flatnonzero(among)
    if len(there) <= count:
        return there
    drawn: _Rows = np.sort(np.random.default_rng(seed).choice(there, count, replace=False, shuffle=False))
    return drawn


def phrase_shares(inside: Sequence[str], outside: Sequence[str], *, count: int = 20) -> list[PhraseShare]:
    """Return the phrases of up to five words that set texts apart from others, best first, none a near repeat.

    A phrase counts by p log2(p / q), its term of the relative entropy of the two (Kullback and Leibler 1951), with
    p and q the shares of texts inside and outside that hold it.

    Args:
        inside: texts of the selection.
        outside: texts of other rows.
        count: phrases at most.
    """
    if not inside or not outside:
        return []
    texts = [text[:EXPLAINED_CHARACTERS] for text in (*inside, *outside)]
    sizes = np.array([len(inside), len(outside)], dtype=np.int64)
    phrases = count_phrases(texts, np.repeat(np.arange(2, dtype=np.int32), sizes), 2)
    if not phrases.texts:
        return []
    here, nowhere = np.array([[True, False]]), np.array([[False, False]])
    (best,) = phrases.best(here, nowhere, sizes, count=2 * count)
    place = {words: at for at, words in enumerate(map(frozenset, phrases.words))}
    found = []
    for one in best:
        share, rest = (float(value) for value in phrases.shares[:, place[one.words]])
        score = share * float(np.log2(share / (rest + _SMALL)))
        if share > rest and score > 0:
            found.append(PhraseShare(phrase=one.text, share=share, rest=rest, score=score))
    return sorted(found, key=lambda one: -one.score)[:count]


def field_shares(
    columns: ColumnValues, inside: _Mask, outside: _Mask, *, skip: Sequence[str] = (), count: int = 30
) -> list[FieldShare]:
    """Return the values of categories and bools that are more frequent in the selection, the most telling first.

    Counted over all rows. They are ordered by p log2(p / q), as phrases are.

    Args:
        columns: of the map.
        inside: [n] bool in map order.
        outside: [n] bool in map order: the rows it is compared with.
        skip: columns to leave out.
        count: values at most.
    """
    here, there = int(np.count_nonzero(inside)), int(np.count_nonzero(outside))
    if not here or not there:
        return []
    found: list[tuple[float, FieldShare]] = []
    for name, info in columns.infos.items():
        if info.kind not in ("category", "bool") or info.dtype is None or name in skip:
            continue
        own, other = columns.code_counts(name, inside)[0], columns.code_counts(name, outside)[0]
        names = columns.names(name)
        own, other = own[: len(names)], other[: len(names)]
        share, rest = own / here, np.maximum(other, 0.5) / there
        lift = share / rest
        score = share * np.log2(np.maximum(share, 1e-12) / (other / there + _SMALL))
        telling = np.flatnonzero((own >= _LEAST_ROWS) & (lift >= _LEAST_LIFT) & (score > 0))
        for code in telling[np.argsort(-score[telling], kind="stable")[:count]].tolist():
            value = FieldShare(
                column=name,
                value=names[code],
                code=code,
                share=float(share[code]),
                rest=float(other[code] / there),
                lift=float(lift[code]),
                count=int(own[code]),
            )
            found.append((float(score[code]), value))
    return [value for _, value in sorted(found, key=lambda one: -one[0])[:count]]


def topic_shares(topics: Topics, inside: _Mask, outside: _Mask, *, count: int = 200) -> list[TopicShare]:
    """Return how much of the selection is in each topic, coarse ones first, then the largest.

    Args:
        topics: of the map.
        inside: [n] bool in row order.
        outside: [n] bool in row order: the rows it is compared with.
        count: topics at most.
    """
    here, there = max(1, int(np.count_nonzero(inside))), max(1, int(np.count_nonzero(outside)))
    size = len(topics.topics) + 1
    own, other = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    for labels in topics.labels:
        # Outside of all topics is -1, which is counted in the last place.
        own += np.bincount(np.asarray(labels[inside]) % size, minlength=size)
        other += np.bincount(np.asarray(labels[outside]) % size, minlength=size)
    found = [
        TopicShare(
            id=one.id,
            name=one.name,
            depth=one.depth,
            count=int(own[one.id]),
            share=float(own[one.id] / here),
            rest=float(other[one.id] / there),
        )
        for one in topics.topics
        if own[one.id]
    ]
    return sorted(found, key=lambda one: (one.depth, -one.count))[:count]


def central_rows(vectors: NDArray[Any], rows: _Rows, *, cosine: bool, count: int = 8) -> tuple[_Rows, _Rows]:
    """Return the rows nearest to the mean of some rows' vectors, nearest first, and the farthest, farthest first.

    No row is both.

    Args:
        vectors: [n, dim] float16 or float32; a memory map is read once, in order.
        rows: which, ascending.
        cosine: whether vectors are directions.
        count: at most so many of each.
    """
    if not len(rows):
        return rows, rows
    found = np.asarray(vectors[rows], dtype=np.float32)
    if cosine:
        found = _units(found)
    mean = found.mean(axis=0, dtype=np.float64).astype(np.float32)
    away = -(found @ mean) if cosine else ((found - mean) ** 2).sum(axis=1)
    order = np.argsort(away, kind="stable")
    near = order[:count]
    return rows[near], rows[order[max(count, len(order) - count) :][::-1]]


def _units(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1.0), dtype=np.float32)
