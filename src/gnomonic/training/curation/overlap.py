"""Training rows that hold texts of an evaluation: equal ones, and long ones that share most of their runs of words."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.errors import ConfigError, InputError
from gnomonic.training.curation.pairs import Pairs
from gnomonic.training.curation.words import Ngrams, text_key
from gnomonic.training.curation.workplace import Workplace, digest_of

__all__ = ["Judged", "Overlap", "OverlapConfig", "find_overlap", "read_judged"]

_BATCH_ROWS = 2048
_COLUMNS = ("document", "query")
_NOT_TEXT = {"id", "qid", "did", "type", "label", "score", "source"}
_COMMON = 256
"""A run of words that stands in more evaluation texts than this is a phrase, and says nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OverlapConfig:
    """When a training text holds an evaluation text."""

    ngram: int = 8
    """Words of a run; texts with fewer must have the same words."""
    containment: float = 0.8
    """Share of the shorter text's runs that the other text has too."""

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ConfigError: a value is out of range.
        """
        if self.ngram < 2:
            raise ConfigError(f"ngram {self.ngram} is too small; choose 2 or more words")
        if not 0 < self.containment <= 1:
            raise ConfigError(f"containment {self.containment} is out of range; choose above 0, at most 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """The texts of evaluation files, each once per file."""

    files: tuple[str, ...]
    """Their names."""
    texts: tuple[str, ...]
    file: NDArray[np.int64]
    """[texts] place in `files`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlap:
    """What was found."""

    text: NDArray[np.int64]
    """[rows] an evaluation text that the row's query or document holds, -1 for none."""
    exact: NDArray[np.bool_]
    """[rows] whether it is equal to it, normalised."""

    def by_file(self, judged: Judged) -> list[dict[str, Any]]:
        """Return, for each evaluation file, its texts, the rows that hold one, and how many of its texts they hold."""
        hit = self.text >= 0
        found = []
        for place, name in enumerate(judged.files):
            mine = hit & (judged.file[self.text] == place)
            found.append(
                {
                    "evaluation": name,
                    "texts": int((judged.file == place).sum()),
                    "rows_equal": int((mine & self.exact).sum()),
                    "rows_containing": int((mine & ~self.exact).sum()),
                    "texts_held": len(np.unique(self.text[mine])),
                }
            )
        return found


def read_judged(paths: Sequence[Path]) -> Judged:
    """Read every text of evaluation files.

    Args:
        paths: .jsonl or .jsonl.gz files, of which every string is a text but ids, labels and the like; or files in any
            format of training data.

    Raises:
        InputError: a file is damaged or holds no text.
        ConfigError: a file's format is unknown.
    """
    texts: list[str] = []
    file: list[int] = []
    for place, path in enumerate(paths):
        plain = path.name.lower().removesuffix(".gz")
        own = dict.fromkeys(_lines(path) if plain.endswith(".jsonl") else _columns(path))
        if not own:
            raise InputError(f"{path}: no text to compare with; name evaluation files")
        texts += own
        file += [place] * len(own)
    return Judged(files=tuple(path.name for path in paths), texts=tuple(texts), file=np.array(file, np.int64))


def _lines(path: Path) -> Iterator[str]:
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    number = 0
    try:
        with opened(path, "rt", encoding="utf-8-sig") as lines:
            for line in lines:
                number += 1
                if line.strip():
                    yield from _strings(json.loads(line))
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path}, line {number}: cannot be read: {error}") from error


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        if value.strip():
            yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in _NOT_TEXT:
                yield from _strings(item)


def _columns(path: Path) -> Iterator[str]:
    from gnomonic.training.data.tables import open_tables

    table = open_tables([str(path.resolve())], path.parent, need=())
    for name in set(table.column_names) & {"query", "document", "text"}:
        for batch in table.select([name]).to_batches(max_chunksize=_BATCH_ROWS):
            yield from (text for text in batch.column(0).to_pylist() if text)


def find_overlap(pairs: Pairs, judged: Judged, config: OverlapConfig, place: Workplace) -> Overlap:
    """Find the rows whose query or document holds an evaluation text.

    Args:
        pairs: the rows.
        judged: the texts of the evaluation.
        config: what counts as holding.
        place: keeps what is finished.
    """
    text = np.full(len(pairs), -1, np.int64)
    judged_keys = np.array([text_key(item) for item in judged.texts], np.uint64)
    order, keys = _sorted(judged_keys)
    index = _Index(judged.texts, config)
    for column in _COLUMNS:
        own = pairs.keys[column][: len(pairs)]
        at = np.minimum(np.searchsorted(keys, own), len(keys) - 1)
        equal = keys[at] == own
        text[equal] = order[at[equal]]
    exact = text >= 0

    def held(begin: int, end: int) -> NDArray[np.int64]:
        return np.stack([index.held(pairs.texts(column, np.arange(begin, end))) for column in _COLUMNS], axis=1)

    decisive = [*(pairs.keys[column][: len(pairs)] for column in _COLUMNS), judged_keys, config]
    shape = (len(pairs), len(_COLUMNS))
    found = place.rows(digest_of("overlap", *decisive), shape, np.int64, held, what="comparing with the evaluation")
    for column in np.array(found, np.int64).T:
        fresh = (column >= 0) & ~exact
        text[fresh] = column[fresh]
    return Overlap(text=text, exact=exact)


def _sorted(keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    order = np.argsort(keys, kind="stable")
    return order, keys[order]


class _Index:
    """Runs of words → the evaluation texts that have them."""

    def __init__(self, texts: Sequence[str], config: OverlapConfig) -> None:
        self._config = config
        self._ngrams = Ngrams(config.ngram)
        keys, owners, self._sizes = self._runs(texts)
        order = np.argsort(keys, kind="stable")
        self._keys, self._owners = keys[order], owners[order]

    def held(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return, for each text, the evaluation text that it shares most with, if that is enough; else -1: [n]."""
        keys, owners, sizes = self._runs(texts)
        low, high = (np.searchsorted(self._keys, keys, side) for side in ("left", "right"))
        counts = np.where(high - low > _COMMON, 0, high - low)
        who = np.repeat(owners, counts)
        offsets = np.arange(len(who)) - np.repeat(np.cumsum(counts) - counts, counts)
        what = self._owners[np.repeat(low, counts) + offsets]
        codes, shared = np.unique(who * len(self._sizes) + what, return_counts=True)
        who, what = np.divmod(codes, len(self._sizes))
        share = shared / np.minimum(sizes[who], self._sizes[what])
        best = np.argsort(share, kind="stable")
        found = np.full(len(texts), -1, np.int64)
        enough = best[share[best] >= self._config.containment]
        found[who[enough]] = what[enough]
        return found

    def _runs(self, texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the different runs of all texts, the text of each, and how many each text has.

        A text shorter than a run has a run of its own that is padded, which equals only that of the same few words.
        """
        hashes, starts = self._ngrams.of(texts)
        owners = np.repeat(np.arange(len(texts)), np.diff(starts))
        order = np.lexsort((hashes, owners))
        hashes, owners = hashes[order], owners[order]
        fresh = np.append(True, (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1]))
        sizes = np.bincount(owners[fresh], minlength=len(texts))
        return hashes[fresh], owners[fresh], sizes
