"""Texts to token sequences: prefix, special tokens, and what happens to long texts.

Read `Tokenizer.encode` first; the rest is how it stays exact, and linear in the length of a text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers as hf
from numpy.typing import NDArray

from gnomonic.errors import CheckpointError, InputError
from gnomonic.types import LongTextMode

__all__ = ["CHUNK_OVERLAP", "Tokenized", "Tokenizer"]

CHUNK_OVERLAP = 8
"""Body tokens that neighbouring chunks of a long text share."""

_SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# Without "_", which counts as a letter where an added token must stand as a word of its own.
_PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^`{|}~"

# A text is read in pieces of about this many characters per token still wanted (English has 4 to 5), and the
# tokenizer, which keeps some 400 bytes per token while it works, gets at most this many characters at once.
_CHARACTERS_PER_TOKEN = 8
_MIN_PIECE = 4096
_MAX_CALL = 1 << 18


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokenized:
    """Token sequences of some texts, ready to be batched."""

    sequences: list[NDArray[np.int32]]
    """Each [tokens] int32: special token, prefix, body, special token; chunks of a text in order."""
    owners: NDArray[np.int64]
    """[sequences] int64, ascending: which text a sequence belongs to; every text has at least one."""
    prompt_tokens: int
    """Body tokens in all sequences: without prefix and special tokens, a chunk's overlap counted again."""
    truncated: list[int]
    """Texts that were cut, ascending."""


