"""Runs the jobs that wait, each in a process of its own, so that a build never slows or ends the server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gnomonic.errors import DatasetNotFoundError
from gnomonic.server.atlas.jobs import JobQueue, QueueEntry, is_cancelled, job_of, write_job

__all__ = ["JobRunner"]

log = logging.getLogger(__name__)

_TICK_S = 0.25
_SETTLE_S = 1.5
"""How long rows must have stopped coming before the map is brought up to date."""
_MAX_ATTEMPTS = 3
_END_S = 5.0


class JobRunner:
    """One server process of a data folder runs its jobs; when that one ends, another takes over."""

    def __init__(self, queue: JobQueue, config: str, *, limit: int = 1) -> None:
        """Put it together.

        Args:
            queue: what to run.
            config: JSON handed to each job's process.
            limit: how many run at once.
        """
        self._queue = queue
        self._config = config
        self._limit = limit
        self._children: dict[str, tuple[QueueEntry, subprocess.Popen[bytes]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._lock: Any = None

    async def start(self) -> None:
        """Begin to look for jobs."""
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """End what runs; it goes on from its finished stages at the next start."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await asyncio.to_thread(self._end_all)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def _watch(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self.tick)
            except Exception:  # whatever a folder holds, the next job must have its turn
                log.exception("the queue of jobs could not be looked through")
            await asyncio.sleep(_TICK_S)

    def tick(self) -> None:
        """Look once: end what is to end, note what has ended, start what waits."""
        if not self._queue.folder.is_dir() or not self._is_ours():
            return
        for job_id, (entry, child) in list(self._children.items()):
            if child.poll() is not None:
                del self._children[job_id]
                self._note_end(entry, child)
            elif not entry.folder.is_dir() or is_cancelled(entry.folder, job_id):
                child.terminate()
        for entry in self._queue.entries():
            if entry.job_id not in self._children:
                self._consider(entry)

    def _consider(self, entry: QueueEntry) -> None:
        """Start a job, or drop its entry, or leave it waiting."""
        try:
            job = job_of(entry.folder, entry.job_id)
        except DatasetNotFoundError:
            self._queue.close(entry)
            return
        if not job.is_open:
            self._queue.close(entry)
        elif is_cancelled(entry.folder, job.id):
            self._queue.close(entry, "cancelled")
        elif job.attempts >= _MAX_ATTEMPTS:
            self._queue.close(entry, "failed", f"its process was ended {job.attempts} times; build the map again")
        elif self._may_start(entry, job.kind, job.pid):
            self._start(entry)

    def _may_start(self, entry: QueueEntry, kind: str, pid: int | None) -> bool:
        if len(self._children) >= self._limit or any(
            other.folder == entry.folder for other, _ in self._children.values()
        ):
            return False
        if kind == "update" and 0 <= time.time() - entry.since < _SETTLE_S:
            return False
        # The process of a server that was killed notices within moments.
        return pid is None or not _is_job(pid, entry.job_id)

    def _start(self, entry: QueueEntry) -> None:
        command = [sys.executable, "-m", "gnomonic.server.atlas.job", str(entry.folder), entry.job_id, self._config]
        # The pipe ends with this process, and the job with the pipe.
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self._children[entry.job_id] = (entry, child)
        log.info("job %s started", entry.job_id)

    def _note_end(self, entry: QueueEntry, child: subprocess.Popen[bytes]) -> None:
        if child.stdin is not None:
            child.stdin.close()
        if is_cancelled(entry.folder, entry.job_id):
            self._queue.close(entry, "cancelled")
        else:
            code = child.returncode
            how = f"by signal {-code}" if code < 0 else f"with code {code}"
            self._queue.close(entry, "failed", f"its process ended {how}; the server's log may say why")
        log.info("job %s ended", entry.job_id)

    def _end_all(self) -> None:
        children: Sequence[subprocess.Popen[bytes]] = [child for _, child in self._children.values()]
        for child in children:
            child.terminate()
        until = time.monotonic() + _END_S
        for child in children:
            try:
                child.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            if child.stdin is not None:
                child.stdin.close()
        for entry, _ in self._children.values():
            self._put_back(entry)
        self._children.clear()

    def _put_back(self, entry: QueueEntry) -> None:
        """Have a job that ended with the server wait for the next one; it was not the job's fault."""
        with contextlib.suppress(DatasetNotFoundError, OSError):
            job = job_of(entry.folder, entry.job_id)
            if job.is_open:
                write_job(entry.folder, replace(job, state="waiting", pid=None, attempts=max(0, job.attempts - 1)))

    def _is_ours(self) -> bool:
        """Whether this process runs the jobs; several that share a data folder settle it by a lock."""
        if self._lock is not None:
            return True
        stream = (self._queue.folder / ".lock").open("ab")
        try:
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows, where a server is one process
            pass
        except OSError:
            stream.close()
            return False
        self._lock = stream
        return True


def _is_job(pid: int, job_id: str) -> bool:
    """Tell whether a process still is the one that ran a job, as far as the system tells."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    try:
        return job_id.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
