"""Copies of texts with a few words changed: near neighbours that a teacher still tells apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["altered_copies"]

_CHANGED = (0.05, 0.35)
"""Least and most of a text's words that are changed."""
_SHORTEST = 3
"""Texts of fewer words are left out: nothing of them would be left."""


def altered_copies(texts: Sequence[str], share: float, rng: np.random.Generator) -> list[str]:
    """Return copies of part of the texts, each changed in one of four ways, drawn at random.

    Words are replaced by words of the other texts, or left out; two words change places and one is replaced; or the
    second half is that of another text. Texts drawn from a corpus are rarely near each other, so a batch of them says
    little about small differences in meaning; beside such copies it does.

    Args:
        texts: what to copy; words are what white space parts.
        share: part of the texts to copy, 0 to 1.
        rng: where the draws come from.

    Returns:
        The copies, in the order of their texts, words parted by one space.
    """
    words = [text.split() for text in texts]
    pool = [word for row in words for word in row]
    chosen = np.flatnonzero(rng.random(len(texts)) < share)
    return [" ".join(_alter(words[i], words, pool, rng)) for i in chosen if len(words[i]) >= _SHORTEST]


def _alter(own: list[str], words: Sequence[list[str]], pool: Sequence[str], rng: np.random.Generator) -> list[str]:
    copy = list(own)
    count = min(max(1, int(len(copy) * rng.uniform(*_CHANGED))), len(copy) - 1)
    places = rng.choice(len(copy), size=count, replace=False)
    match rng.integers(4):
        case 0:
            for place in places:
                copy[place] = pool[int(rng.integers(len(pool)))]
        case 1:
            gone = set(places.tolist())
            copy = [word for place, word in enumerate(copy) if place not in gone]
        case 2:
            one, other = rng.choice(len(copy), size=2, replace=False)
            copy[one], copy[other] = copy[other], copy[one]
            copy[places[0]] = pool[int(rng.integers(len(pool)))]
        case _:
            other_text = words[int(rng.integers(len(words)))]
            copy = copy[: len(copy) // 2] + other_text[len(other_text) // 2 :]
    return copy
