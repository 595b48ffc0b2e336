"""Rows that say the same: exact duplicates by normalised text, near ones by MinHash, each checked exactly.

MinHash with banding (Broder 1997; Leskovec, Rajaraman, Ullman, *Mining of Massive Datasets*, §3.4) only proposes which
rows to compare; what decides is the Jaccard similarity of their runs of three words, so no row is dropped by chance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from gnomonic.errors import ConfigError
from gnomonic.training.curation.overlap import Judged, Overlap
from gnomonic.training.curation.pairs import Pairs
from gnomonic.training.curation.report import Report, count_by_source
from gnomonic.training.curation.words import Ngrams
from gnomonic.training.curation.workplace import Workplace, digest_of

__all__ = ["DedupConfig", "Duplicates", "band_shape", "dedup_report", "find_duplicates"]

_HASHES = 128
_RECALL = 0.999
_BATCH_PAIRS = 8192
_SAVE_EVERY = 64
"""Batches of comparisons after which the state of them is kept."""
_NEIGHBOURS = 32
_COLUMNS_AT_ONCE = 8
_EXAMPLES = 20
_COLUMNS = {"pair": ("query", "document"), "query": ("query",), "document": ("document",)}


@dataclass(frozen=True, kw_only=True, slots=True)
class DedupConfig:
    """Which rows are duplicates."""

    by: str = "pair"
    """What must be alike: "pair" (query and document, each), "query" or "document"."""
    similarity: float = 0.8
    """Jaccard similarity of the runs of words from which texts are near duplicates; 1 finds exact ones only."""
    shingle: int = 3
    """Words of a run."""
    seed: int = 0
    """Of the hash functions that propose candidates."""

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ConfigError: a value is out of range.
        """
        if self.by not in _COLUMNS:
            raise ConfigError(f"by {self.by!r} is unknown; choose {', '.join(_COLUMNS)}")
        if not 0.3 <= self.similarity <= 1:
            raise ConfigError(f"similarity {self.similarity} is out of range; choose 0.3 to 1")
        if self.shingle < 1:
            raise ConfigError(f"shingle {self.shingle} is too small; choose 1 or more words")


@dataclass(frozen=True, kw_only=True, slots=True)
class Duplicates:
    """What was found."""

    keeper: NDArray[np.int64]
    """[rows] the earlier row that a row repeats; its own number for a row that is kept."""
    exact: NDArray[np.bool_]
    """[rows] whether it repeats it exactly, normalised."""

    @property
    def kept(self) -> NDArray[np.bool_]:
        """[rows] whether a row stays."""
        kept: NDArray[np.bool_] = self.keeper == np.arange(len(self.keeper))
        return kept


def band_shape(similarity: float) -> tuple[int, int]:
    """Return bands and hashes per band: texts that similar share a band with probability of at least 0.999.

    1 - (1 - s^r)^b for b bands of r hashes, with the largest r for which b·r ≤ 128 hashes reach it.
    """
    for rows in range(16, 1, -1):
        bands = _HASHES // rows
        if 1 - (1 - similarity**rows) ** bands >= _RECALL:
            return bands, rows
    return _HASHES, 1


def find_duplicates(pairs: Pairs, config: DedupConfig, place: Workplace) -> Duplicates:
    """Find rows that repeat an earlier row.

    Every near duplicate is at least as similar to the row that is kept for it as asked for: chains of small changes do
    not join what is unlike. With by="pair" that holds for the query and for the document. The result does not depend
    on how rows are divided into files, only on their order.

    Args:
        pairs: the rows.
        config: what counts as a duplicate.
        place: keeps what is finished.
    """
    columns = _COLUMNS[config.by]
    key = pairs.keys[columns[0]][: len(pairs)]
    if len(columns) == 2:
        key = key * np.uint64(0x9E3779B97F4A7C15) ^ pairs.keys[columns[1]][: len(pairs)]
    _, first, group = np.unique(key, return_index=True, return_inverse=True)
    keeper = first[group.reshape(-1)].astype(np.int64)
    exact = keeper != np.arange(len(pairs))
    if config.similarity < 1:
        _mark_near(pairs, config, keeper, place)
    return Duplicates(keeper=keeper, exact=exact)


