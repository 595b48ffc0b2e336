from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from gnomonic.errors import CheckpointError, InputError
from gnomonic.inference import tokenizer as module
from gnomonic.inference.tokenizer import CHUNK_OVERLAP, Tokenizer
from gnomonic.types import LongTextMode

PREFIX = "search_query: "
TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "",
    " ",
    "a",
    "\t leading and trailing \n",
    "naïve Éclair ÉÀ ñandú",
    "\u0301starts with a combining mark",
    "中文 mixed with latin字",
    "nul\0inside and bell\x07 and \x1c separators",
    "zero\u200dwidth \u200bspace \u3000ideographic",
    "[CLS] literal [SEP] and [MASK], [mask]",
    "search_query: already prefixed",
    "العربية and עברית",
    "👩‍👩‍👧‍👦 family",
    "!!!???...",
    "x" * 101,
    "x" * 100,
    "ﬁ ligature İ dotted ß",
    "a\u0301" * 200,
    "line\u2028separator",
]
# Everything that decides where BERT splits, drops or joins.
ALPHABET = "abé中 \t\n\r\x1c\x00.,-_[]MASKmask\u0301\u200d\u3000’\U0001f600"


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Path) -> Tokenizer:
    return Tokenizer.open(tiny_checkpoint)


@pytest.fixture(scope="module")
def reference(tiny_checkpoint: Path) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(tiny_checkpoint / "tokenizer.json"))


def _only(tiny_checkpoint: Path, folder: Path, *names: str) -> Path:
    for name in names:
        shutil.copyfile(tiny_checkpoint / name, folder / name)
    return folder


def _options(folder: Path, **options: object) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(options), encoding="utf-8")


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_the_joined_string(tokenizer: Tokenizer, reference: tokenizers.Tokenizer, text: str) -> None:
    found = tokenizer.encode([text], prefix=PREFIX, max_tokens=2048)
    assert found.sequences[0].tolist() == reference.encode(PREFIX + text).ids


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60) | st.text(alphabet=ALPHABET, max_size=60))
def test_ids_are_those_of_the_joined_string_for_any_text(
    tokenizer: Tokenizer, reference: tokenizers.Tokenizer, text: str
) -> None:
    found = tokenizer.encode([text], prefix=PREFIX, max_tokens=2048)
    assert found.sequences[0].tolist() == reference.encode(PREFIX + text).ids


