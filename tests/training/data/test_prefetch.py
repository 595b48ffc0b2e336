"""Steps come in order for every number of threads; errors and ends reach the consumer."""

from __future__ import annotations

import threading
import time

import pytest

from gnomonic.errors import ConfigError
from gnomonic.training.data.prefetch import Prefetch


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_steps_come_once_and_in_order(workers: int) -> None:
    def slow_when_even(step: int) -> int:
        time.sleep(0.002 * (step % 2 == 0))
        return step

    assert list(Prefetch(slow_when_even, 5, 40, workers)) == list(range(5, 40))
    assert list(Prefetch(slow_when_even, 5, 5, workers)) == []


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_error_is_raised_at_its_step(workers: int) -> None:
    def batch(step: int) -> int:
        if step == 3:
            raise ValueError("broken row")
        return step

    batches = Prefetch(batch, 0, 10, workers)
    assert [next(batches) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="broken row"):
        next(batches)


def test_batches_are_made_ahead_but_not_without_bound() -> None:
    made: list[int] = []
    ahead = threading.Event()

    def batch(step: int) -> int:
        made.append(step)
        if step == 4:
            ahead.set()
        return step

    with Prefetch(batch, 0, 1000, 2) as batches:
        assert next(batches) == 0
        assert next(batches) == 1
        assert ahead.wait(10)
    assert max(made) < 10


def test_leaving_early_ends_the_threads() -> None:
    with Prefetch(lambda step: step, 0, 1000, 2) as batches:
        next(batches)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]
    with pytest.raises(StopIteration):
        next(batches)
    batches.close()


def test_a_negative_number_of_workers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"loop\.workers: -1 is negative"):
        Prefetch(lambda step: step, 0, 1, -1)
