"""The heap is given back when it has doubled, and left alone before."""

from __future__ import annotations

import mmap
import sys

import pytest

pytest.importorskip("torch")

from gnomonic.training import memory
from gnomonic.training.memory import HeapKeeper


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the heap is glibc's")
def test_pages_go_back_only_after_the_process_has_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    held, trims = iter([100, 150, 199, 230, 120, 200, 240, 110]), []
    monkeypatch.setattr(memory, "_resident", lambda: next(held))
    keeper = HeapKeeper()
    keeper._trim = trims.append
    assert [keeper.check() for _ in range(4)] == [False, False, False, True]  # 230 falls to 120
    assert [keeper.check() for _ in range(2)] == [False, True]  # 240 falls to 110
    assert trims == [0, 0]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="read from /proc")
def test_the_bytes_in_memory_are_those_of_this_process() -> None:
    before = memory._resident()
    # Pages of its own: a block of the heap may be one that an earlier test gave back and is in memory already.
    with mmap.mmap(-1, 64 << 20) as block:
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1
        assert memory._resident() - before > 48 << 20
