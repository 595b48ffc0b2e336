"""Topics: the regions of a map with their names, keywords and central rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.keyphrases import Phrases, count_phrases
from gnomonic.atlas.naming import TopicBrief, ask_for_names
from gnomonic.atlas.options import TopicOptions
from gnomonic.atlas.progress import OnProgress, Progress, no_progress
from gnomonic.atlas.topic_names import Name, Tree, label_names, number_names, phrase_names
from gnomonic.errors import InputError

__all__ = ["Topic", "Topics", "build_topics"]

_SAMPLED_ROWS = 50_000
"""Rows whose vectors are read for means and exemplars, shared evenly by the finest topics."""
_READ_ROWS = 10_000
"""Those of them whose texts are read."""
_MOST_ROWS, _LEAST_ROWS = 300, 24
"""Of them, those of one of the finest topics."""
_CHARACTERS = 800
"""Of each text, what is read: the beginning says what it is about."""
_EXEMPLARS = 8
_POSITION_DIM = 3
"""Vectors of up to this many dimensions are positions; longer ones are directions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Topic:
    """A region of the map."""

    id: int
    """Its place in `Topics.topics`."""
    depth: int
    """1 is the coarsest."""
    parent: int | None
    """The topic of the depth above that it lies in; None at depth 1."""
    name: str
    """Unlike that of any other topic of the map."""
    description: str
    """The keywords, joined by "/"."""
    keywords: tuple[str, ...]
    count: int
    """Rows."""
    x: float
    y: float
    """A point of the plane in its middle, where one of its rows is."""
    exemplars: tuple[int, ...]
    """Rows nearest the mean of its vectors, nearest first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Topics:
    """The topics of a map."""

    topics: tuple[Topic, ...]
    """By id: those of depth 1 first, at each depth the largest first."""
    labels: NDArray[np.int32]
    """[depths, n] int32: the topic of each row at each depth, -1 for none."""
    centroids: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))
    """[topics, dim] float32: the mean of a sample of each topic's vectors, of unit length where they are directions;
    [0, 0] where they are not known."""

    def save(self, folder: Path) -> None:
        """Write topics.json, labels.npy and centroids.npy."""
        text = json.dumps([asdict(topic) for topic in self.topics], ensure_ascii=False, indent=1)
        (folder / "topics.json").write_text(text, encoding="utf-8")
        np.save(folder / "labels.npy", self.labels)
        np.save(folder / "centroids.npy", self.centroids)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; the arrays stay on disk until they are used."""
        read = json.loads((folder / "topics.json").read_text(encoding="utf-8"))
        return cls(
            topics=tuple(
                Topic(**{**one, "keywords": tuple(one["keywords"]), "exemplars": tuple(one["exemplars"])})
                for one in read
            ),
            labels=np.load(folder / "labels.npy", mmap_mode="r"),
            centroids=np.load(folder / "centroids.npy", mmap_mode="r"),
        )


