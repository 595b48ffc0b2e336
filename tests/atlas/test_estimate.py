"""Estimates grow with what there is to do, and pass through what was measured."""

from __future__ import annotations

import itertools

import pytest

from gnomonic.atlas.estimate import MEASURED, estimate, probe_machine
from gnomonic.errors import InputError

REFERENCE = MEASURED["machine"]["gflops"][0]


@pytest.mark.parametrize(("n", "at"), [(10_000, 0), (100_000, 1), (1_000_000, 2)])
def test_what_was_measured_is_what_is_told(n, at) -> None:
    found = estimate(n, 768, gflops=REFERENCE)
    assert "embeddings" not in found.seconds
    for stage, seconds in found.seconds.items():
        assert seconds == pytest.approx(MEASURED[stage]["seconds"][at])
    assert found.total_seconds == pytest.approx(sum(found.seconds.values()))


def test_more_takes_longer_and_a_faster_machine_less() -> None:
    sizes = [0, 1, 14, 5000, 50_000, 99_999, 100_001, 900_000, 10_000_000]
    found = [estimate(n, 768, gflops=REFERENCE) for n in sizes]
    assert found[0].total_seconds == 0
    assert all(one.total_seconds < more.total_seconds for one, more in itertools.pairwise(found))
    assert all(one.peak_bytes < more.peak_bytes for one, more in itertools.pairwise(found))
    assert estimate(5000, 768, gflops=2 * REFERENCE).total_seconds == pytest.approx(found[3].total_seconds / 2)
    assert estimate(5000, 256, gflops=REFERENCE).total_seconds < found[3].total_seconds


def test_embedding_is_told_first() -> None:
    found = estimate(5000, 768, embed_rate=100, gflops=REFERENCE)
    assert next(iter(found.seconds.items())) == ("embeddings", 50)


def test_a_million_rows_stay_below_the_memory_promised() -> None:
    assert estimate(1_000_000, 768, gflops=REFERENCE).peak_bytes < 8e9


def test_the_machine_is_measured() -> None:
    assert probe_machine() > 0
    assert estimate(1000, 8).total_seconds > 0


def test_nonsense_is_refused() -> None:
    for arguments in ({"n": -1, "dim": 3}, {"n": 3, "dim": -1}):
        with pytest.raises(InputError, match="cannot be mapped"):
            estimate(**arguments)
    with pytest.raises(InputError, match="embed_rate 0"):
        estimate(3, 3, embed_rate=0)
    with pytest.raises(InputError, match="gflops"):
        estimate(3, 3, gflops=float("nan"))
