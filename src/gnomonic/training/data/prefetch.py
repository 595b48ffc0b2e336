"""The batches of coming steps, made in threads while the present step runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

from gnomonic.errors import ConfigError

__all__ = ["Prefetch"]

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Iterator over `batch(start) … batch(stop - 1)`, in step order whichever thread ends first.

    Threads, not processes: reading Arrow, tokenising and numpy release the interpreter, and nothing has to be copied
    or pickled. `batch` is called from several threads at once when `workers` is above 1, so it must be a function of
    the step alone. The batches are the same for every number of workers, and so is a run that is taken up at `start`.

    An exception of `batch` is raised where its step would have come out; the steps after it are dropped.
    """

    def __init__(self, batch: Callable[[int], T], start: int, stop: int, workers: int = 1) -> None:
        """Start the threads.

        Args:
            batch: makes the batch of a step.
            start: first step.
            stop: step after the last.
            workers: threads; 0 makes each batch when it is asked for. Two batches a thread are held ready.

        Raises:
            ConfigError: `workers` is negative.
        """
        if workers < 0:
            raise ConfigError(f"loop.workers: {workers} is negative; take 0 (no threads) or more")
        self._batch = batch
        self._next = start
        self._stop = stop
        self._ready: deque[Future[T]] = deque()
        self._depth = 2 * workers
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="prefetch") if workers else None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if self._threads is None:
            if self._next >= self._stop:
                raise StopIteration
            self._next += 1
            return self._batch(self._next - 1)
        while self._next < self._stop and len(self._ready) < self._depth:
            self._ready.append(self._threads.submit(self._batch, self._next))
            self._next += 1
        if not self._ready:
            self.close()
            raise StopIteration
        try:
            return self._ready.popleft().result()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Drop what is ready and end the threads; a batch in the making is waited for. May be called again."""
        self._stop = self._next
        self._ready.clear()
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
