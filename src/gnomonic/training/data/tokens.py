"""The token ids of a corpus, end to end in one memory-mapped file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.errors import ConfigError, InputError
from gnomonic.training.data.cache import appearing, cache_folder, fingerprint
from gnomonic.training.data.readers import CONTENT
from gnomonic.training.data.tables import find_files
from gnomonic.training.data.texts import iter_texts

__all__ = ["Encode", "TokenStore", "open_tokens"]

Encode = Callable[[Sequence[str]], Sequence[Sequence[int]]]
"""Texts → the token ids of each, special tokens included and nothing cut off."""

_TEXTS_AT_ONCE = 512


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenStore:
    """Documents as token ids."""

    ids: NDArray[np.uint16] | NDArray[np.uint32]
    """[tokens] of all documents of the corpus, memory-mapped."""
    starts: NDArray[np.int64]
    """[documents] int64: where each document begins in `ids`."""
    lengths: NDArray[np.int64]
    """[documents] int64: its tokens."""

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self.starts)

    def hold_out(self, share: float, seed: int) -> tuple[TokenStore, TokenStore]:
        """Return the documents to train on and, drawn at random, the share of them to judge by (at least one).

        Raises:
            ConfigError: one of the two would be empty.
        """
        count = max(1, round(share * len(self)))
        if not 0 < share < 1 or count >= len(self):
            raise ConfigError(
                f"validation share {share} of {len(self)} documents leaves nothing on one side; take 0.01, for example"
            )
        order = np.random.default_rng(seed).permutation(len(self))
        return self._part(np.sort(order[count:])), self._part(np.sort(order[:count]))

    def _part(self, documents: NDArray[np.int64]) -> TokenStore:
        return TokenStore(ids=self.ids, starts=self.starts[documents], lengths=self.lengths[documents])


def open_tokens(
    patterns: Sequence[str],
    folder: Path,
    encode: Encode,
    *,
    vocab_size: int,
    tokenizer: str,
    columns: Sequence[str] = CONTENT,
    cache: Path | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> TokenStore:
    """Tokenise data files, or map the tokens of the last time.

    Args:
        patterns: files or globs; see `open_tables`.
        folder: what they are relative to.
        encode: tokenises; asked in blocks of a few hundred texts.
        vocab_size: ids are below this.
        tokenizer: what identifies the tokenizer, such as a digest of its file; another one tokenises again.
        columns: which texts to take, of query, document and text; see `iter_texts`.
        cache: folder for the converted files and the tokens; default is `data` in GNOMONIC_CACHE.
        on_progress: called while tokenising, with the documents done so far.

    Raises:
        ConfigError: a pattern matches nothing, or no file has the columns.
        InputError: a file is damaged, no text has a token, or the cache folder cannot be written.
    """
    parts = [tokenizer, str(vocab_size), *columns]
    parts += [f"{path} {fingerprint(path)}" for path in find_files(patterns, folder)]
    target = (
        cache_folder(cache)
        / f"tokens-{hashlib.sha256(chr(0).join(parts).encode(errors='surrogateescape')).hexdigest()[:16]}"
    )
    kind: type[np.unsignedinteger[Any]] = np.uint16 if vocab_size <= 1 << 16 else np.uint32
    if not target.is_dir():
        texts = iter_texts(patterns, folder, columns=columns, cache=cache)
        _keep(_encoded(texts, encode, vocab_size), target, kind, on_progress)
    lengths = np.fromfile(target / "lengths.bin", np.int64)
    return TokenStore(
        ids=np.memmap(target / "ids.bin", kind, "r"), starts=np.cumsum(lengths) - lengths, lengths=lengths
    )


def _encoded(texts: Iterable[str], encode: Encode, vocab_size: int) -> Iterator[list[Sequence[int]]]:
    stream = iter(texts)
    while block := list(islice(stream, _TEXTS_AT_ONCE)):
        documents = [ids for ids in encode(block) if len(ids)]
        if (top := max(map(max, documents), default=0)) >= vocab_size:
            raise ConfigError(f"the tokenizer gives id {top}, which a vocabulary of {vocab_size} entries does not have")
        yield documents


def _keep(
    blocks: Iterable[list[Sequence[int]]],
    target: Path,
    kind: type[np.unsignedinteger[Any]],
    on_progress: Callable[[int], None] | None,
) -> None:
    """Write ids.bin and lengths.bin into a folder that appears under its name only when it is whole."""
    with appearing(target) as fresh:
        if fresh is None:
            return
        done = 0
        with (fresh / "ids.bin").open("wb") as ids, (fresh / "lengths.bin").open("wb") as lengths:
            for documents in blocks:
                ids.write(np.fromiter((token for text in documents for token in text), kind).tobytes())
                lengths.write(np.array([len(text) for text in documents], np.int64).tobytes())
                done += len(documents)
                if on_progress:
                    on_progress(done)
        if not done:
            raise InputError("data: no text has a token; give files with texts")
