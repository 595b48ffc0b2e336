"""What sets groups of texts apart, in phrases a person would use: counted, contrasted, without near repeats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.words import Words, read_words, without_possessive

__all__ = ["Phrase", "Phrases", "count_phrases"]

_LONGER = (1.0, 1.5, 1.6, 1.5, 1.4)
"""How much more a phrase of one to five words says than its share of texts."""
_MOST_PHRASES = 10_000
"""Of each length, those that are the most of some group."""
_EVERYWHERE = 0.2
"""A word in this share of the texts of most groups is one of the language's function words."""

_WEAK = 0.4
"""How much a word that says little alone counts."""

_Places = tuple[NDArray[np.int64], NDArray[np.int64]]
_Counted = tuple[NDArray[np.int64], NDArray[np.int64], _Places]


@dataclass(frozen=True, slots=True)
class Phrase:
    """A phrase of some group."""

    text: str
    words: frozenset[int]
    share: float
    """Of the group's texts, how many hold it, 0 to 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Phrases:
    """Phrases and the share of each group's texts that hold them."""

    texts: list[str]
    words: list[tuple[int, ...]]
    shares: NDArray[np.float32]
    """[groups, phrases] float32."""
    weights: NDArray[np.float32]
    """[phrases] float32: how well the phrase reads."""

    def best(
        self, inside: NDArray[np.bool_], near: NDArray[np.bool_], rows: NDArray[np.int64], *, count: int
    ) -> list[list[Phrase]]:
        """Return for each topic the phrases that set it apart, best first, none a near repeat of one before.

        A phrase counts by how much more often it is inside than outside, p log2(p / q): the term of the relative
        entropy of the two (Kullback and Leibler 1951). p is the square of the mean root of the groups' shares, so that
        a phrase of one group alone does not name them all; q is half the share among the near groups and half that
        among all others.

        Args:
            inside: [topics, groups] bool: the groups of each topic.
            near: [topics, groups] bool: the groups that each is most easily taken for.
            rows: [groups] int64: how many rows each stands for.
            count: how many phrases at most a topic.
        """
        roots = np.sqrt(self.shares)
        everywhere, all_rows = rows @ self.shares.astype(np.float64), int(rows.sum())
        found: list[list[Phrase]] = []
        for own, others in zip(inside, near, strict=True):
            within = _mean(roots, own, rows) ** 2
            mine = int(rows[own].sum())
            outside = np.maximum(everywhere - mine * _mean(self.shares, own, rows), 0) / max(all_rows - mine, 1)
            beside = _mean(self.shares, others, rows) if others.any() else outside
            other = (outside + beside) / 2
            # Rounded, so that the order does not depend on how sums were split among threads.
            score = np.round(within * np.log2((within + 1e-9) / (other + 0.01)) * self.weights, 5)
            found.append(self._chosen(score, within, count))
        return found

    def _chosen(self, score: NDArray[np.float64], within: NDArray[np.float64], count: int) -> list[Phrase]:
        some = np.flatnonzero(score > 0)
        order = some[np.argsort(-score[some], kind="stable")[: 6 * count]]
        taken: list[int] = []
        sets: list[frozenset[int]] = []
        for one in order.tolist():
            mine = frozenset(self.words[one])
            place = _place(mine, sets, float(within[one]), within[taken])
            if place is not None:
                taken[place : place + 1], sets[place : place + 1] = [one], [mine]
            if len(taken) == count:
                break
        return [Phrase(self.texts[i], words, float(within[i])) for i, words in zip(taken, sets, strict=True)]


def _place(
    mine: frozenset[int], taken: Sequence[frozenset[int]], share: float, shares: NDArray[np.float64]
) -> int | None:
    """Return where a phrase goes among those taken: after them, or over a part of it that is hardly ever alone."""
    for place, theirs in enumerate(taken):
        if mine.isdisjoint(theirs):
            continue
        if theirs < mine and share > 0.6 * shares[place]:
            return place
        if theirs <= mine or mine <= theirs or len(theirs & mine) > 1:
            return None
    return len(taken)