class Tokenizer:
    """A WordPiece tokenizer with the checkpoint's vocabulary; the lengths are ours, never those of its files.

    Safe to call from several threads at once.
    """

    def __init__(self, backend: hf.Tokenizer) -> None:
        """Take over a tokenizer; its own truncation and padding are switched off.

        Raises:
            CheckpointError: it has neither a template with special tokens nor [CLS] and [SEP].
        """
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self._left, self._right = _special_ids(backend)
        self._cut = _safe_cut(backend)

    @classmethod
    def open(cls, folder: Path, *, vocab_size: int | None = None) -> Tokenizer:
        """Read tokenizer.json, or vocab.txt as BERT's WordPiece.

        `do_lower_case`, `strip_accents` and `tokenize_chinese_chars` of tokenizer_config.json are honoured.

        Args:
            folder: the checkpoint's folder.
            vocab_size: rows of the model's word table; None leaves the ids unchecked.

        Raises:
            CheckpointError: no file is there, one is damaged, or an id has no row in the word table.
        """
        options = _read_options(folder / "tokenizer_config.json")
        if (folder / "tokenizer.json").is_file():
            backend = _read_tokenizer_json(folder / "tokenizer.json", options)
        elif (folder / "vocab.txt").is_file():
            backend = _read_vocabulary(folder / "vocab.txt", options)
        else:
            raise CheckpointError(
                f"{folder} has no tokenizer: neither tokenizer.json nor vocab.txt is there; "
                "copy one of them from the checkpoint the weights came from"
            )
        tokenizer = cls(backend)
        if vocab_size is not None and tokenizer.vocab_size > vocab_size:
            raise CheckpointError(
                f"{folder}: the tokenizer has {tokenizer.vocab_size} entries, but the model has rows for "
                f"{vocab_size} (vocab_size in config.json); tokenizer and weights are of different models"
            )
        return tokenizer

    @property
    def vocab_size(self) -> int:
        """One more than the largest id the tokenizer can give."""
        added = self._backend.get_added_tokens_decoder()
        return max(self._backend.get_vocab_size(with_added_tokens=False), max(added, default=-1) + 1)

    @property
    def vocabulary(self) -> dict[str, int]:
        """The id of every token."""
        return dict(self._backend.get_vocab(with_added_tokens=True))

    def token_ids(self, texts: Sequence[str], *, enough: int | None = None) -> list[NDArray[np.int32]]:
        """Tokenize without special tokens.

        Args:
            texts: any strings without lone surrogates.
            enough: reading a text may stop once more than this many of its tokens are known; None reads all.

        Returns:
            One [tokens] int32 per text: all its ids, or its first `enough` ids and some more.
        """
        piece = max(_MIN_PIECE, _CHARACTERS_PER_TOKEN * enough) if enough is not None else _MAX_CALL
        ids: list[list[NDArray[np.int32]]] = [[] for _ in texts]
        for some in _runs(texts, piece):
            self._read_texts(texts, some, piece, enough, ids)
        empty = np.zeros(0, dtype=np.int32)
        return [parts[0] if len(parts) == 1 else np.concatenate([empty, *parts]) for parts in ids]

    def explain(self, text: str) -> list[tuple[int, str, int, int]]:
        """Return the tokens of a text: id, spelling, first character, one past the last; no special tokens."""
        found = self._backend.encode(text, add_special_tokens=False)
        return [(i, token, *offsets) for i, token, offsets in zip(found.ids, found.tokens, found.offsets, strict=True)]

    @property
    def special(self) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
        """The special tokens put before and after a text: id and spelling."""
        spell = self._backend.id_to_token
        left, right = ([(int(i), spell(int(i)) or "") for i in ids] for ids in (self._left, self._right))
        return left, right

    def encode(
        self,
        texts: Sequence[str],
        *,
        prefix: str = "",
        max_tokens: int,
        long_text_mode: LongTextMode = LongTextMode.TRUNCATE,
        first_index: int = 0,
    ) -> Tokenized:
        """Tokenize `prefix + text` between the special tokens, no sequence longer than `max_tokens`.

        A text that does not fit is cut (truncate), refused (error), or split (mean) into chunks that share 8
        body tokens with the one before; each chunk has the prefix and the special tokens.

        Args:
            texts: any strings without lone surrogates; an empty one gives prefix and special tokens alone.
            prefix: put before each text as it is, such as "search_query: ".
            max_tokens: the longest sequence, prefix and special tokens included.
            long_text_mode: what happens to a text that does not fit.
            first_index: the index of the first text, for messages and `truncated`.

        Raises:
            InputError: max_tokens leaves no room for a text, or a text is too long in mode "error".
        """
        start = self.token_ids([prefix])[0] if prefix else np.zeros(0, dtype=np.int32)
        room = self._room(len(start), max_tokens, long_text_mode)
        cut = long_text_mode is LongTextMode.TRUNCATE
        joined = self.token_ids([prefix + text for text in texts], enough=len(start) + room if cut else None)
        sequences: list[NDArray[np.int32]] = []
        owners: list[int] = []
        truncated: list[int] = []
        prompt_tokens = 0
        for index, ids in enumerate(joined, start=first_index):
            body = max(0, len(ids) - len(start))
            if body > room and long_text_mode is LongTextMode.ERROR:
                whole = body + max_tokens - room
                raise InputError(
                    f"texts[{index}] has {whole} tokens with its prefix and special tokens, more than "
                    f"{max_tokens}; shorten it, or choose long_text_mode 'truncate' or 'mean'"
                )
            if body > room and cut:
                truncated.append(index)
                body = room
            for begin, end in _chunks(body, room):
                head = ids[: len(start)] if begin == 0 else start
                chunk = ids[len(start) + begin : len(start) + end]
                sequences.append(np.concatenate([self._left, head, chunk, self._right]))
                owners.append(index - first_index)
                prompt_tokens += end - begin
        return Tokenized(
            sequences=sequences,
            owners=np.array(owners, dtype=np.int64),
            prompt_tokens=prompt_tokens,
            truncated=truncated,
        )

    def _room(self, prefix_tokens: int, max_tokens: int, mode: LongTextMode) -> int:
        """Return the body tokens a sequence has room for."""
        overhead = prefix_tokens + len(self._left) + len(self._right)
        # Chunks that overlap by 8 must be longer than 8 to move on.
        least = overhead + (CHUNK_OVERLAP + 1 if mode is LongTextMode.MEAN else 1)
        if max_tokens < least:
            raise InputError(
                f"max_tokens_per_text {max_tokens} leaves no room for text: prefix and special tokens take "
                f"{overhead}; choose {least} or more for long_text_mode {str(mode)!r}"
            )
        return max_tokens - overhead

    def _read_texts(
        self,
        texts: Sequence[str],
        some: range,
        piece: int,
        enough: int | None,
        ids: list[list[NDArray[np.int32]]],
    ) -> None:
        """Tokenize a run of texts in rounds, one piece of every unfinished text per round, into `ids`."""
        unfinished = [(i, 0) for i in some]
        while unfinished:
            ends = [self._piece_end(texts[i], begin, piece) for i, begin in unfinished]
            pieces = [texts[i][begin:end] for (i, begin), end in zip(unfinished, ends, strict=True)]
            following = []
            encodings = self._backend.encode_batch_fast(pieces, add_special_tokens=False)
            for (i, _), end, encoding in zip(unfinished, ends, encodings, strict=True):
                ids[i].append(np.array(encoding.ids, dtype=np.int32))
                known = sum(map(len, ids[i]))
                if end < len(texts[i]) and (enough is None or known <= enough):
                    following.append((i, end))
            unfinished = following

    def _piece_end(self, text: str, begin: int, piece: int) -> int:
        """Return where the piece that starts at `begin` may end without changing any token."""
        if self._cut is None or len(text) - begin <= piece:
            return len(text)
        found = self._cut.search(text, begin + piece)
        return found.start() if found else len(text)


