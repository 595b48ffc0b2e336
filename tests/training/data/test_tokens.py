"""Tokens of a corpus are made once and mapped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from gnomonic.errors import ConfigError, InputError
from gnomonic.training.data.tokens import TokenStore, open_tokens


class _Letters:
    """A tokenizer of letters between 1 and 2, that counts its texts."""

    def __init__(self) -> None:
        self.texts = 0

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        self.texts += len(texts)
        return [[1, *(ord(char) for char in text), 2] for text in texts]


def _open(folder: Path, encode: _Letters, *, tokenizer: str = "letters", vocab_size: int = 70_000) -> TokenStore:
    return open_tokens(["*.jsonl"], folder, encode, vocab_size=vocab_size, tokenizer=tokenizer, cache=folder / "cache")


def _write(folder: Path, count: int) -> None:
    lines = (f'{{"text": "{"ä" * (i % 7 + 1)}"}}\n' for i in range(count))
    (folder / "a.jsonl").write_text("".join(lines), encoding="utf-8")


@pytest.mark.parametrize(("vocab_size", "kind"), [(300, np.uint16), (70_000, np.uint32)])
def test_documents_lie_end_to_end(tmp_path: Path, vocab_size: int, kind: type) -> None:
    _write(tmp_path, 1200)
    store = _open(tmp_path, _Letters(), vocab_size=vocab_size)
    assert (len(store), store.ids.dtype) == (1200, kind)
    assert store.lengths.tolist() == [i % 7 + 3 for i in range(1200)]
    start, length = int(store.starts[1000]), int(store.lengths[1000])
    assert store.ids[start : start + length].tolist() == [1, *[228] * (1000 % 7 + 1), 2]
    assert store.starts[-1] + store.lengths[-1] == len(store.ids)


def test_the_same_files_and_tokenizer_are_tokenised_once(tmp_path: Path) -> None:
    _write(tmp_path, 10)
    encode = _Letters()
    for expected, tokenizer in ((10, "one"), (10, "one"), (20, "two")):
        _open(tmp_path, encode, tokenizer=tokenizer)
        assert encode.texts == expected
    _write(tmp_path, 11)
    assert len(_open(tmp_path, encode, tokenizer="one")) == 11


def test_tokenising_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    _write(tmp_path, 1000)

    class Broken(_Letters):
        def __call__(self, texts: Sequence[str]) -> list[list[int]]:
            if self.texts:
                raise KeyboardInterrupt
            return super().__call__(texts)

    with pytest.raises(KeyboardInterrupt):
        _open(tmp_path, Broken())
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.name.startswith("tokens")] == []
    assert len(_open(tmp_path, _Letters())) == 1000


def test_an_id_outside_the_vocabulary_is_an_error(tmp_path: Path) -> None:
    _write(tmp_path, 3)
    with pytest.raises(ConfigError, match="gives id 228, which a vocabulary of 100 entries"):
        _open(tmp_path, _Letters(), vocab_size=100)


def test_texts_without_tokens_are_an_error(tmp_path: Path) -> None:
    _write(tmp_path, 3)
    with pytest.raises(InputError, match="no text has a token"):
        open_tokens(["a.jsonl"], tmp_path, lambda texts: [[] for _ in texts], vocab_size=9, tokenizer="none")


def test_held_out_documents_are_not_trained_on(tmp_path: Path) -> None:
    _write(tmp_path, 50)
    store = _open(tmp_path, _Letters())
    train, valid = store.hold_out(0.1, seed=3)
    assert (len(train), len(valid)) == (45, 5)
    assert sorted([*train.starts, *valid.starts]) == store.starts.tolist()
    again, _ = store.hold_out(0.1, seed=3)
    assert again.starts.tolist() == train.starts.tolist()
    for share in (0.0, 1.0):
        with pytest.raises(ConfigError, match="leaves nothing on one side"):
            store.hold_out(share, seed=3)
