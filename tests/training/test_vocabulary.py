"""A vocabulary made smaller keeps the corpus's words and every character."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
from tokenizers import Tokenizer

from gnomonic.errors import CheckpointError, ConfigError
from gnomonic.training.vocabulary import SPECIAL_TOKENS, shrink_vocabulary, train_vocabulary

CORPUS = ["the wonderful elephant walks", "the elephant sleeps", "a wonderful day", "čaj", "rare zebra"] * 4


def test_the_most_used_words_stay_and_the_rest_falls_apart(tmp_path: Path) -> None:
    train_vocabulary(CORPUS, tmp_path / "large", size=400, max_tokens=64)
    large = Tokenizer.from_file(str(tmp_path / "large/tokenizer.json"))
    characters = sum(len(token.removeprefix("##")) == 1 for token in large.get_vocab())
    size = characters + len(SPECIAL_TOKENS) + 3
    texts = ["the elephant"] * 5 + ["wonderful"] * 3 + ["rare zebra"]
    shrink_vocabulary(texts, tmp_path / "large", tmp_path / "small", size=size, max_tokens=64)
    small = Tokenizer.from_file(str(tmp_path / "small/tokenizer.json"))
    assert small.get_vocab_size() <= size < large.get_vocab_size()
    assert small.encode("The Elephant wonderful", add_special_tokens=False).tokens == ["the", "elephant", "wonderful"]
    pieces = small.encode("sleeps", add_special_tokens=False).tokens
    assert len(pieces) > 1
    assert "[UNK]" not in pieces
    for token in SPECIAL_TOKENS:
        assert small.token_to_id(token) == SPECIAL_TOKENS.index(token)
    assert set(small.get_vocab()) <= set(large.get_vocab())
    assert small.encode("the").tokens == ["[CLS]", "the", "[SEP]"]
    assert (tmp_path / "small/vocab.txt").read_text(encoding="utf-8").split("\n")[small.token_to_id("the")] == "the"


def test_too_small_a_size_and_a_folder_without_tokenizer_are_said(tmp_path: Path) -> None:
    train_vocabulary(CORPUS, tmp_path / "large", size=400, max_tokens=64)
    with pytest.raises(ConfigError, match=r"size: 8 entries cannot hold"):
        shrink_vocabulary(CORPUS, tmp_path / "large", tmp_path / "small", size=8, max_tokens=64)
    assert not (tmp_path / "small").exists()
    with pytest.raises(CheckpointError, match=r"tokenizer.json cannot be read"):
        shrink_vocabulary(CORPUS, tmp_path, tmp_path / "small", size=80, max_tokens=64)
