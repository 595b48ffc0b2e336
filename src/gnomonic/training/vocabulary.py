"""Training a WordPiece vocabulary from text, lower-cased and without accents, as BERT's."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from gnomonic.errors import CheckpointError, ConfigError

__all__ = ["SPECIAL_TOKENS", "shrink_vocabulary", "train_vocabulary"]

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def train_vocabulary(texts: Iterable[str], out: Path, *, size: int, max_tokens: int) -> None:
    """Learn a WordPiece vocabulary and write tokenizer.json, vocab.txt and their side files.

    Args:
        texts: the corpus, streamed.
        out: folder to write into; made when absent.
        size: entries, special tokens included.
        max_tokens: written as the tokenizer's model_max_length.
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    _prepare(tokenizer)
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=list(SPECIAL_TOKENS), limit_alphabet=400, min_frequency=2, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    _write(tokenizer, out, max_tokens)


def shrink_vocabulary(texts: Iterable[str], source: Path, out: Path, *, size: int, max_tokens: int) -> None:
    """Keep the tokens of a WordPiece vocabulary that a corpus uses most, and write it as `train_vocabulary` does.

    A word whose token is dropped falls apart into pieces that are kept, since every single character stays. A student
    with such a vocabulary can start from its teacher's word table.

    Args:
        texts: the corpus, streamed.
        source: folder with a BERT tokenizer.json, lower-casing.
        out: folder to write into; made when absent.
        size: entries, special tokens included.
        max_tokens: written as the tokenizer's model_max_length.

    Raises:
        CheckpointError: `source` holds no WordPiece tokenizer.
        ConfigError: the characters alone need more entries than `size`.
    """
    path = source / "tokenizer.json"
    try:
        whole = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises Exception itself
        raise CheckpointError(f"{path} cannot be read as a tokenizer: {error}") from error
    if not isinstance(whole.model, models.WordPiece):
        raise CheckpointError(f"{path} is not a WordPiece tokenizer; only those can be made smaller")
    whole.no_truncation()
    whole.no_padding()
    vocabulary = whole.get_vocab()
    counts: Counter[int] = Counter()
    for block in _blocks(texts):
        for encoding in whole.encode_batch_fast(block, add_special_tokens=False):
            counts.update(encoding.ids)
    single = [token for token in vocabulary if len(token.removeprefix("##")) == 1]
    # Characters that the corpus never shows are left to [UNK].
    needed = [token for token in single if counts[vocabulary[token]] or token.isascii()]
    if len(SPECIAL_TOKENS) + len(needed) > size:
        raise ConfigError(f"size: {size} entries cannot hold the corpus's {len(needed)} characters; choose more")
    kept = dict.fromkeys([*SPECIAL_TOKENS, *needed])
    names = {index: token for token, index in vocabulary.items()}
    for index, _ in counts.most_common():
        if len(kept) == size:
            break
        kept.setdefault(names[index])
    # The old order is kept, so that the special tokens stay in front and like stands by like.
    tokens = [*SPECIAL_TOKENS, *sorted(kept.keys() - set(SPECIAL_TOKENS), key=vocabulary.__getitem__)]
    table = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(table, unk_token="[UNK]", max_input_chars_per_word=100))
    _prepare(tokenizer)
    _write(tokenizer, out, max_tokens)


def _blocks(texts: Iterable[str], size: int = 1000) -> Iterator[list[str]]:
    texts = iter(texts)
    while block := list(islice(texts, size)):
        yield block


def _prepare(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")


def _write(tokenizer: Tokenizer, out: Path, max_tokens: int) -> None:
    cls_id, sep_id = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", cls_id), ("[SEP]", sep_id)],
    )
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"))
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    (out / "vocab.txt").write_text("".join(f"{token}\n" for token, _ in vocabulary), encoding="utf-8")
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL_TOKENS, strict=True))
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": max_tokens, **names}
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    (out / "special_tokens_map.json").write_text(json.dumps(names, indent=2) + "\n", encoding="utf-8")
