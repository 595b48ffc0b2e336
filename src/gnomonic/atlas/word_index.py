"""An index of words in plain files, which a browser searches without a server: docs/reference/formats.md.

Rows come in map order, block after block. What they say is kept in two forms: for each word the rows that have it, with
how much it counts there (BM25), in files by the word's hash; and for each row the few words that say most about it, in
blocks by position, from which selections are explained.
"""

from __future__ import annotations

import math
import re
import shutil
from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.static_export_files import json_bytes, pack, shard_of, write_file
from gnomonic.atlas.words import says_nothing

__all__ = ["WordIndex", "words_of"]

_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_MARKS = "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0900-\u0963\u0966-\u0e7f\u0e80-\u109f\u1780-\u17d3"
_WORD = re.compile(rf"[{_UNSPACED}]|(?:[^\W{_UNSPACED}]|[{_MARKS}])+")
"""viewer/data/static_words.js has the same."""

_LONGEST = 64
"""Letters of a word that count."""
_READ = 100_000
"""Characters of a text that are read."""
_K1, _B = 1.2, 0.75
"""Of BM25, as they are usually set (Robertson and Zaragoza, 2009)."""
_STEPS = 15
"""Steps in which a word's weight in a row is stored."""
_POSTINGS = 50_000
"""Of a file of words, about."""
_MOST_SHARDS = 256
_KEYED = 65_535
"""Words that rows are told by, the most frequent ones."""
_KEYS = 16
"""Words a row is told by."""
_NO_WORD = 65_535

_POSTING = np.dtype([("word", "<u4"), ("position", "<u4"), ("times", "u1")])


def words_of(text: str) -> list[str]:
    """Return the words of a text in small letters; in scripts without spaces every character is one."""
    return [word[:_LONGEST] for word in _WORD.findall(text[:_READ].lower())]