def _mark_near(pairs: Pairs, config: DedupConfig, keeper: NDArray[np.int64], place: Workplace) -> None:
    """Set the keeper of near duplicates, and of exact duplicates of those."""
    rows = np.sort(np.unique(keeper))
    shape = band_shape(config.similarity)
    key = digest_of("dedup", *(pairs.keys[column][: len(pairs)] for column in _COLUMNS[config.by]), config)

    def hashed(begin: int, end: int) -> NDArray[np.uint64]:
        return _bands(pairs, rows[begin:end], config, shape).T

    candidates = place.result(
        f"{key}-candidates",
        lambda: _candidates(place.rows(key, (len(rows), shape[0]), np.uint64, hashed, what="hashing")),
    )
    place.drop(key)
    # The first value says how many candidates are done, the others what is known of the rows by then.
    kept = place.get(f"{key}-compared")
    state = np.concatenate([[0], np.arange(len(pairs))]) if kept is None else kept.astype(np.int64)
    root = state[1:]
    for begin in range(int(state[0]), len(candidates), _BATCH_PAIRS):
        end = min(begin + _BATCH_PAIRS, len(candidates))
        _compare(pairs, config, rows[candidates[begin:end]], root)
        place.tell("comparing", end, len(candidates))
        if (end // _BATCH_PAIRS) % _SAVE_EVERY == 0 or end == len(candidates):
            state[0] = end
            place.put(f"{key}-compared", state)
    keeper[:] = root[keeper]


def _bands(pairs: Pairs, rows: NDArray[np.int64], config: DedupConfig, shape: tuple[int, int]) -> NDArray[np.uint64]:
    """Return the hash of each band of each row's MinHash signature, [bands, rows] uint64."""
    rng = np.random.default_rng(config.seed)
    ngrams = Ngrams(config.shingle)
    parts = [ngrams.of(pairs.texts(column, rows)) for column in _COLUMNS[config.by]]
    values = np.empty((shape[0], len(rows)), np.uint64)
    for band in range(shape[0]):
        joined = np.zeros(len(rows), np.uint64)
        for _ in range(shape[1]):
            # Multiply-shift (Dietzfelbinger et al. 1997): an odd factor, and the high bits of the product. The columns
            # of a pair have their own: the same words in the query and in the document are two.
            constants = rng.integers(0, 1 << 63, (len(parts), 2), np.uint64) * np.uint64(2) + np.uint64(1)
            least = [
                np.minimum.reduceat((hashes * factor + term) >> np.uint64(32), starts[:-1])
                for (hashes, starts), (factor, term) in zip(parts, constants, strict=True)
            ]
            joined = joined * np.uint64(0xD6E8FEB86659FD93) + np.minimum.reduce(least) + np.uint64(1)
        values[band] = joined
    return values


def _candidates(signatures: NDArray[np.generic]) -> NDArray[np.int64]:
    """Return pairs of rows (i, j), i < j, that share a band, each once, ordered by j: [n, 2].

    Of many rows that share a band, each is compared with the first and with the nearest before it, so that the work
    stays in proportion to their number.
    """
    total = len(signatures)
    codes = [np.empty(0, np.int64)]
    for band in _columns(signatures):
        order = np.argsort(band, kind="stable")
        sorted_band = band[order]
        starts = np.flatnonzero(np.append(True, sorted_band[1:] != sorted_band[:-1]))
        run = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, total)))
        for lag in range(1, min(_NEIGHBOURS, total - 1) + 1):
            same = np.flatnonzero(run[lag:] == run[:-lag])
            if not len(same):
                break
            codes.append(order[same + lag] * total + order[same])
        head = starts[run]
        far = np.flatnonzero(np.arange(total) - head > _NEIGHBOURS)
        codes.append(order[far] * total + order[head[far]])
        codes = [np.unique(np.concatenate(codes))]
    j, i = np.divmod(codes[0], max(total, 1))
    return np.stack([i, j], axis=1)