def count_phrases(texts: Sequence[str], groups: NDArray[np.int32], count: int) -> Phrases:
    """Count the phrases of one to five words in groups of texts.

    Args:
        texts: the texts.
        groups: [texts] int32: the group of each, 0 to count - 1.
        count: groups.
    """
    words = read_words(texts)
    sizes = np.bincount(groups, minlength=count)
    stop = words.stop | _frequent_everywhere(words, groups, sizes)
    least = 2 if len(texts) < 200 else 3
    shares: list[NDArray[np.float32]] = []
    found: list[tuple[int, ...]] = []
    written: list[str] = []
    for numbers, counted in _ngrams(words, least):
        phrase, text, places = counted
        share, kept = _shares(phrase, groups[text], sizes, _readable(numbers, stop, words))
        shares.append(share)
        found.extend(map(tuple, numbers[kept].tolist()))
        written.extend(_written(kept, places, words, numbers.shape[1]))
    return Phrases(
        texts=written,
        words=found,
        shares=np.concatenate(shares, axis=1) if count else np.zeros((0, 0), dtype=np.float32),
        weights=np.array([_weight(phrase, words) for phrase in found], dtype=np.float32),
    )


def _shares(
    phrase: NDArray[np.int64], group: NDArray[np.int32], sizes: NDArray[np.int64], readable: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the share of each group's texts that hold each phrase, for those often enough in some group.

    Args:
        phrase: [pairs] int64, one for each phrase of each text.
        group: [pairs] int32.
        sizes: [groups] int64 texts.
        readable: [phrases] bool: those that may be kept.

    Returns:
        shares [groups, kept] float32; kept [kept] int64 phrases, ascending.
    """
    use = readable[phrase]
    keys = np.sort(phrase[use] * len(sizes) + group[use])
    first = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: len(keys)])
    counts = np.diff(np.append(first, len(keys)))
    row, column = keys[first] // len(sizes), keys[first] % len(sizes)
    share = counts / np.maximum(sizes, 1)[column]
    # What no group holds often names nothing; nor do the two texts of a group that are copies of each other.
    best = np.zeros(len(readable))
    np.maximum.at(best, row, np.where((share >= 0.05) & (counts >= np.minimum(3, sizes[column] // 4 + 1)), share, 0.0))
    kept = np.sort(np.argsort(-best, kind="stable")[: min(_MOST_PHRASES, np.count_nonzero(best))])
    place = np.full(len(readable), -1, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    there = place[row] >= 0
    table = np.zeros((len(sizes), len(kept)), dtype=np.float32)
    table[column[there], place[row[there]]] = share[there]
    return table, kept


def _mean(shares: NDArray[np.float32], groups: NDArray[np.bool_], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean share of each phrase over some groups, each as heavy as its rows."""
    chosen = np.flatnonzero(groups)
    weights = (rows[chosen] / max(int(rows[chosen].sum()), 1)).astype(np.float32)
    return np.asarray(weights @ shares[chosen], dtype=np.float64)


def _distinct(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the distinct keys, ascending; a sort is faster here than the hashing of `numpy.unique`."""
    ordered = np.sort(keys)
    first = np.ones(len(ordered), dtype=np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    return np.asarray(ordered[first])


def _frequent_everywhere(words: Words, groups: NDArray[np.int32], sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Find function words of whatever language: those in many texts of most groups; with few groups, in most texts."""
    size = len(words.stop)
    pairs = _distinct(words.ids * len(groups) + words.texts)
    word, text = pairs // max(len(groups), 1), pairs % max(len(groups), 1)
    if len(sizes) < 5:
        return np.asarray(np.bincount(word, minlength=size) > 0.8 * max(len(groups), 5))
    often = np.zeros(size, dtype=np.int64)
    # Only a word of many texts can be in many texts of most groups.
    for candidate in np.flatnonzero(np.bincount(word, minlength=size) > 0.05 * len(groups)):
        begin, end = np.searchsorted(word, (candidate, candidate + 1))
        held = np.bincount(groups[text[begin:end]], minlength=len(sizes))
        often[candidate] = np.count_nonzero(held > _EVERYWHERE * np.maximum(sizes, 1))
    return np.asarray(often > 0.7 * np.count_nonzero(sizes))


def _ngrams(words: Words, least: int) -> list[tuple[NDArray[np.int64], _Counted]]:
    """Return for each length the phrases in at least some texts: their words [phrases, length], and where they are."""
    size, texts = len(words.stop), int(words.texts[-1]) + 1 if len(words.texts) else 0
    place = np.flatnonzero(words.ids > 0)
    key = words.ids[place]
    numbers = np.arange(size)[:, None]
    found = []
    for length in range(1, len(_LONGER) + 1):
        once = _distinct(key * texts + words.texts[place])
        phrase, text = once // max(texts, 1), once % max(texts, 1)
        counts = np.bincount(phrase, minlength=len(numbers))
        enough = counts >= least
        rank = np.cumsum(enough) - 1
        numbers = numbers[enough]
        use = enough[phrase]
        kept = enough[key]
        place, key = place[kept], rank[key[kept]]
        found.append((numbers, (rank[phrase[use]], text[use], (key, place))))
        # The phrases a word longer: those whose beginning is frequent enough.
        following = words.ids[np.minimum(place + length, len(words.ids) - 1)]
        place, joined = place[following > 0], (key * size + following)[following > 0]
        distinct = _distinct(joined)
        key = np.searchsorted(distinct, joined)
        numbers = np.concatenate([numbers[distinct // size], (distinct % size)[:, None]], axis=1)
    return found


def _readable(numbers: NDArray[np.int64], stop: NDArray[np.bool_], words: Words) -> NDArray[np.bool_]:
    """Tell which phrases can stand alone."""
    solid = words.unspaced[numbers]
    length = numbers.shape[1]
    fits = ~(stop[numbers[:, 0]] | stop[numbers[:, -1]]) & (numbers > 0).all(axis=1)
    if length == 1:
        return np.asarray(fits & ~solid[:, 0])
    inner = numbers[:, 1:-1]
    fits &= (~stop[inner] | words.joins[inner] | solid[:, 1:-1]).all(axis=1)
    ordered = np.sort(numbers, axis=1)
    distinct = (ordered[:, 1:] != ordered[:, :-1]).all(axis=1)
    return np.asarray(fits & distinct & (solid.all(axis=1) | ~solid.any(axis=1)))


def _written(phrases: NDArray[np.int64], places: _Places, words: Words, length: int) -> list[str]:
    """Write phrases as they are mostly spelled, word by word."""
    key, place = places
    use = np.isin(key, phrases)
    rank, place = np.searchsorted(phrases, key[use]), place[use]
    spellings = len(words.spellings)
    columns: list[NDArray[np.int64]] = []
    for step in range(length):
        pairs, counts = np.unique(rank * spellings + words.tokens[place + step], return_counts=True)
        best = np.zeros(len(phrases), dtype=np.int64)
        order = np.argsort(counts, kind="stable")
        best[pairs[order] // spellings] = pairs[order] % spellings
        columns.append(best)
    between = "" if len(phrases) and words.unspaced[words.ids[place[:1]]].all() else " "
    written = (between.join(words.spellings[word] for word in phrase) for phrase in zip(*columns, strict=True))
    return [without_possessive(phrase) for phrase in written]


def _weight(phrase: tuple[int, ...], words: Words) -> float:
    """Return how well a phrase reads: by its length, its last word and, where that is another, its first."""
    first, last = phrase[0], phrase[-1]
    if len(phrase) == 1:
        return float(words.ending[last] * words.noun[last]) * (_WEAK if words.weak[last] else 1.0)
    return _LONGER[len(phrase) - 1] * float(words.ending[last] * (words.noun[last] * words.noun[first]) ** 0.5)