def _chunks(body: int, room: int) -> Iterator[tuple[int, int]]:
    """Split a body into [begin, end) spans of at most `room` tokens that overlap by 8; at least one."""
    begin = 0
    while begin + room < body:
        yield begin, begin + room
        begin += room - CHUNK_OVERLAP
    yield begin, body


def _runs(texts: Sequence[str], piece: int) -> Iterator[range]:
    """Split the texts into runs whose next pieces together stay near what the tokenizer may hold at once."""
    begin = characters = 0
    for i, text in enumerate(texts):
        characters += min(len(text), piece)
        if characters >= _MAX_CALL:
            yield range(begin, i + 1)
            begin, characters = i + 1, 0
    if begin < len(texts):
        yield range(begin, len(texts))


def _special_ids(backend: hf.Tokenizer) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the ids put before and after a text: the template's, else [CLS] and [SEP]."""
    probe = "a"
    bare = backend.encode(probe, add_special_tokens=False).ids
    full = backend.encode(probe).ids
    extra = len(full) - len(bare)
    if extra:
        # The bare ids occur once; what stands left and right of them is the template.
        at = next(i for i in range(extra + 1) if full[i : i + len(bare)] == bare)
        left, right = full[:at], full[at + len(bare) :]
    else:
        cls_id, sep_id = backend.token_to_id("[CLS]"), backend.token_to_id("[SEP]")
        if cls_id is None or sep_id is None:
            raise CheckpointError(
                "the tokenizer has no post-processor and its vocabulary lacks [CLS] or [SEP]; "
                "use the tokenizer files of a BERT or NomicBERT checkpoint"
            )
        left, right = [cls_id], [sep_id]
    return np.array(left, dtype=np.int32), np.array(right, dtype=np.int32)


def _safe_cut(backend: hf.Tokenizer) -> re.Pattern[str] | None:
    """Return a pattern of the characters before which a cut changes no token; None if that is not known.

    BERT's pre-tokenizer ends a word at these characters whatever surrounds them, unless an added token such
    as [MASK], which is matched before everything else, holds one of them.
    """
    bert = (
        isinstance(backend.model, hf.models.WordPiece)
        and isinstance(backend.normalizer, hf.normalizers.BertNormalizer)
        and isinstance(backend.pre_tokenizer, hf.pre_tokenizers.BertPreTokenizer)
    )
    if not bert:
        return None
    taken = set(chain.from_iterable(token.content for token in backend.get_added_tokens_decoder().values()))
    plain = "".join(sorted({*" \t\r\n", *_PUNCTUATION} - taken))
    alone = backend.normalizer.handle_chinese_chars and not any("\u4e00" <= c <= "\u9fff" for c in taken)
    ideographs = "\u4e00-\u9fff" if alone else ""
    return re.compile(f"[{re.escape(plain)}{ideographs}]")


def _read_options(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        return {}
    try:
        options = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error
    if not isinstance(options, dict):
        raise CheckpointError(f"{file} must hold a JSON object, not {type(options).__name__}")
    for key in ("do_lower_case", "strip_accents", "tokenize_chinese_chars"):
        if options.get(key) not in (None, True, False):
            raise CheckpointError(f"{file}: {key} is {options[key]!r}; it must be true or false")
    return {key: value for key, value in options.items() if value is not None}


def _read_tokenizer_json(file: Path, options: Mapping[str, Any]) -> hf.Tokenizer:
    try:
        backend = hf.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises Exception itself for a damaged file
        raise CheckpointError(f"{file} cannot be read: {error}") from error
    normalizer = backend.normalizer
    if isinstance(normalizer, hf.normalizers.BertNormalizer):
        normalizer.lowercase = options.get("do_lower_case", normalizer.lowercase)
        normalizer.strip_accents = options.get("strip_accents", normalizer.strip_accents)
        alone = options.get("tokenize_chinese_chars", normalizer.handle_chinese_chars)
        normalizer.handle_chinese_chars = alone
        backend.normalizer = normalizer
    return backend


def _read_vocabulary(file: Path, options: Mapping[str, Any]) -> hf.Tokenizer:
    try:
        # One token per "\n"; splitlines would also split at characters that are tokens themselves.
        lines = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error
    vocabulary = {line.rstrip("\r"): index for index, line in enumerate(lines)}
    missing = [token for token in ("[UNK]", "[CLS]", "[SEP]") if token not in vocabulary]
    if missing:
        raise CheckpointError(f"{file} lacks {', '.join(missing)}; it is not a BERT vocabulary")
    backend = hf.Tokenizer(hf.models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    backend.normalizer = hf.normalizers.BertNormalizer(
        lowercase=options.get("do_lower_case", True),
        strip_accents=options.get("strip_accents"),
        handle_chinese_chars=options.get("tokenize_chinese_chars", True),
    )
    backend.pre_tokenizer = hf.pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens([token for token in _SPECIAL_TOKENS if token in vocabulary])
    return backend
