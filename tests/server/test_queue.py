"""Requests share batches, none waits for another's end, and what goes wrong with one stays with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gnomonic.errors import DeadlineError, EngineError, OverloadedError, UnavailableError
from gnomonic.inference.engines.base import BatchBudget
from gnomonic.server.jobs import BatchReport, Line
from gnomonic.server.queue import BatchQueue

_LINE = Line(key="a", model="tiny", precision="fp32", hidden_size=2,
             budget=BatchBudget(max_tokens=64, max_cells=4096, call_tokens=4))  # fmt: skip
_BAD = 13


class Engine:
    """Gives [sum of ids, tokens] for each sequence, once the test lets it."""

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[list[NDArray[np.int32]]] = []
        self.gate = asyncio.Event()
        self.broken: Exception | None = None
        if not held:
            self.gate.set()

    async def run(self, key: str, sequences: Sequence[NDArray[np.int32]]) -> tuple[NDArray[np.float32], float]:
        self.batches.append(list(sequences))
        await self.gate.wait()
        if self.broken is not None:
            raise self.broken
        if any(_BAD in ids for ids in sequences):
            raise EngineError("it does not like 13")
        rows = [[np.nan if 14 in ids else ids.sum(), len(ids)] for ids in sequences]
        return np.array(rows, dtype=np.float32), 0.001


def _texts(*lengths: int, value: int = 1) -> list[NDArray[np.int32]]:
    return [np.full(length, value, dtype=np.int32) for length in lengths]


def _play(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(), 20))


async def _settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@settings(max_examples=50, deadline=None)
@given(requests=st.lists(st.lists(st.integers(1, 90), min_size=1, max_size=30), min_size=1, max_size=12))
def test_every_request_gets_its_own_rows_in_order(requests: list[list[int]]) -> None:
    async def scene() -> None:
        engine = Engine()
        queue = BatchQueue(engine.run)
        found = await asyncio.gather(
            *(queue.submit(_LINE, _texts(*lengths, value=1 + i % 9)) for i, lengths in enumerate(requests))
        )
        for i, (lengths, pooled) in enumerate(zip(requests, found, strict=True)):
            expected = [[length * (1 + i % 9), length] for length in lengths]
            np.testing.assert_array_equal(pooled.vectors, expected)
        assert queue.waiting_tokens == 0
        assert sum(map(len, engine.batches)) == sum(map(len, requests))
        for batch in engine.batches:
            assert len(batch) == 1 or len(batch) * max(map(len, batch)) <= _LINE.budget.max_tokens

    _play(scene)


def test_requests_that_wait_together_run_together() -> None:
    async def scene() -> None:
        engine = Engine(held=True)
        queue = BatchQueue(engine.run)
        tasks = [asyncio.create_task(queue.submit(_LINE, _texts(8))) for _ in range(9)]
        await _settle()
        assert [len(batch) for batch in engine.batches] == [1, 8]
        engine.gate.set()
        await asyncio.gather(*tasks)

    _play(scene)


def test_a_batch_that_is_not_full_waits_for_more_while_the_worker_is_busy() -> None:
    async def scene() -> None:
        engine = Engine(held=True)
        queue = BatchQueue(engine.run)
        tasks = [asyncio.create_task(queue.submit(_LINE, _texts(8))) for _ in range(3)]
        await _settle()
        assert len(engine.batches) == 1
        engine.gate.set()
        await asyncio.gather(*tasks)
        assert [len(batch) for batch in engine.batches] == [1, 2]

    _play(scene)


def test_one_line_does_not_wait_for_a_thousand_documents_nor_they_for_many_lines() -> None:
    async def scene() -> None:
        engine = Engine(held=True)
        queue = BatchQueue(engine.run)
        big = asyncio.create_task(queue.submit(_LINE, _texts(*[32] * 1000)))
        await _settle()
        small = asyncio.create_task(queue.submit(_LINE, _texts(5, value=3)))
        await _settle()
        before = len(engine.batches)
        engine.gate.set()
        await small
        assert len(engine.batches) - before <= 3
        assert not big.done()

        async def one_after_another() -> None:
            while not big.done():
                await queue.submit(_LINE, _texts(32, value=2))

        lines = [asyncio.create_task(one_after_another()) for _ in range(8)]
        await asyncio.gather(big, *lines)
        # Nine requests share the engine evenly, so the big one's 1,000 rows are about a ninth of what ran meanwhile.
        others = sum(len(batch) for batch in engine.batches) - 1001
        assert 2000 < others < 20_000

    _play(scene)


def test_dropped_work_is_not_run() -> None:
    async def scene() -> None:
        engine = Engine(held=True)
        queue = BatchQueue(engine.run)
        first = asyncio.create_task(queue.submit(_LINE, _texts(60)))
        await _settle()
        second = asyncio.create_task(queue.submit(_LINE, _texts(7, 7)))
        await _settle()
        second.cancel()
        await _settle()
        assert queue.waiting_tokens == 0
        engine.gate.set()
        await first
        await _settle()
        assert [len(batch[0]) for batch in engine.batches] == [60]

    _play(scene)


def test_a_deadline_ends_the_wait_and_drops_the_work() -> None:
    async def scene() -> None:
        engine = Engine(held=True)
        queue = BatchQueue(engine.run)
        first = asyncio.create_task(queue.submit(_LINE, _texts(60)))
        await _settle()
        with pytest.raises(DeadlineError, match="not ready after"):
            await queue.submit(_LINE, _texts(7), deadline=queue._clock() + 0.02)
        assert queue.waiting_tokens == 0
        engine.gate.set()
        await first

    _play(scene)


def test_a_full_queue_says_when_to_come_again_and_recovers() -> None:
    async def scene() -> None:
        engine = Engine(held=True)
        queue = BatchQueue(engine.run, max_tokens=40_000)
        tasks = [asyncio.create_task(queue.submit(_LINE, _texts(*[60] * 500))) for _ in range(3)]
        await _settle()
        # The first counts for half of the queue at most, so the second fits; the third does not.
        with pytest.raises(OverloadedError, match="tokens are waiting") as refused:
            await tasks.pop()
        assert refused.value.retry_after_s >= 1
        lines = [asyncio.create_task(queue.submit(_LINE, _texts(*[50] * 60))) for _ in range(3)]
        await _settle()
        assert not any(line.done() for line in lines)  # a quarter more is for small ones
        with pytest.raises(OverloadedError):
            await queue.submit(_LINE, _texts(*[50] * 60))
        engine.gate.set()
        await asyncio.gather(*tasks, *lines)
        assert queue.waiting_tokens == queue._charged == queue.waiting_requests == 0
        assert (await queue.submit(_LINE, _texts(50_000))).vectors.shape == (1, 2)  # alone it may be larger

    _play(scene)


def test_what_cannot_be_done_in_time_is_refused_at_once() -> None:
    async def scene() -> None:
        now = [0.0]
        engine = Engine()

        async def run(key: str, sequences: Sequence[NDArray[np.int32]]) -> tuple[NDArray[np.float32], float]:
            now[0] += 1.0  # a second a batch of 64 tokens at most
            return await engine.run(key, sequences)

        queue = BatchQueue(run, clock=lambda: now[0])
        for _ in range(60):
            await queue.submit(_LINE, _texts(60))
        with pytest.raises(OverloadedError, match="the deadline is in 60 s; send fewer texts"):
            await queue.submit(_LINE, _texts(*[60] * 200), deadline=now[0] + 60)
        await queue.submit(_LINE, _texts(60), deadline=now[0] + 60)

    _play(scene)


def test_what_nobody_foresaw_fails_the_batch_and_not_the_queue() -> None:
    async def scene() -> None:
        engine = Engine()
        engine.broken = RuntimeError("surprise")
        queue = BatchQueue(engine.run)
        with pytest.raises(EngineError, match="log says why"):
            await queue.submit(_LINE, _texts(6))
        engine.broken = None
        assert (await queue.submit(_LINE, _texts(6))).vectors.tolist() == [[6, 6]]

    _play(scene)


def test_one_bad_item_fails_alone() -> None:
    async def scene() -> None:
        engine = Engine(held=True)
        queue = BatchQueue(engine.run)
        first = asyncio.create_task(queue.submit(_LINE, _texts(60)))
        await _settle()
        good = [asyncio.create_task(queue.submit(_LINE, _texts(4, 5, value=2))) for _ in range(3)]
        bad = asyncio.create_task(queue.submit(_LINE, [*_texts(4), *_texts(4, value=_BAD)]))
        nan = asyncio.create_task(queue.submit(_LINE, _texts(4, value=14)))
        await _settle()
        engine.gate.set()
        await first
        for task in good:
            np.testing.assert_array_equal((await task).vectors, [[8, 4], [10, 5]])
        with pytest.raises(EngineError, match=r"texts\[1\]: it does not like 13"):
            await bad
        with pytest.raises(EngineError, match=r"not finite for texts\[0\]"):
            await nan
        assert queue.waiting_tokens == 0

    _play(scene)


def test_a_dead_worker_fails_what_it_held_and_the_rest_waits_for_the_next() -> None:
    async def scene() -> None:
        engine, ready = Engine(held=True), [True]
        queue = BatchQueue(engine.run, ready=lambda: ready[0])
        held = asyncio.create_task(queue.submit(_LINE, _texts(60)))
        await _settle()
        waits = asyncio.create_task(queue.submit(_LINE, _texts(9)))
        await _settle()
        engine.broken, ready[0] = UnavailableError("died"), False
        engine.gate.set()
        with pytest.raises(UnavailableError, match="died"):
            await held
        await _settle()
        assert not waits.done()
        engine.broken, ready[0] = None, True
        queue.wake()
        assert (await waits).vectors.tolist() == [[9, 9]]
        ready[0] = False
        late = asyncio.create_task(queue.submit(_LINE, _texts(9)))
        await _settle()
        queue.fail_all(UnavailableError("it cannot start"))
        with pytest.raises(UnavailableError, match="cannot start"):
            await late

    _play(scene)


def test_engines_do_not_share_a_batch() -> None:
    async def scene() -> None:
        engine = Engine(held=True)
        queue = BatchQueue(engine.run)
        other = Line(key="b", model="other", precision="fp32", hidden_size=2, budget=_LINE.budget)
        tasks = [asyncio.create_task(queue.submit(_LINE, _texts(60)))]
        await _settle()
        tasks += [asyncio.create_task(queue.submit(line, _texts(n))) for n in (4, 5) for line in (_LINE, other)]
        await _settle()
        engine.gate.set()
        await asyncio.gather(*tasks)
        assert sorted(sorted(map(len, batch)) for batch in engine.batches) == [[4, 5], [4, 5], [60]]

    _play(scene)


def test_batches_are_told() -> None:
    async def scene() -> None:
        reports: list[BatchReport] = []
        queue = BatchQueue(Engine().run, on_batch=reports.append)
        await queue.submit(_LINE, _texts(6, 8))
        (report,) = reports
        assert (report.rows, report.tokens, report.padded_tokens) == (2, 14, 16)

    _play(scene)
