"""Grouping sequences into padded batches by what they cost, not by how many they are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gnomonic.inference.engines.base import BatchBudget, Feeds

__all__ = ["pad", "plan_batches"]

# Attention does 4·hidden operations per cell and layer, the matrices 24 to 32·hidden² per token, so a cell
# costs 1/(6·hidden) to 1/(8·hidden) of a token; one constant serves widths of 384 to 768.
_CELLS_PER_TOKEN = 4096


def plan_batches(lengths: ArrayLike, budget: BatchBudget) -> list[NDArray[np.intp]]:
    """Partition sequences into batches of similar length, each inside the budget, at the least planned cost.

    The cost of a batch is its padded tokens (rows × width), plus its attention cells (rows × width²) in units
    of tokens, plus a fixed cost. Groups of neighbouring lengths are chosen by dynamic programming over the
    distinct lengths; a group larger than the budget becomes several even batches.

    Args:
        lengths: [n] tokens per sequence, each at least 1.
        budget: what one batch may hold. A single sequence beyond it is a batch of its own.

    Returns:
        Batches of indices into `lengths`, longest sequences first; equal lengths keep their order. Every
        index is in exactly one batch, and the same lengths always give the same plan.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    if sizes.size == 0:
        return []
    order = np.argsort(-sizes, kind="stable")
    negated, counts = np.unique(-sizes, return_counts=True)
    widths = -negated
    starts = np.concatenate([[0], np.cumsum(counts)])
    batches: list[NDArray[np.intp]] = []
    for first, end in pairwise(_cheapest_cuts(widths, starts, budget)):
        members = order[starts[first] : starts[end]]
        batches.extend(np.array_split(members, _batches_needed(len(members), int(widths[first]), budget)))
    return batches


def pad(token_lists: Sequence[Sequence[int] | NDArray[np.integer]], *, pad_id: int = 0) -> Feeds:
    """Lay sequences into one rectangle, padded on the right.

    Args:
        token_lists: token ids, special tokens included; at least one sequence, none empty.
        pad_id: the id that fills the padding; the mask hides it.

    Returns:
        `input_ids` and `attention_mask`, both [batch, seq] int64, with seq the longest length.
    """
    lengths = np.fromiter(map(len, token_lists), dtype=np.int64, count=len(token_lists))
    inside = np.arange(lengths.max()) < lengths[:, None]
    input_ids = np.full(inside.shape, pad_id, dtype=np.int64)
    input_ids[inside] = np.concatenate(token_lists)
    return {"input_ids": input_ids, "attention_mask": inside.astype(np.int64)}


def _rows_allowed(widths: NDArray[np.int64], budget: BatchBudget) -> NDArray[np.int64]:
    """Return how many rows of each width [k] fit one batch; at least 1."""
    rows: NDArray[np.int64] = np.minimum(budget.max_tokens // widths, budget.max_cells // (widths * widths))
    return rows.clip(min=1)


def _batches_needed(rows: int, width: int, budget: BatchBudget) -> int:
    allowed = int(_rows_allowed(np.array([width], dtype=np.int64), budget)[0])
    return -(-rows // allowed)


def _cheapest_cuts(widths: NDArray[np.int64], starts: NDArray[np.int64], budget: BatchBudget) -> list[int]:
    """Find the cheapest split of the distinct widths [k], descending, into runs; return the runs' bounds.

    best[i] is the least cost of widths i and after; the run that begins at i is padded to widths[i].
    """
    k = len(widths)
    cost_per_row = widths + widths * widths / _CELLS_PER_TOKEN
    allowed = _rows_allowed(widths, budget)
    best = np.zeros(k + 1)
    run_end = np.zeros(k, dtype=np.int64)
    for i in range(k - 1, -1, -1):
        rows = starts[i + 1 :] - starts[i]
        batches = -(-rows // allowed[i])
        total = rows * cost_per_row[i] + batches * budget.call_tokens + best[i + 1 :]
        shortest = int(np.argmin(total))
        best[i] = total[shortest]
        run_end[i] = i + 1 + shortest
    cuts = [0]
    while cuts[-1] < k:
        cuts.append(int(run_end[cuts[-1]]))
    return cuts