def test_ids_are_those_of_transformers(tokenizer: Tokenizer, tiny_checkpoint: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(tiny_checkpoint)([PREFIX + text for text in TEXTS])
    ours = tokenizer.encode(TEXTS, prefix=PREFIX, max_tokens=2048)
    assert [ids.tolist() for ids in ours.sequences] == theirs["input_ids"]


def test_vocab_txt_alone_gives_the_same_ids(tokenizer: Tokenizer, tiny_checkpoint: Path, tmp_path: Path) -> None:
    bare = Tokenizer.open(_only(tiny_checkpoint, tmp_path, "vocab.txt"))
    ours, theirs = (each.encode(TEXTS, prefix=PREFIX, max_tokens=2048) for each in (bare, tokenizer))
    assert [ids.tolist() for ids in ours.sequences] == [ids.tolist() for ids in theirs.sequences]


@pytest.mark.parametrize("file", ["tokenizer.json", "vocab.txt"])
def test_do_lower_case_of_the_config_is_honoured(tiny_checkpoint: Path, tmp_path: Path, file: str) -> None:
    _only(tiny_checkpoint, tmp_path, file)
    _options(tmp_path, do_lower_case=False)
    cased = Tokenizer.open(tmp_path)
    _options(tmp_path, do_lower_case=True)
    uncased = Tokenizer.open(tmp_path)
    assert cased.token_ids(["the"])[0].tolist() == uncased.token_ids(["THE"])[0].tolist()
    assert cased.token_ids(["THE"])[0].tolist() != uncased.token_ids(["THE"])[0].tolist()


def test_truncation_and_padding_of_the_file_are_ignored(tiny_checkpoint: Path, tmp_path: Path) -> None:
    backend = tokenizers.Tokenizer.from_file(str(tiny_checkpoint / "tokenizer.json"))
    backend.enable_truncation(8)
    backend.enable_padding(length=64)
    backend.save(str(tmp_path / "tokenizer.json"))
    found = Tokenizer.open(tmp_path).encode(["the fox " * 20, "a"], max_tokens=2048)
    assert [len(ids) for ids in found.sequences] == [42, 3]


def test_a_file_without_post_processor_gets_cls_and_sep(tiny_checkpoint: Path, tmp_path: Path) -> None:
    raw = json.loads((tiny_checkpoint / "tokenizer.json").read_text(encoding="utf-8"))
    (tmp_path / "tokenizer.json").write_text(json.dumps({**raw, "post_processor": None}), encoding="utf-8")
    found = Tokenizer.open(tmp_path).encode(["a"], max_tokens=8)
    expected = Tokenizer.open(tiny_checkpoint).encode(["a"], max_tokens=8)
    assert found.sequences[0].tolist() == expected.sequences[0].tolist()


def test_usage_counts_body_tokens_alone(tokenizer: Tokenizer) -> None:
    found = tokenizer.encode(["The quick brown fox jumps over the lazy dog.", ""], prefix=PREFIX, max_tokens=64)
    assert found.prompt_tokens == 10
    assert found.owners.tolist() == [0, 1]
    assert found.truncated == []


def test_an_empty_text_is_its_prefix(tokenizer: Tokenizer, reference: tokenizers.Tokenizer) -> None:
    found = tokenizer.encode([""], prefix=PREFIX, max_tokens=64)
    assert found.sequences[0].tolist() == reference.encode(PREFIX).ids


def test_truncate_keeps_the_beginning_and_both_special_tokens(
    tokenizer: Tokenizer, reference: tokenizers.Tokenizer
) -> None:
    text = "the quick fox " * 40
    found = tokenizer.encode(["short", text], prefix=PREFIX, max_tokens=32, first_index=5)
    whole = reference.encode(PREFIX + text).ids
    assert found.sequences[1].tolist() == [*whole[:31], whole[-1]]
    assert found.truncated == [6]


def test_a_text_that_just_fits_is_not_truncated(tokenizer: Tokenizer) -> None:
    overhead = len(tokenizer.encode([""], prefix=PREFIX, max_tokens=64).sequences[0])
    texts = ["fox " * (32 - overhead), "fox " * (33 - overhead)]
    found = tokenizer.encode(texts, prefix=PREFIX, max_tokens=32)
    assert [len(ids) for ids in found.sequences] == [32, 32]
    assert found.truncated == [1]


@settings(max_examples=60, deadline=None)
@given(words=st.integers(0, 200), limit=st.integers(15, 64))
def test_mean_chunks_cover_the_text_with_the_overlap(tokenizer: Tokenizer, words: int, limit: int) -> None:
    rng = np.random.default_rng(words)
    text = " ".join(rng.choice(["the", "fox", "dog", "river", "stone"], words))
    body = tokenizer.token_ids([text])[0].tolist()
    start = tokenizer.token_ids([PREFIX])[0].tolist()
    found = tokenizer.encode([text], prefix=PREFIX, max_tokens=limit, long_text_mode=LongTextMode.MEAN)
    chunks = [ids.tolist() for ids in found.sequences]
    assert all(len(ids) <= limit and ids[1 : 1 + len(start)] == start for ids in chunks)
    bodies = [ids[1 + len(start) : -1] for ids in chunks]
    joined = bodies[0]
    for chunk in bodies[1:]:
        assert joined[-CHUNK_OVERLAP:] == chunk[:CHUNK_OVERLAP]
        joined = joined + chunk[CHUNK_OVERLAP:]
    assert joined == body
    assert found.prompt_tokens == sum(map(len, bodies))
    assert found.truncated == []


def test_error_mode_names_the_text_and_the_limit(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match=r"texts\[3\] has 46 tokens .* more than 32; shorten it, or choose"):
        tokenizer.encode(
            ["a", "fox " * 40], prefix=PREFIX, max_tokens=32, long_text_mode=LongTextMode.ERROR, first_index=2
        )


@pytest.mark.parametrize(("mode", "least"), [("truncate", 7), ("error", 7), ("mean", 15)])
def test_a_limit_without_room_for_text_is_refused(tokenizer: Tokenizer, mode: str, least: int) -> None:
    mode = LongTextMode(mode)
    assert tokenizer.encode(["a"], prefix=PREFIX, max_tokens=least, long_text_mode=mode).prompt_tokens == 1
    with pytest.raises(InputError, match=f"choose {least} or more for long_text_mode '{mode}'"):
        tokenizer.encode(["a"], prefix=PREFIX, max_tokens=least - 1, long_text_mode=mode)


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(st.text(alphabet=ALPHABET, max_size=80), max_size=5), piece=st.integers(1, 12))
def test_reading_in_pieces_changes_no_token(
    tokenizer: Tokenizer, reference: tokenizers.Tokenizer, texts: list[str], piece: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MAX_CALL", piece)
        found = tokenizer.token_ids(texts)
    assert [ids.tolist() for ids in found] == [reference.encode(t, add_special_tokens=False).ids for t in texts]


@settings(max_examples=100, deadline=None)
@given(text=st.text(alphabet=ALPHABET, max_size=200), enough=st.integers(1, 20))
def test_stopping_early_keeps_the_first_tokens(
    tokenizer: Tokenizer, reference: tokenizers.Tokenizer, text: str, enough: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MIN_PIECE", 4)
        patch.setattr(module, "_CHARACTERS_PER_TOKEN", 1)
        found = tokenizer.token_ids([text], enough=enough)[0].tolist()
    whole = reference.encode(text, add_special_tokens=False).ids
    assert found == whole[: len(found)]
    assert len(found) == len(whole) or len(found) > enough


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("a" * 1_000_000, 1), ("ab" * 500_000, 1), ("." * 1_000_000, 1_000_000), ("fox " * 250_000, 250_000)],
    ids=["one letter", "one word", "dots", "words"],
)
def test_a_megabyte_is_read_in_linear_time(tokenizer: Tokenizer, text: str, tokens: int) -> None:
    # The time-out of the suite is the bound: quadratic work on a million characters takes hours.
    assert len(tokenizer.token_ids([text])[0]) == tokens
    found = tokenizer.encode([text], prefix=PREFIX, max_tokens=512)
    assert len(found.sequences[0]) == min(512, tokens + 6)