def build_topics(
    xy: NDArray[np.float32],
    *,
    labels: NDArray[np.int32],
    texts: Callable[[NDArray[np.int64]], list[str]] | None,
    vectors: NDArray[Any],
    options: TopicOptions | None = None,
    embed: Callable[[list[str]], NDArray[np.float32]] | None = None,
    seed: int = 0,
    on_progress: OnProgress = no_progress,
) -> Topics:
    """Describe and name clusters.

    Names come from the phrases that set a topic's texts apart; without texts they are "Region 1", "Region 1.2", …;
    `options.labels` and `options.naming_url` replace them.

    Args:
        xy: [n, 2] float32 positions.
        labels: [depths, n] int32 of `clusters.cluster`: the coarsest depth first, each cluster inside one of the
            depth above.
        texts: gives the texts of some rows, in their order; None where the map has none.
        vectors: [n, dim] float16 or float32, a memory map too; only sampled rows are read.
        options: the labels or endpoint to name with.
        embed: gives texts their vectors [texts, dim] float32 by the model that gave the rows theirs.
        seed: of the sample of rows.
        on_progress: is told of topics done.

    Raises:
        InputError: the shapes do not fit, or there are `options.labels` and no `embed`.
    """
    options = options or TopicOptions()
    if labels.ndim != 2 or not (labels.shape[1] == len(xy) == len(vectors)):
        raise InputError(
            f"labels {labels.shape}, positions {xy.shape} and vectors {vectors.shape} are not of the same rows"
        )
    if options.labels and embed is None:
        raise InputError("labels need a model to compare them with topics, and the map has none; leave labels out")
    tree = _tree(labels)
    on_progress(Progress(stage="topics", done=0, total=len(tree.parents), unit="topics"))
    sample, group = _sample(labels, np.random.default_rng(seed))
    centroids, exemplars = _centers(tree, sample, group, vectors)
    phrases = _phrases(tree, sample, group, texts) if texts is not None and len(sample) else None
    names = number_names(tree) if phrases is None else phrase_names(tree, phrases, embed, centroids)
    if options.labels and embed is not None:
        own = [label for label in options.labels if label.strip()]
        names = label_names(names, own, _units(np.asarray(embed(own), dtype=np.float32)), centroids)
    if options.naming_url:
        names = _asked(tree, names, exemplars, texts, options, on_progress)
    topics = tuple(
        Topic(
            id=one, depth=tree.depths[one], parent=tree.parents[one], name=names[one].name,
            description="/".join(names[one].keywords), keywords=names[one].keywords, count=tree.counts[one],
            x=point[0], y=point[1], exemplars=tuple(exemplars[one]),
        )
        for one, point in enumerate(_middles(labels, xy))
    )  # fmt: skip
    on_progress(Progress(stage="topics", done=len(topics), total=len(topics), unit="topics"))
    return Topics(topics=topics, labels=_topic_labels(tree, labels), centroids=centroids)


def _tree(labels: NDArray[np.int32]) -> Tree:
    """Number the clusters of all depths in one row."""
    sizes = [int(row.max(initial=-1)) + 1 for row in labels]
    first = np.cumsum([0, *sizes])
    parents: list[int | None] = []
    depths: list[int] = []
    counts: list[int] = []
    for depth, row in enumerate(labels):
        counts.extend(np.bincount(row[row >= 0], minlength=sizes[depth]).tolist())
        depths.extend([depth + 1] * sizes[depth])
        if depth == 0:
            parents.extend([None] * sizes[0])
            continue
        some = np.zeros(sizes[depth], dtype=np.int64)
        some[row[row >= 0]] = np.flatnonzero(row >= 0)
        parents.extend((labels[depth - 1][some] + first[depth - 1]).tolist())
    return Tree.of(parents, depths, counts)


def _topic_labels(tree: Tree, labels: NDArray[np.int32]) -> NDArray[np.int32]:
    depths = np.array(tree.depths, dtype=np.int64)
    first = np.searchsorted(depths, np.arange(1, len(labels) + 1)).astype(np.int32)
    return np.where(labels >= 0, labels + first[:, None], np.int32(-1)).astype(np.int32)