def _columns(signatures: NDArray[np.generic]) -> Iterator[NDArray[np.generic]]:
    """Give one column after another, reading the rows, which may be on disk, once for several of them."""
    for begin in range(0, signatures.shape[1], _COLUMNS_AT_ONCE):
        yield from np.ascontiguousarray(signatures[:, begin : begin + _COLUMNS_AT_ONCE].T)


def _compare(pairs: Pairs, config: DedupConfig, candidates: NDArray[np.int64], root: NDArray[np.int64]) -> None:
    """Set the root of every row that is like an earlier one, or like that one's root."""
    wanted = np.unique(np.concatenate([candidates.ravel(), root[candidates.ravel()]]))
    ngrams = Ngrams(config.shingle)
    sets = [
        dict(zip(wanted.tolist(), ngrams.sets(pairs.texts(column, wanted)), strict=True))
        for column in _COLUMNS[config.by]
    ]
    for i, j in candidates.tolist():
        if root[j] != j:
            continue
        target = int(root[i])
        if all(_jaccard(of[target], of[j]) >= config.similarity for of in sets):
            root[j] = target


def _jaccard(left: frozenset[int], right: frozenset[int]) -> float:
    both = len(left & right)
    return both / (len(left) + len(right) - both)


def dedup_report(
    pairs: Pairs,
    found: Duplicates,
    config: DedupConfig,
    *,
    overlap: Overlap | None = None,
    judged: Judged | None = None,
) -> Report:
    """Return what was dropped and why, by source, with near duplicates and overlaps as examples.

    Args:
        pairs: the rows.
        found: see `find_duplicates`.
        config: what was asked for.
        overlap: rows that hold texts of an evaluation, which are dropped too.
        judged: those texts.
    """
    held = overlap.text >= 0 if overlap else np.zeros(len(pairs), bool)
    near = ~found.kept & ~found.exact
    masks = {"kept": found.kept & ~held, "exact_duplicates": found.exact, "near_duplicates": near}
    details: dict[str, object] = {
        "exact duplicates": int(found.exact.sum()),
        "near duplicates": int(near.sum()),
    }
    examples = list(_examples(pairs, found.keeper, np.flatnonzero(near)))
    if overlap and judged:
        masks["in_evaluation"] = held
        details |= {
            "rows equal to an evaluation text": int(overlap.exact.sum()),
            "rows that share most of an evaluation text": int((held & ~overlap.exact).sum()),
        }
        for entry in overlap.by_file(judged):
            if entry["texts_held"]:
                rows = entry["rows_equal"] + entry["rows_containing"]
                details[f"{entry['evaluation']}: rows"] = rows
                details[f"{entry['evaluation']}: texts held, of {entry['texts']:,}"] = entry["texts_held"]
        examples += _overlap_examples(pairs, overlap, judged)
    return Report(
        command="dedup",
        settings=asdict(config),
        rows_in=len(pairs),
        rows_out=int(masks["kept"].sum()),
        sources=count_by_source(pairs, masks),
        details=details,
        examples=examples,
    )


def _examples(pairs: Pairs, keeper: NDArray[np.int64], near: NDArray[np.int64]) -> Iterator[dict[str, object]]:
    chosen = np.sort(np.random.default_rng(0).permutation(near)[:_EXAMPLES])
    kept = pairs.take(keeper[chosen]).to_pylist()
    for row, other in zip(pairs.take(chosen).to_pylist(), kept, strict=True):
        yield {
            "reason": "near duplicate",
            "source": row["source"],
            "query": row["query"][:200],
            "document": row["document"][:200],
            "repeats": f"{other['query'][:100]} / {other['document'][:100]}",
        }


def _overlap_examples(pairs: Pairs, overlap: Overlap, judged: Judged) -> Iterator[dict[str, object]]:
    rows = np.flatnonzero(overlap.text >= 0)
    chosen = np.sort(np.random.default_rng(0).permutation(rows)[:_EXAMPLES])
    for row, number in zip(pairs.take(chosen).to_pylist(), overlap.text[chosen].tolist(), strict=True):
        yield {
            "reason": f"in {judged.files[judged.file[number]]}",
            "source": row["source"],
            "query": row["query"][:200],
            "document": row["document"][:200],
            "repeats": judged.texts[number][:200],
        }
