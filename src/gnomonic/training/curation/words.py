"""What makes two texts the same: normalised text, its key, and hashed runs of words."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Ngrams", "column_keys", "normalise", "text_key", "words"]

# Scripts written without spaces: each character is a word.
_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_IDEOGRAPHS}]|[^\W{_IDEOGRAPHS}]+")
_BASE = np.uint64(0x9E3779B97F4A7C15)
_MEMO_WORDS = 1 << 20
_BATCH_ROWS = 8192


def normalise(text: str) -> str:
    """Return the text with compatible characters made one (NFKC), letter case and the kind of white space lost."""
    folded = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return " ".join(folded.casefold().split())


def text_key(text: str) -> int:
    """Return 64 bits that are equal for texts that are equal when normalised, and in practice for no others."""
    return int.from_bytes(hashlib.blake2b(normalise(text).encode("utf-8"), digest_size=8).digest(), "little")


def column_keys(
    table: pa.Table, column: str, on_progress: Callable[[int, int], None] | None = None
) -> NDArray[np.uint64]:
    """Return the key of every text of a column, reading it as a stream.

    Args:
        table: any table with that column of texts, none null.
        column: its name.
        on_progress: called with the rows done and the rows there are.

    Returns:
        [rows] uint64; see `text_key`.
    """
    keys = np.empty(table.num_rows, np.uint64)
    done = 0
    for batch in table.select([column]).to_batches(max_chunksize=_BATCH_ROWS):
        texts = batch.column(0).to_pylist()
        keys[done : done + len(texts)] = [text_key(text) for text in texts]
        done += len(texts)
        if on_progress is not None:
            on_progress(done, table.num_rows)
    return keys


def words(text: str) -> list[str]:
    """Return the words of a text, normalised: runs of letters, digits and _; each ideograph and kana by itself."""
    return _WORD.findall(normalise(text))


class Ngrams:
    """Hashes of the runs of `size` words of texts; the same in every process.

    A text of fewer words is one run; one without any word, such as "++", is one run of its own.
    """

    def __init__(self, size: int) -> None:
        """Hash runs of `size` words, 1 or more."""
        self.size = size
        self._memo: dict[str, int] = {}

    def of(self, texts: Iterable[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Return the runs of each text.

        Args:
            texts: n texts.

        Returns:
            The hashes of all runs, [m] uint64, and where each text's begin and end, [n + 1] int64; each text has at
            least one run, and equal runs stand as often as they occur.
        """
        flat: list[int] = []
        lengths: list[int] = []
        for text in texts:
            ids = self._ids(words(text)) or [text_key(text)]
            ids += [0] * (self.size - len(ids))
            flat += ids
            lengths.append(len(ids))
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
        values = np.array(flat, np.uint64)
        counts = np.diff(offsets) - self.size + 1
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        first = np.arange(int(starts[-1])) + np.repeat(offsets[:-1] - starts[:-1], counts)
        hashes = np.zeros(len(first), np.uint64)
        for place in range(self.size):
            hashes = _mixed(hashes * _BASE + values[first + place])
        return hashes, starts

    def sets(self, texts: Sequence[str]) -> list[frozenset[int]]:
        """Return the different runs of each text."""
        hashes, starts = self.of(texts)
        return [frozenset(hashes[begin:end].tolist()) for begin, end in pairwise(starts)]

    def _ids(self, found: list[str]) -> list[int]:
        memo = self._memo
        if len(memo) > _MEMO_WORDS:
            memo.clear()
        ids = []
        for word in found:
            value = memo.get(word)
            if value is None:
                digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
                value = memo[word] = int.from_bytes(digest, "little")
            ids.append(value)
        return ids


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread 64-bit values: the finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
