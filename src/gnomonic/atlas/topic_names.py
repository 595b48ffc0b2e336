"""Names of topics: by their phrases, by labels of the user's own, or by numbers; no two of a map alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.keyphrases import Phrase, Phrases
from gnomonic.atlas.words import title

__all__ = ["Name", "Tree", "label_names", "number_names", "phrase_names", "unique"]

_CANDIDATES = 25
"""Phrases that are compared with a topic in meaning."""
_NAMING, _KEYWORDS = 12, 6
_MEANING = 3.0
"""How much nearness in meaning counts against the rank by counts."""
_ENOUGH_PHRASE = 0.3
_ENOUGH_WORD = 0.75
"""A phrase, or a word, that this share of the texts hold names a topic alone; below it a second one is added."""
_SECOND, _SECOND_OF_FIRST = 0.08, 0.3
"""The second one is in this share of the texts, or in this share of those that the first is in."""


@dataclass(frozen=True, slots=True)
class Name:
    """How a topic is called."""

    name: str
    keywords: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    """Topics of all depths as one list; parents come before their children."""

    parents: list[int | None]
    depths: list[int]
    """From 1."""
    counts: list[int]
    """Rows."""
    children: list[list[int]]
    inside: NDArray[np.bool_]
    """[topics, groups] bool: which of the finest topics, in order, each holds."""

    @classmethod
    def of(cls, parents: list[int | None], depths: list[int], counts: list[int]) -> Self:
        """Join topics to a tree; those of the greatest depth are the finest."""
        children: list[list[int]] = [[] for _ in parents]
        for one, parent in enumerate(parents):
            if parent is not None:
                children[parent].append(one)
        finest = [one for one, depth in enumerate(depths) if depth == max(depths, default=0)]
        inside = np.zeros((len(parents), len(finest)), dtype=np.bool_)
        inside[finest, np.arange(len(finest))] = True
        for one in range(len(parents) - 1, -1, -1):
            for child in children[one]:
                inside[one] |= inside[child]
        return cls(parents=parents, depths=depths, counts=counts, children=children, inside=inside)

    @property
    def groups(self) -> int:
        """How many finest topics there are."""
        return int(self.inside.shape[1])

    @property
    def rows(self) -> NDArray[np.int64]:
        """[groups] int64: rows of each finest topic."""
        return np.array(self.counts[len(self.counts) - self.groups :], dtype=np.int64)

    def above(self, one: int) -> Iterator[int]:
        """Yield the topics that a topic lies in, from the nearest."""
        parent = self.parents[one]
        while parent is not None:
            yield parent
            parent = self.parents[parent]


def number_names(tree: Tree) -> list[Name]:
    """Name topics "Region 1", and those inside it "Region 1.1", "Region 1.2" and so on."""
    names: list[str] = []
    tops = 0
    for one, parent in enumerate(tree.parents):
        if parent is None:
            tops += 1
            names.append(f"Region {tops}")
        else:
            names.append(f"{names[parent]}.{tree.children[parent].index(one) + 1}")
    return [Name(name, ()) for name in names]


def phrase_names(
    tree: Tree,
    phrases: Phrases,
    embed: Callable[[list[str]], NDArray[np.float32]] | None,
    centroids: NDArray[np.float32],
) -> list[Name]:
    """Name topics by the phrases that set them apart from the rest of the map and from those beside them.

    Args:
        tree: the topics.
        phrases: of the texts of its finest topics.
        embed: gives phrases vectors that can be compared with the centroids; then those near in meaning come first.
        centroids: [topics, dim] float32.
    """
    near = np.array(
        [
            tree.inside[parent] & ~tree.inside[one] if parent is not None else np.zeros(tree.groups, dtype=np.bool_)
            for one, parent in enumerate(tree.parents)
        ]
    )
    best = phrases.best(tree.inside, near.reshape(-1, tree.groups), tree.rows, count=_CANDIDATES)
    if embed is not None:
        best = _by_meaning(best, embed, centroids)
    taken: set[str] = set()
    used: list[frozenset[int]] = []
    names: list[Name] = []
    for one, mine in enumerate(best):
        above: frozenset[int] = frozenset().union(*(used[other] for other in tree.above(one)))
        name, words = next(
            ((name, words) for name, words in _wordings(mine[:_NAMING], above) if name.casefold() not in taken),
            (title(mine[0].text) if mine else f"Region {one + 1}", frozenset()),
        )
        name = unique(name, taken)
        taken.add(name.casefold())
        used.append(words)
        names.append(Name(name, tuple(phrase.text for phrase in mine[:_KEYWORDS])))
    return names


def _by_meaning(
    best: list[list[Phrase]], embed: Callable[[list[str]], NDArray[np.float32]], centroids: NDArray[np.float32]
) -> list[list[Phrase]]:
    """Order each topic's phrases by rank and by how near they are in meaning to the topic.

    Both sides are compared by what sets them apart from their mean: all texts have much in common, and so have all
    phrases.
    """
    texts = sorted({phrase.text for mine in best for phrase in mine})
    if not texts:
        return best
    place = {text: i for i, text in enumerate(texts)}
    vectors = _apart(np.asarray(embed(texts), dtype=np.float32))
    topics = _apart(centroids)
    found: list[list[Phrase]] = []
    for one, mine in enumerate(best):
        near = vectors[[place[phrase.text] for phrase in mine]] @ topics[one]
        worth = np.exp(_MEANING * near) / (3.0 + np.arange(len(mine)))
        found.append([mine[i] for i in np.argsort(-np.round(worth, 5), kind="stable")])
    return found


def _apart(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    away = vectors - vectors.mean(axis=0)
    length = np.linalg.norm(away, axis=1, keepdims=True)
    return np.asarray(away / np.where(length > 1e-6, length, 1.0), dtype=np.float32)


def label_names(
    names: Sequence[Name],
    labels: Sequence[str],
    vectors: NDArray[np.float32],
    centroids: NDArray[np.float32],
) -> list[Name]:
    """Name topics by the nearest of some labels; of those with the same one, all but the first add their own name.

    Args:
        names: the topics' own names, parents before their children.
        labels: names to choose from.
        vectors: [labels, dim] float32 of unit length.
        centroids: [topics, dim] float32 of unit length.
    """
    nearest = (centroids @ vectors.T).argmax(axis=1)
    taken: set[str] = set()
    found: list[Name] = []
    for one, own in enumerate(names):
        label = labels[int(nearest[one])].strip()
        name = label if label.casefold() not in taken else unique(f"{label}: {own.name}", taken)
        taken.add(name.casefold())
        found.append(Name(name, own.keywords))
    return found


def unique(name: str, taken: set[str]) -> str:
    """Return a name, with a number where it is taken; names are compared without regard to capitals."""
    if name.casefold() not in taken:
        return name
    return next(found for i in range(2, len(taken) + 3) if (found := f"{name} ({i})").casefold() not in taken)


def _wordings(best: Sequence[Phrase], above: frozenset[int]) -> Iterator[tuple[str, frozenset[int]]]:
    """Yield ways to name a topic by its phrases, the best first; words of the topics above it do not suffice."""
    for i, first in enumerate(best):
        enough = _ENOUGH_PHRASE if len(first.words) > 1 else _ENOUGH_WORD
        if first.share >= enough and not first.words <= above:
            yield title(first.text), first.words
        least = min(_SECOND, _SECOND_OF_FIRST * first.share)
        for second in [*best[:i], *best[i + 1 :]]:
            repeats = first.words & second.words or _alike(first.text, second.text)
            stale = first.words <= above and second.words <= above
            if second.share >= least and not repeats and not stale:
                yield f"{title(first.text)} & {title(second.text)}", first.words | second.words
        if not first.words <= above:
            yield title(first.text), first.words


def _alike(one: str, other: str) -> bool:
    """Tell whether two phrases have words of one root, as "art" and "artist" or "China" and "Chinese"."""
    for a in one.casefold().split():
        for b in other.casefold().split():
            shared = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
            if shared >= max(3.0, 0.6 * min(len(a), len(b))):
                return True
    return False
