"""Which tokens of two WordPiece vocabularies are the same piece of the same text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gnomonic.errors import ConfigError

__all__ = ["TokenAlignment"]

_CONTINUES = "##"
_OFFSET = 1 << 16
"""Added to positions, for those of a prefix are below 0."""
_POSITION_BITS = 21


class TokenAlignment:
    """Finds tokens that begin and end at the same characters.

    Nothing but ids is needed: a piece is as long as its spelling, and an unknown word counts the same on both sides.
    Where only one vocabulary knows a word that the other spells as `[UNK]`, the tokens after it may find no partner.
    """

    def __init__(self, student: Mapping[str, int], teacher: Mapping[str, int]) -> None:
        """Measure the pieces of both vocabularies.

        Args:
            student: id of each token.
            teacher: the same of the other vocabulary.

        Raises:
            ConfigError: one of them is not of WordPiece's kind.
        """
        for name, vocabulary in (("student", student), ("teacher", teacher)):
            if not any(token.startswith(_CONTINUES) for token in vocabulary):
                raise ConfigError(
                    f"token_weight: the {name}'s tokenizer is not WordPiece, so its tokens cannot be lined up; "
                    "set it to 0"
                )
        self._student, self._teacher = _piece_lengths(student), _piece_lengths(teacher)

    def length(self, ids: NDArray[np.int32]) -> int:
        """Return how many characters the student's tokens spell."""
        return int(self._student[ids].sum())

    def match(
        self, students: Sequence[NDArray[np.int32]], skip: Sequence[int], teachers: Sequence[NDArray[np.int32]]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pair up the tokens of texts, each tokenised both ways.

        Args:
            students: [tokens] ids per text, the special tokens included.
            skip: characters of a prefix that only the student reads, per text, as `length` counts them.
            teachers: the teacher's ids of the same texts.

        Returns:
            Positions in the students' ids laid end to end, and of their partners in the teachers'; equally many.
        """
        ours = _spans(students, self._student, skip)
        theirs = _spans(teachers, self._teacher, [0] * len(teachers))
        _, left, right = np.intersect1d(ours, theirs, assume_unique=True, return_indices=True)
        return left, right


def _piece_lengths(vocabulary: Mapping[str, int]) -> NDArray[np.int64]:
    lengths = np.zeros(max(vocabulary.values()) + 1, np.int64)
    for token, index in vocabulary.items():
        lengths[index] = max(1, len(token.removeprefix(_CONTINUES)))
    return lengths


def _spans(texts: Sequence[NDArray[np.int32]], lengths: NDArray[np.int64], skip: Sequence[int]) -> NDArray[np.int64]:
    """Return one number per token that says text, first and last character, counted from after the prefix."""
    keys = []
    for number, (ids, prefix) in enumerate(zip(texts, skip, strict=True)):
        ends = np.cumsum(lengths[ids])
        starts = ends - lengths[ids]
        shift = _OFFSET - prefix - int(ends[0])  # the first token is a special one
        keys.append((((number << _POSITION_BITS) + starts + shift) << _POSITION_BITS) + ends + shift)
    return np.concatenate(keys)