def _sample(labels: NDArray[np.int32], draw: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return rows of each finest topic, at random and at most some of each, sorted by topic; and their topics."""
    if not len(labels):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int32)
    finest = labels[-1]
    shuffled = draw.permutation(len(finest))
    shuffled = shuffled[finest[shuffled] >= 0]
    order = shuffled[np.argsort(finest[shuffled], kind="stable")]
    rank = np.arange(len(order)) - np.searchsorted(finest[order], finest[order])
    share = _SAMPLED_ROWS // max(int(finest.max(initial=-1)) + 1, 1)
    kept = order[rank < min(max(share, _LEAST_ROWS), _MOST_ROWS)]
    return kept, finest[kept]


def _phrases(
    tree: Tree, sample: NDArray[np.int64], group: NDArray[np.int32], texts: Callable[[NDArray[np.int64]], list[str]]
) -> Phrases:
    """Count the phrases of sampled rows by finest topic."""
    share, shared = _thinned(group, _READ_ROWS)
    order = np.argsort(sample[share])
    read = [text[:_CHARACTERS] for text in texts(sample[share[order]])]
    return count_phrases(read, shared[order], tree.groups)


def _thinned(group: NDArray[np.int32], most: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return which of the sampled rows, sorted by topic, to take so that there are about so many; and their topics."""
    each = max(_LEAST_ROWS, most // (int(group[-1]) + 1))
    rank = np.arange(len(group)) - np.searchsorted(group, group)
    # What small topics do not use goes to the others.
    while each < _MOST_ROWS and np.count_nonzero(rank < each * 1.25) <= most:
        each = int(each * 1.25) + 1
    kept = np.flatnonzero(rank < each)
    return kept, group[kept]


def _centers(
    tree: Tree, sample: NDArray[np.int64], group: NDArray[np.int32], vectors: NDArray[Any]
) -> tuple[NDArray[np.float32], list[list[int]]]:
    """Return the mean vector of each topic, and its rows of the sample that are nearest to it."""
    # Read in order, as a memory map is read fastest.
    order = np.argsort(sample)
    found = np.empty((len(sample), vectors.shape[1]), dtype=np.float32)
    found[order] = _directions(vectors[sample[order]])
    begins = np.searchsorted(group, np.arange(tree.groups + 1))
    means = np.zeros((tree.groups, found.shape[1]), dtype=np.float32)
    for one, (begin, end) in enumerate(pairwise(begins)):
        means[one] = found[begin:end].mean(axis=0)
    weights = np.where(tree.inside, tree.rows, 0).astype(np.float32)
    centroids = (weights / np.maximum(weights.sum(axis=1, keepdims=True), 1.0)) @ means
    if found.shape[1] > _POSITION_DIM:
        centroids = _units(centroids)
    exemplars: list[list[int]] = []
    for topic in range(len(tree.parents)):
        parts = np.flatnonzero(tree.inside[topic])
        each = max(_EXEMPLARS, _MOST_ROWS // max(len(parts), 1))
        rows = np.concatenate([np.arange(begins[one], min(begins[one] + each, begins[one + 1])) for one in parts])
        away = ((found[rows] - centroids[topic]) ** 2).sum(axis=1)
        exemplars.append(sample[rows[np.argsort(away, kind="stable")[:_EXEMPLARS]]].tolist())
    return centroids, exemplars


def _directions(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Return vectors as float32, of unit length unless they are positions of up to three dimensions."""
    read = np.asarray(vectors, dtype=np.float32)
    return _units(read) if read.shape[1] > _POSITION_DIM else read


def _units(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1.0), dtype=np.float32)


def _middles(labels: NDArray[np.int32], xy: NDArray[np.float32]) -> list[tuple[float, float]]:
    """Return for each topic the position of its row nearest the medians of their coordinates."""
    found: list[tuple[float, float]] = []
    for row in labels:
        order = np.argsort(row, kind="stable")
        begins = np.searchsorted(row[order], np.arange(int(row.max(initial=-1)) + 2))
        for begin, end in pairwise(begins):
            points = xy[order[begin:end]].astype(np.float64)
            away = ((points - np.median(points, axis=0)) ** 2).sum(axis=1)
            nearest = points[int(away.argmin())]
            found.append((float(nearest[0]), float(nearest[1])))
    return found


def _asked(
    tree: Tree,
    names: Sequence[Name],
    exemplars: Sequence[Sequence[int]],
    texts: Callable[[NDArray[np.int64]], list[str]] | None,
    options: TopicOptions,
    on_progress: OnProgress,
) -> list[Name]:
    """Have an endpoint word the names, the finest topics first."""
    finest = [one for one in range(len(names)) if not tree.children[one]]
    examples: dict[int, tuple[str, ...]] = {}
    if texts is not None and finest:
        rows = np.concatenate([np.array(exemplars[one], dtype=np.int64) for one in finest])
        read = iter(texts(rows))
        examples = {one: tuple(next(read) for _ in exemplars[one]) for one in finest}
    briefs = [
        TopicBrief(
            name=name.name,
            keywords=name.keywords,
            children=tuple(tree.children[one]),
            examples=examples.get(one, ()),
        )
        for one, name in enumerate(names)
    ]
    order = sorted(range(len(names)), key=lambda one: -tree.depths[one])
    worded = ask_for_names(
        briefs, order, url=options.naming_url or "", model=options.naming_model, on_progress=on_progress
    )
    return [Name(name, one.keywords) for name, one in zip(worded, names, strict=True)]