class WordIndex:
    """Takes texts, then writes the files."""

    def __init__(self, folder: Path, rows: int, block: int) -> None:
        """Begin.

        Args:
            folder: where the files go.
            rows: how many positions there are.
            block: positions of a block; `add` is called once for each.
        """
        self._folder = folder
        self._block = block
        self._numbers: dict[str, int] = {}
        self._lengths = np.zeros(rows, dtype=np.uint32)
        self._spilled = folder / ".spilled"
        self._spilled.mkdir(parents=True)
        self._counts: list[int] = []

    def add(self, number: int, texts: Sequence[str | None]) -> None:
        """Read a block's texts, one a position; None for a row that has none."""
        numbers = self._numbers
        # Millions of them in a large block: plain arrays take a tenth of the room of lists.
        found, times, sizes = array("q"), array("q"), array("q")
        for position, text in enumerate(texts, start=number * self._block):
            counted = Counter(words_of(text) if text else [])
            self._lengths[position] = counted.total()
            found.extend(numbers.setdefault(word, len(numbers)) for word in counted)
            times.extend(counted.values())
            sizes.append(len(counted))
        postings = np.empty(len(found), dtype=_POSTING)
        postings["word"] = found
        postings["times"] = np.minimum(times, 255)
        postings["position"] = np.repeat(number * self._block + np.arange(len(sizes)), sizes)
        postings.tofile(self._spill(number))
        self._counts.append(len(found))

    def write(self) -> dict[str, Any]:
        """Write all files and return what the export says of them."""
        words = list(self._numbers)
        frequencies = np.zeros(len(words), dtype=np.int64)
        for number in range(len(self._counts)):
            frequencies += np.bincount(self._read(number)["word"], minlength=len(words))
        shards = _shards(sum(self._counts))
        keyed = self._write_keys(words, frequencies)
        self._write_postings(words, shards)
        shutil.rmtree(self._spilled)
        rows = int(np.count_nonzero(self._lengths))
        return {"shards": shards, "rows": rows, "words": len(words), "keyed": keyed, "block": self._block}

    def _spill(self, number: int) -> Path:
        return self._spilled / f"{number}.postings"

    def _read(self, number: int) -> NDArray[Any]:
        return np.fromfile(self._spill(number), dtype=_POSTING)

    def _write_keys(self, words: list[str], frequencies: NDArray[np.int64]) -> int:
        """Write `keys.bin`, the words that rows are told by, and `rows/{block}.bin`; return how many words."""
        rows = max(int(np.count_nonzero(self._lengths)), 1)
        order = np.argsort(-frequencies, kind="stable")
        most = [int(one) for one in order if frequencies[one] > 1 and not says_nothing(words[one])][:_KEYED]
        key_of = np.full(len(words) + 1, _NO_WORD, dtype=np.int64)
        key_of[most] = np.arange(len(most))
        rarity = np.log1p(rows / np.maximum(frequencies, 1))
        shown = np.zeros(len(most), dtype=np.int64)
        for number in range(len(self._counts)):
            postings = self._read(number)
            postings = postings[key_of[postings["word"]] != _NO_WORD]
            said = rarity[postings["word"]] * (1 + np.log(np.maximum(postings["times"], 1)))
            postings = postings[np.lexsort((postings["word"], -said, postings["position"]))]
            at = postings["position"].astype(np.int64) - number * self._block
            begins = np.searchsorted(at, np.arange(self._block))
            place = np.arange(len(at)) - begins[at]
            use = place < _KEYS
            keys = np.full((min(self._block, len(self._lengths) - number * self._block), _KEYS), _NO_WORD, np.uint16)
            keys[at[use], place[use]] = key_of[postings["word"][use]]
            shown += np.bincount(keys[keys != _NO_WORD], minlength=len(most))
            write_file(self._folder / "rows" / f"{number}.bin", pack({"keys": _KEYS}, {"keys": keys}))
        told = {"words": [words[one] for one in most], "rows": shown.tolist()}
        write_file(self._folder / "keys.bin", json_bytes(told))
        return len(most)

    def _write_postings(self, words: list[str], shards: int) -> None:
        """Write `{shard}.bin`."""
        shard = np.array([shard_of(word, shards) for word in words], dtype=np.uint16)
        mean = float(self._lengths.sum()) / max(int(np.count_nonzero(self._lengths)), 1)
        sorted_to = [self._spilled / f"{number}.shard" for number in range(shards)]
        for number in range(len(self._counts)):
            postings = self._read(number)
            of = shard[postings["word"]] if len(words) else np.zeros(0, dtype=np.uint16)
            by_shard = np.argsort(of, kind="stable")
            ends = np.searchsorted(of[by_shard], np.arange(shards + 1))
            for one, path in enumerate(sorted_to):
                if ends[one + 1] > ends[one]:
                    with path.open("ab") as stream:
                        postings[by_shard[ends[one] : ends[one + 1]]].tofile(stream)
        for one, path in enumerate(sorted_to):
            found = np.fromfile(path, dtype=_POSTING) if path.is_file() else np.zeros(0, dtype=_POSTING)
            path.unlink(missing_ok=True)
            found = found[np.lexsort((found["position"], found["word"]))]
            self._write_shard(self._folder / f"{one}.bin", found, words, mean)

    def _write_shard(self, path: Path, found: NDArray[Any], words: list[str], mean: float) -> None:
        numbers, begins, counts = np.unique(found["word"], return_index=True, return_counts=True)
        times = found["times"].astype(np.float64)
        long = 1 - _B + _B * self._lengths[found["position"]] / max(mean, 1)
        weight = np.maximum(np.rint(_STEPS * times / (times + _K1 * long)), 1).astype(np.int64)
        position = found["position"].astype(np.int64)
        steps = np.diff(position, prepend=0)
        steps[begins] = position[begins]
        coded, sizes = _varints((steps << 4) | weight)
        ends = np.concatenate([[0], np.cumsum(sizes)])
        bounds = np.concatenate([begins, [len(found)]]).astype(np.int64)
        told = {
            "words": [words[int(one)] for one in numbers],
            "rows": counts.tolist(),
            "ends": ends[bounds[1:]].tolist(),
        }
        write_file(path, pack(told, {"postings": coded}))


def _shards(postings: int) -> int:
    wanted = max(postings, 1) / _POSTINGS
    return int(min(_MOST_SHARDS, 2 ** max(0, math.ceil(math.log2(wanted)))))


def _varints(values: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return numbers, 7 bits a byte, low ones first, the highest bit set where more follow; and the size of each."""
    sizes = np.ones(len(values), dtype=np.int64)
    for bits in range(7, 42, 7):
        sizes += values >= 1 << bits
    out = np.zeros(int(sizes.sum()), dtype=np.uint8)
    begins = np.cumsum(sizes) - sizes
    for place in range(int(sizes.max(initial=0))):
        use = sizes > place
        low = (values[use] >> (7 * place)) & 127
        out[begins[use] + place] = low | np.where(sizes[use] > place + 1, 128, 0)
    return out, sizes
