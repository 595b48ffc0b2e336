from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnomonic.inference.batching import pad, plan_batches
from gnomonic.inference.engines.base import BatchBudget

BUDGETS = st.builds(BatchBudget, max_tokens=st.integers(1, 5000), max_cells=st.integers(1, 20_000_000))
LENGTHS = st.lists(st.integers(1, 40) | st.integers(1, 8192), max_size=120)


def _padded(plan: list[np.ndarray], lengths: np.ndarray) -> int:
    return sum(len(batch) * int(lengths[batch].max()) for batch in plan)


def _log_normal(n: int) -> np.ndarray:
    drawn = np.random.default_rng(7).lognormal(mean=5.0, sigma=0.7, size=n)
    return np.clip(drawn, 3, 8192).astype(np.int64)


@given(lengths=LENGTHS, budget=BUDGETS)
def test_every_index_is_in_exactly_one_batch(lengths: list[int], budget: BatchBudget) -> None:
    plan = plan_batches(lengths, budget)
    assert sorted(np.concatenate([np.zeros(0, int), *plan]).tolist()) == list(range(len(lengths)))
    assert all(len(batch) for batch in plan)


@given(lengths=LENGTHS, budget=BUDGETS)
def test_batches_stay_inside_the_budget_unless_alone(lengths: list[int], budget: BatchBudget) -> None:
    sizes = np.array(lengths, dtype=np.int64)
    for batch in plan_batches(sizes, budget):
        rows, width = len(batch), int(sizes[batch].max())
        fits = rows * width <= budget.max_tokens and rows * width * width <= budget.max_cells
        assert fits or rows == 1


@given(lengths=LENGTHS, budget=BUDGETS)
def test_longest_come_first_and_the_plan_repeats(lengths: list[int], budget: BatchBudget) -> None:
    plan = plan_batches(lengths, budget)
    order = [lengths[i] for batch in plan for i in batch]
    assert order == sorted(lengths, reverse=True)
    again = plan_batches(np.array(lengths, dtype=np.int32), budget)
    assert [batch.tolist() for batch in plan] == [batch.tolist() for batch in again]


@settings(max_examples=30)
@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=9))
def test_no_split_into_neighbouring_runs_is_cheaper(lengths: list[int]) -> None:
    sizes = np.sort(np.array(lengths))[::-1]

    def cost(runs: list[np.ndarray]) -> float:
        return sum(len(run) * (run[0] + run[0] ** 2 / 4096) + 64 for run in runs)

    planned = cost([sizes[np.sort(batch)] for batch in plan_batches(sizes, BatchBudget())])
    cuts = range(2 ** (len(sizes) - 1))
    all_runs = ([i for i in range(1, len(sizes)) if mask >> (i - 1) & 1] for mask in cuts)
    assert planned == pytest.approx(min(cost(np.split(sizes, at)) for at in all_runs))


def test_no_lengths_make_no_batches() -> None:
    assert plan_batches([], BatchBudget()) == []


def test_one_long_text_among_a_thousand_short_ones_is_alone() -> None:
    lengths = np.full(1001, 12)
    lengths[500] = 8192
    plan = plan_batches(lengths, BatchBudget())
    assert plan[0].tolist() == [500]
    assert _padded(plan, lengths) == lengths.sum()


@pytest.mark.parametrize("n", [256, 2_000, 20_000])
def test_padding_waste_on_a_log_normal_corpus_is_under_5_percent(n: int) -> None:
    lengths = _log_normal(n)
    padded = _padded(plan_batches(lengths, BatchBudget()), lengths)
    assert 1 - lengths.sum() / padded < 0.05


def test_short_requests_are_not_split_into_tiny_batches() -> None:
    assert len(plan_batches([5, 7, 6, 9, 12, 8, 5, 6], BatchBudget())) == 1


def test_a_million_lengths_are_planned_in_seconds() -> None:
    lengths = np.random.default_rng(1).integers(1, 8193, 1_000_000)
    began = time.perf_counter()
    plan = plan_batches(lengths, BatchBudget(max_tokens=65_536))
    assert time.perf_counter() - began < 20
    assert sum(map(len, plan)) == 1_000_000


def test_pad_lays_sequences_side_by_side() -> None:
    feeds = pad([np.array([5, 6, 7], dtype=np.int32), [8]], pad_id=9)
    assert feeds["input_ids"].tolist() == [[5, 6, 7], [8, 9, 9]]
    assert feeds["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert feeds["input_ids"].dtype == feeds["attention_mask"].dtype == np.int64


@given(st.lists(st.lists(st.integers(0, 30_000), min_size=1, max_size=20), min_size=1, max_size=12))
def test_padding_can_be_undone_by_the_mask(sequences: list[list[int]]) -> None:
    feeds = pad(sequences)
    rows = zip(feeds["input_ids"], feeds["attention_mask"], strict=True)
    assert [ids[mask == 1].tolist() for ids, mask in rows] == sequences
    assert feeds["input_ids"].shape == (len(sequences), max(map(len, sequences)))
