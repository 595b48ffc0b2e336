"""Windows hold every token once a pass and no padding; masks follow BERT's rule and depend on the window alone."""

from __future__ import annotations

import numpy as np
import pytest

from gnomonic.errors import ConfigError
from gnomonic.training.data.packing import IGNORED, Masking, WindowBatch, Windows
from gnomonic.training.data.prefetch import Prefetch
from gnomonic.training.data.tokens import TokenStore


def _store(lengths: list[int]) -> TokenStore:
    """Documents whose tokens are all different: 0, 1, 2, … over the corpus."""
    sizes = np.array(lengths, np.int64)
    return TokenStore(ids=np.arange(sizes.sum(), dtype=np.uint16), starts=np.cumsum(sizes) - sizes, lengths=sizes)


_LENGTHS = [3, 50, 1, 7, 16, 2, 2, 9, 33]
_TOTAL = sum(_LENGTHS)


def _stream(windows: Windows) -> list[int]:
    return [token for step in range(len(windows)) for token in windows.batch(step).input_ids.ravel().tolist()]


@pytest.mark.parametrize(("length", "epochs"), [(1, 1), (5, 1), (5, 3), (16, 3), (200, 3)])
def test_each_pass_has_each_token_once_and_goes_on_where_the_last_ended(length: int, epochs: int) -> None:
    windows = Windows(_store(_LENGTHS), length=length, batch_size=4, epochs=epochs, seed=1)
    stream = _stream(windows)
    assert len(stream) == epochs * _TOTAL // length * length
    passes = [stream[start : start + _TOTAL] for start in range(0, len(stream), _TOTAL)]
    for tokens in passes[:-1]:
        assert sorted(tokens) == list(range(_TOTAL))
    assert len(set(passes[-1])) == len(passes[-1])
    assert len({tuple(tokens) for tokens in passes}) == len(passes)


def test_documents_stay_whole_and_pieces_say_where_they_end() -> None:
    store = _store(_LENGTHS)
    windows = Windows(store, length=10, batch_size=3, steps=20, seed=2)
    starts = set(store.starts.tolist())
    for step in range(20):
        batch = windows.batch(step)
        assert sum(batch.lengths) == batch.input_ids.size == 30
        flat = batch.input_ids.ravel()
        ends = np.cumsum(batch.lengths)
        for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
            piece = flat[start:end]
            assert (np.diff(piece) == 1).all()
            assert start % 10 == 0 or int(piece[0]) in starts
            assert start // 10 == (end - 1) // 10


def test_window_numbers_never_come_again() -> None:
    windows = Windows(_store(_LENGTHS), length=10, batch_size=3, epochs=5, seed=2)
    numbers = np.concatenate([windows.batch(step).windows for step in range(len(windows))])
    assert numbers.tolist() == list(range(5 * _TOTAL // 10))


@pytest.mark.parametrize("settings", [{"steps": 15}, {"epochs": 3}])
def test_the_ranks_share_each_batch(settings: dict[str, int]) -> None:
    store = _store(_LENGTHS)
    whole = Windows(store, length=8, batch_size=4, seed=3, **settings)
    parts = [Windows(store, length=8, batch_size=4, seed=3, rank=rank, world=2, **settings) for rank in range(2)]
    for step in range(len(parts[0])):
        both = [part.batch(step).input_ids for part in parts]
        assert both[0].shape == both[1].shape
        together = np.concatenate(both)
        assert np.array_equal(together, whole.batch(step).input_ids[: len(together)])
    assert len(parts[0]) == len(whole)


def test_a_step_does_not_depend_on_what_ran_before() -> None:
    store = _store(_LENGTHS)
    straight = Windows(store, length=9, batch_size=2, steps=40, seed=4)
    batches = [straight.batch(step) for step in range(40)]
    for workers in (0, 3):
        resumed = Prefetch(Windows(store, length=9, batch_size=2, steps=40, seed=4).batch, 17, 40, workers)
        for batch, expected in zip(resumed, batches[17:], strict=True):
            assert np.array_equal(batch.input_ids, expected.input_ids)
            assert batch.lengths == expected.lengths
    assert np.array_equal(straight.batch(0).input_ids, batches[0].input_ids)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"length": 1000, "batch_size": 2, "epochs": 1}, "123 tokens do not fill a window of 1000; give more text"),
        ({"length": 8, "batch_size": 3, "steps": 1, "world": 2}, "batch_size: 3 cannot be shared equally"),
        ({"length": 8, "batch_size": 2}, "steps and epochs: 0 and 0"),
    ],
)
def test_what_cannot_be_laid_out_is_refused(settings: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Windows(_store(_LENGTHS), seed=0, **settings)


def test_there_are_no_steps_outside_the_run() -> None:
    windows = Windows(_store(_LENGTHS), length=8, batch_size=2, steps=3, seed=0)
    with pytest.raises(IndexError):
        windows.batch(3)


_MASKING = Masking(mask_id=4, special_ids=(0, 1, 2, 3), vocab_size=1000)


def _batch(rows: int, length: int, first: int = 0) -> WindowBatch:
    ids = np.random.default_rng(first).integers(5, 1000, (rows, length))
    ids[:, 0], ids[:, -1] = 2, 3
    return WindowBatch(input_ids=ids, lengths=[length] * rows, windows=np.arange(first, first + rows))


def test_three_in_ten_tokens_are_chosen_and_eight_of_ten_of_these_hidden() -> None:
    batch = _batch(100, 1002)
    before = batch.input_ids.copy()
    inputs, labels = _MASKING.apply(batch, seed=1)
    assert np.array_equal(batch.input_ids, before)
    chosen = labels != IGNORED
    assert np.array_equal(labels[chosen], before[chosen])
    assert np.array_equal(inputs[~chosen], before[~chosen])
    assert abs(chosen.mean() - 0.3) < 0.01
    masked, same = inputs[chosen] == 4, inputs[chosen] == before[chosen]
    assert abs(masked.mean() - 0.8) < 0.01
    assert abs(same.mean() - 0.1) < 0.01
    others = inputs[chosen][~masked & ~same]
    assert (others > 4).all()
    assert (others < 1000).all()
    assert len(np.unique(others)) > 500
    assert not chosen[:, [0, -1]].any()


def test_what_is_hidden_depends_on_seed_and_window_alone() -> None:
    whole = _batch(6, 50)
    inputs, labels = _MASKING.apply(whole, seed=1)
    part = WindowBatch(input_ids=whole.input_ids[3:], lengths=[50] * 3, windows=whole.windows[3:])
    part_inputs, part_labels = _MASKING.apply(part, seed=1)
    assert np.array_equal(part_inputs, inputs[3:])
    assert np.array_equal(part_labels, labels[3:])
    assert not np.array_equal(_MASKING.apply(whole, seed=2)[1], labels)
    later = WindowBatch(input_ids=whole.input_ids, lengths=whole.lengths, windows=whole.windows + 100)
    assert not np.array_equal(_MASKING.apply(later, seed=1)[1], labels)


@pytest.mark.parametrize("rate", [0.0, 1.0, 30.0])
def test_a_rate_that_is_no_share_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match=f"mask_rate: {rate} is not between 0 and 1"):
        Masking(mask_id=4, special_ids=(), vocab_size=10, rate=rate)
