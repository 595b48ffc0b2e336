"""Dynamic batching: sequences of all requests become batches of like length, and no request waits for another's end."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gnomonic.errors import DeadlineError, EngineError, GnomonicError, OverloadedError
from gnomonic.inference.batching import plan_batches
from gnomonic.inference.encoder import check_finite
from gnomonic.server.jobs import BatchReport, Job, Line, Pooled

__all__ = ["BatchQueue", "RunBatch"]

RunBatch = Callable[[str, Sequence[NDArray[np.int32]]], Awaitable[tuple[NDArray[np.float32], float]]]
"""(engine's key, sequences) -> pooled [rows, hidden_size] float32, seconds in the engine."""

log = logging.getLogger(__name__)

# As in inference.batching: what an attention cell costs, in tokens.
_CELLS_PER_TOKEN = 4096
_WINDOW_BATCHES = 3
"""How many batches' worth of the most urgent sequences the planner may choose from."""
_IN_FLIGHT = 2
_FIRST_RATE = 2000.0
_MEASURED_ENOUGH = 8
"""Batches after which the rate is known well enough to refuse by it."""
_SMALL_TOKENS = 8192


class BatchQueue:
    """Requests in, batches out, for one worker.

    Fair queueing: every sequence gets a tag, the virtual time at which it would start if all requests shared the engine
    evenly: a new request starts at the present virtual time, which moves on by each batch's cost over the number of
    requests (the fluid model of fair queueing, Demers, Keshav and Shenker 1989). Batches are planned over the
    sequences with the lowest tags and the one that holds the lowest is run, so a one-line request waits for the batch
    in the engine and about one more, however long the list of its neighbour is, and neither starves.

    A batch is sent as soon as the worker is idle. A second is sent behind it only when it is full: one that is not may
    yet gain sequences, and the worker loses nothing.
    """

    def __init__(
        self,
        run: RunBatch,
        *,
        ready: Callable[[], bool] = lambda: True,
        max_tokens: int = 500_000,
        on_batch: Callable[[BatchReport], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make an empty queue.

        Args:
            run: runs a batch on the worker; it is called again before the one before is done.
            ready: whether the worker can take a batch. While it cannot, requests wait; `wake` looks again.
            max_tokens: sequences wait while they are this many tokens in all; a request that would be more is refused,
                unless nothing waits at all.
            on_batch: told of each batch that was run.
            clock: seconds.
        """
        self._run = run
        self._ready = ready
        self._max_tokens = max_tokens
        self._on_batch = on_batch
        self._clock = clock
        self._heap: list[tuple[float, int, Job]] = []
        self._numbers = itertools.count()
        self._virtual = 0.0
        self._in_flight: set[asyncio.Task[None]] = set()
        self._jobs: set[Job] = set()
        self._rate = _FIRST_RATE
        self._measured = 0
        self._charged = 0
        self.waiting_tokens = 0
        """Tokens of the sequences that are in no batch yet."""

    @property
    def waiting_requests(self) -> int:
        """Requests that are not answered yet."""
        return len(self._jobs)

    @property
    def expected_wait_s(self) -> float:
        """How long what waits will take, from the rate of the last batches."""
        return self.waiting_tokens / self._rate

    async def submit(
        self,
        line: Line,
        sequences: Sequence[NDArray[np.int32]],
        *,
        owners: NDArray[np.int64] | None = None,
        deadline: float | None = None,
        exempt: bool = False,
    ) -> Pooled:
        """Encode sequences; cancelling this drops those that are in no batch yet.

        Args:
            line: the engine.
            sequences: each [tokens] int32, at least one.
            owners: [sequences] the index of each sequence's text, for messages; None: they are texts one to one.
            deadline: when to give up, on the queue's clock.
            exempt: take it however much waits; for the server's own probe.

        Raises:
            OverloadedError: too much waits already.
            DeadlineError: it was not done in time.
            EngineError: the engine failed on one of these sequences.
            UnavailableError: the worker died.
        """
        if not exempt:
            self._check_room(sum(map(len, sequences)), deadline)
        job = self._add(line, sequences, np.arange(len(sequences)) if owners is None else owners)
        self._dispatch()
        try:
            async with asyncio.timeout(None if deadline is None else deadline - self._clock()):
                await job.done
        except TimeoutError:
            waited = self._clock() - job.submitted
            raise DeadlineError(
                f"the embeddings were not ready after {waited:.1f} s; send fewer texts at once, or try when the server "
                "is less busy"
            ) from None
        finally:
            self._drop(job)
        ended = self._clock()
        return Pooled(vectors=job.pooled, queue_s=job.started - job.submitted, engine_s=ended - job.started)

    def wake(self) -> None:
        """Look whether the worker is ready now, and go on if it is."""
        self._dispatch()

    def fail_all(self, error: GnomonicError, *, key: str | None = None) -> None:
        """Give everything that waits, or waits for one engine, the same error; batches in the worker included."""
        for job in [job for job in self._jobs if key is None or job.line.key == key]:
            self._fail(job, error)

    async def drained(self) -> None:
        """Wait until no batch is in the worker."""
        while self._in_flight:
            await asyncio.wait(self._in_flight)

    def _check_room(self, tokens: int, deadline: float | None) -> None:
        """Refuse what would wait for nothing.

        No request counts for more than half of the queue, and a quarter more is kept for small ones: fair queueing
        serves those soon whatever else waits.

        Raises:
            OverloadedError: too much waits, or at the present rate it would not be done in time.
        """
        small = tokens <= _SMALL_TOKENS
        limit = self._max_tokens * (5 if small else 4) // 4
        if self.waiting_tokens and self._charged + min(tokens, self._max_tokens // 2) > limit:
            raise OverloadedError(
                f"{self.waiting_tokens:,} tokens are waiting and this request has {tokens:,}; the queue takes "
                f"{self._max_tokens:,}; try again later, or send fewer texts at once",
                retry_after_s=max(1.0, self.expected_wait_s),
            )
        needed_s = (self.waiting_tokens + tokens) / self._rate
        left_s = math.inf if deadline is None else deadline - self._clock()
        if not small and self._measured >= _MEASURED_ENOUGH and needed_s > left_s:
            raise OverloadedError(
                f"this request has {tokens:,} tokens and {self.waiting_tokens:,} are waiting; at {self._rate:,.0f} a "
                f"second that takes {needed_s:.0f} s, and the deadline is in {left_s:.0f} s; send fewer texts at once",
                retry_after_s=max(1.0, self.expected_wait_s),
            )

    def _add(self, line: Line, sequences: Sequence[NDArray[np.int32]], owners: NDArray[np.int64]) -> Job:
        lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
        job = Job(
            line=line,
            sequences=sequences,
            owners=owners,
            order=np.argsort(-lengths, kind="stable").tolist(),
            done=asyncio.get_running_loop().create_future(),
            pooled=np.empty((len(sequences), line.hidden_size), dtype=np.float32),
            submitted=self._clock(),
            tag=self._virtual,
            left=len(sequences),
        )
        self._jobs.add(job)
        self._wait(job, int(lengths.sum()))
        heapq.heappush(self._heap, (job.tag, next(self._numbers), job))
        return job

    def _dispatch(self) -> None:
        """Send batches while the worker can use them."""
        while self._heap and self._ready() and len(self._in_flight) < _IN_FLIGHT:
            first = self._first()
            if first is None:
                return
            if self._in_flight and self.waiting_tokens < first.line.budget.max_tokens:
                return
            rows = self._choose()
            if rows:
                task = asyncio.create_task(self._carry_out(rows))
                self._in_flight.add(task)
                task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self._dispatch()

    def _first(self) -> Job | None:
        """Return the most urgent job that somebody still waits for."""
        while self._heap and self._heap[0][2].done.done():
            heapq.heappop(self._heap)
        return self._heap[0][2] if self._heap else None

    def _choose(self) -> list[tuple[Job, int]]:
        """Take the next batch out of the queue."""
        window: list[tuple[float, Job, int]] = []
        line: Line | None = None
        tokens = 0
        later: list[tuple[float, int, Job]] = []
        while self._heap and (line is None or tokens < _WINDOW_BATCHES * line.budget.max_tokens):
            tag, _, job = heapq.heappop(self._heap)
            if job.done.done():
                continue
            line = line or job.line
            if job.line.key != line.key:
                later.append((tag, next(self._numbers), job))
                continue
            index = job.order[job.next]
            if index in job.alone:
                if window:
                    later.append((tag, next(self._numbers), job))
                    continue
                window = [(tag, job, index)]
                self._take(job)
                break
            window.append((tag, job, index))
            tokens += len(job.sequences[index])
            self._take(job)
        for entry in later:
            heapq.heappush(self._heap, entry)
        return self._plan(window, line) if line else []

    def _take(self, job: Job) -> None:
        """Move a job on to its next sequence, whose tag is one turn later."""
        job.tag += _cost(len(job.sequences[job.order[job.next]]))
        job.next += 1
        if job.next < len(job.order):
            heapq.heappush(self._heap, (job.tag, next(self._numbers), job))

    def _plan(self, window: list[tuple[float, Job, int]], line: Line) -> list[tuple[Job, int]]:
        """Return the planned batch with the most urgent sequence; the other sequences go back."""
        lengths = [len(job.sequences[index]) for _, job, index in window]
        plan = plan_batches(lengths, line.budget)
        chosen = next(set(batch.tolist()) for batch in plan if 0 in batch)
        back: dict[Job, list[tuple[float, int]]] = {}
        batch = []
        for place, (tag, job, index) in enumerate(window):
            if place in chosen:
                batch.append((job, index))
                self._wait(job, -lengths[place])
                job.started = job.started or self._clock()
            else:
                back.setdefault(job, []).append((tag, index))
        served = sum(_cost(lengths[place]) for place in chosen)
        requests = len({job for _, job, _ in window} | {job for _, _, job in self._heap})
        self._virtual = max(self._virtual + served / requests, window[0][0])
        for job, entries in back.items():
            self._put_back(job, entries)
        return batch

    def _put_back(self, job: Job, entries: list[tuple[float, int]]) -> None:
        """Let a job's sequences that were looked at and not chosen come next again."""
        job.order[job.next - len(entries) : job.next] = [index for _, index in entries]
        in_heap = job.next < len(job.order)
        job.next -= len(entries)
        job.tag = entries[0][0]
        if in_heap:
            self._heap = [entry for entry in self._heap if entry[2] is not job]
            heapq.heapify(self._heap)
        heapq.heappush(self._heap, (job.tag, next(self._numbers), job))

    async def _carry_out(self, rows: list[tuple[Job, int]]) -> None:
        line = rows[0][0].line
        sequences = [job.sequences[index] for job, index in rows]
        lengths = [len(sequence) for sequence in sequences]
        began = self._clock()
        try:
            pooled, engine_s = await self._run(line.key, sequences)
        except EngineError as error:
            self._retry_or_fail(rows, error)
            return
        except GnomonicError as error:
            for job, _ in rows:
                self._fail(job, error)
            return
        except Exception:
            log.exception("a batch of %d rows failed", len(rows))
            for job, _ in rows:
                self._fail(job, EngineError("the batch with this text failed; the server's log says why"))
            return
        spent = max(self._clock() - began, 1e-6)
        self._measured += 1
        self._rate += 0.2 * (sum(lengths) / spent - self._rate)
        if self._on_batch is not None:
            padded = len(rows) * max(lengths)
            self._on_batch(BatchReport(rows=len(rows), tokens=sum(lengths), padded_tokens=padded, engine_s=engine_s))
        for (job, index), vector in zip(rows, pooled, strict=True):
            self._deliver(job, index, vector)

    def _deliver(self, job: Job, index: int, vector: NDArray[np.float32]) -> None:
        if job.done.done():
            return
        try:
            check_finite(vector[None], job.owners[index : index + 1], job.line.model, job.line.precision)
        except EngineError as error:
            self._fail(job, error)
            return
        job.pooled[index] = vector
        job.left -= 1
        if not job.left:
            job.done.set_result(None)

    def _retry_or_fail(self, rows: list[tuple[Job, int]], error: EngineError) -> None:
        """Put the sequences of a failed batch back, to be run one by one; fail the one that failed alone."""
        if len(rows) == 1:
            job, index = rows[0]
            self._fail(job, EngineError(f"texts[{job.owners[index]}]: {error}", hint=error.hint))
            return
        back: dict[Job, list[int]] = {}
        for job, index in rows:
            back.setdefault(job, []).append(index)
        for job, indices in back.items():
            if job.done.done():
                continue
            job.alone.update(indices)
            tokens = sum(len(job.sequences[index]) for index in indices)
            self._wait(job, tokens)
            waits = job.next < len(job.order)
            job.order.extend(indices)
            if not waits:
                heapq.heappush(self._heap, (job.tag, next(self._numbers), job))

    def _fail(self, job: Job, error: GnomonicError) -> None:
        if not job.done.done():
            job.done.set_exception(error)
            job.done.exception()  # whoever stopped waiting does not ask

    def _drop(self, job: Job) -> None:
        """Forget what a job still has waiting; its entry in the heap is left out when it comes up."""
        if not job.done.done():
            job.done.cancel()
        self._wait(job, -job.waiting_tokens)
        self._jobs.discard(job)

    def _wait(self, job: Job, tokens: int) -> None:
        """Count tokens of a job in, or out."""
        most, before = self._max_tokens // 2, job.waiting_tokens
        job.waiting_tokens += tokens
        self.waiting_tokens += tokens
        self._charged += min(job.waiting_tokens, most) - min(before, most)


def _cost(tokens: int) -> float:
    """Return what a sequence costs, in tokens."""
    return tokens + tokens * tokens / _CELLS_PER_TOKEN