def test_a_long_text_is_read_no_further_than_needed(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.token_ids(["fox " * 250_000], enough=100)[0]) < 2_000


def test_many_texts_at_once_keep_their_order(tokenizer: Tokenizer) -> None:
    texts = [f"{'fox ' * (i % 300)}{i}" for i in range(2_000)]
    together = tokenizer.token_ids(texts)
    assert all(
        a.tolist() == b.tolist()
        for a, b in zip(together[::97], (tokenizer.token_ids([t])[0] for t in texts[::97]), strict=True)
    )


def test_a_missing_tokenizer_names_the_files_looked_for(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"neither tokenizer\.json nor vocab\.txt"):
        Tokenizer.open(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": "1.0"}', "\udcff"])
def test_a_damaged_tokenizer_json_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be read"):
        Tokenizer.open(tmp_path)


def test_a_vocabulary_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("<s>\n</s>\n<unk>\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"lacks \[UNK\], \[CLS\], \[SEP\]"):
        Tokenizer.open(tmp_path)


def test_a_vocabulary_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match=r"vocab\.txt cannot be read"):
        Tokenizer.open(tmp_path)


@pytest.mark.parametrize("content", ["[]", "{", '{"do_lower_case": "yes"}'])
def test_damaged_options_are_named(tiny_checkpoint: Path, tmp_path: Path, content: str) -> None:
    _only(tiny_checkpoint, tmp_path, "vocab.txt")
    (tmp_path / "tokenizer_config.json").write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json"):
        Tokenizer.open(tmp_path)


def test_a_vocabulary_larger_than_the_word_table_is_refused(tiny_checkpoint: Path) -> None:
    size = Tokenizer.open(tiny_checkpoint).vocab_size
    assert Tokenizer.open(tiny_checkpoint, vocab_size=size).vocab_size == size
    with pytest.raises(CheckpointError, match=f"has {size} entries, but the model has rows for {size - 1}"):
        Tokenizer.open(tiny_checkpoint, vocab_size=size - 1)
