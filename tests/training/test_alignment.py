"""Tokens of two vocabularies are paired where they are the same characters, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from gnomonic.errors import ConfigError
from gnomonic.training.alignment import TokenAlignment

STUDENT = ["[CLS]", "[SEP]", "[UNK]", "query", ":", "the", "un", "##happy", "cat", "##s", "é"]
TEACHER = ["[SEP]", "[CLS]", "[UNK]", "the", "unhappy", "cat", "##s", "é"]


def _ids(vocabulary: list[str], text: str) -> np.ndarray:
    return np.array([vocabulary.index(token) for token in text.split()], np.int32)


def _pairs(students: list[str], skip: list[int], teachers: list[str]) -> list[tuple[str, str]]:
    alignment = TokenAlignment(
        {token: i for i, token in enumerate(STUDENT)}, {token: i for i, token in enumerate(TEACHER)}
    )
    ours, theirs = [_ids(STUDENT, text) for text in students], [_ids(TEACHER, text) for text in teachers]
    left, right = alignment.match(ours, skip, theirs)
    flat_left, flat_right = np.concatenate(ours), np.concatenate(theirs)
    order = np.argsort(left)
    return [(STUDENT[flat_left[left[i]]], TEACHER[flat_right[right[i]]]) for i in order]


def test_a_word_cut_otherwise_is_left_out_and_what_follows_is_found() -> None:
    found = _pairs(["[CLS] the un ##happy cat ##s [SEP]"], [0], ["[CLS] the unhappy cat ##s [SEP]"])
    assert found == [(t, t) for t in ("[CLS]", "the", "cat", "##s", "[SEP]")]


def test_a_prefix_that_only_the_student_reads_has_no_partner() -> None:
    found = _pairs(["[CLS] query : the cat [SEP]"], [len("query:")], ["[CLS] the cat [SEP]"])
    assert found == [(t, t) for t in ("the", "cat", "[SEP]")]


def test_texts_are_kept_apart_and_a_cut_one_ends_where_it_ends() -> None:
    found = _pairs(
        ["[CLS] cat ##s [SEP]", "[CLS] é [UNK] the [SEP]"], [0, 0], ["[CLS] cat [SEP]", "[CLS] é [UNK] the [SEP]"]
    )
    assert found == [(t, t) for t in ("[CLS]", "cat", "[CLS]", "é", "[UNK]", "the", "[SEP]")]


def test_other_kinds_of_tokenizers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"token_weight: the teacher's tokenizer is not WordPiece"):
        TokenAlignment({"a": 0, "##b": 1}, {"▁a": 0, "b": 1})
