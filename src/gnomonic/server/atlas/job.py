"""One job, in a process of its own: `python -m gnomonic.server.atlas.job FOLDER JOB CONFIG`."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnomonic.errors import GnomonicError
from gnomonic.server.atlas.jobs import JobRecord, is_cancelled, job_of, now, write_job

if TYPE_CHECKING:
    from gnomonic.atlas.encoders import Encoders
    from gnomonic.atlas.progress import Progress

__all__ = ["main", "run"]

log = logging.getLogger(__name__)

_TELL_EVERY_S = 0.5
_NICE = 10


class _CancelledError(Exception):
    """Somebody asked for the end."""


class _Teller:
    """Writes how far the job is into its record, not too often."""

    def __init__(self, folder: Path, job: JobRecord) -> None:
        self._folder = folder
        self.job = job
        self._told = 0.0
        self._began = time.monotonic()
        self._from = 0.0

    def __call__(self, progress: Progress) -> None:
        clock = time.monotonic()
        fresh = progress.stage != self.job.stage or progress.done < self._from
        if fresh:
            self._began, self._from = clock, progress.done
        elif clock - self._told < _TELL_EVERY_S:
            return
        self._told = clock
        if is_cancelled(self._folder, self.job.id):
            raise _CancelledError
        spent = clock - self._began
        rate = (progress.done - self._from) / spent if spent > 0 and progress.done > self._from else None
        self.job = replace(
            self.job,
            stage=progress.stage,
            done=progress.done,
            total=progress.total,
            unit=progress.unit,
            rate=None if rate is None else round(rate, 2),
            eta_s=None if not rate else round(max(0.0, progress.total - progress.done) / rate, 1),
        )
        write_job(self._folder, self.job)


def main(arguments: Sequence[str]) -> int:
    """Run a job to its end; returns the exit code."""
    folder, job_id, config = Path(arguments[0]), arguments[1], json.loads(arguments[2])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if hasattr(os, "nice"):  # the server's own requests come first
        os.nice(_NICE)
    run(folder, job_id, Path(config["root"]), lambda: _encoders(config))
    return 0


def run(folder: Path, job_id: str, root: Path, encoders: Callable[[], Encoders]) -> JobRecord:
    """Run a job in this process, and write how it goes and how it ended into its record.

    Args:
        folder: of the dataset.
        job_id: which of its jobs.
        root: the data folder.
        encoders: makes what embeds texts.
    """
    job = job_of(folder, job_id)
    job = replace(job, state="running", started=now(), pid=os.getpid(), attempts=job.attempts + 1, error=None)
    write_job(folder, job)
    teller = _Teller(folder, job)
    try:
        map_id = _build(folder, job, root, encoders, teller)
        ended = replace(teller.job, state="completed", map_id=map_id, done=teller.job.total, eta_s=None)
    except _CancelledError:
        ended = replace(teller.job, state="cancelled")
    except GnomonicError as error:
        said = f"{error}; {error.hint}" if error.hint else str(error)
        ended = replace(teller.job, state="failed", error=said, error_kind=type(error).__name__)
    except Exception as error:
        log.exception("job %s failed", job_id)
        said = f"something went wrong in the server ({type(error).__name__}); its log says what"
        ended = replace(teller.job, state="failed", error=said)
    ended = replace(ended, finished=now(), pid=None)
    write_job(folder, ended)
    return ended


def _encoders(config: dict[str, Any]) -> Encoders:
    from gnomonic.server.atlas.encoders import OfferedModels, ServedEncoders, encode_in_process

    models = OfferedModels(sources=config["sources"], forced=config["forced"], images=config["images"])
    encode = encode_in_process(
        models.sources, device=config["device"], precision=config["precision"], threads=config["threads"]
    )
    return ServedEncoders(models, encode)


def _build(folder: Path, job: JobRecord, root: Path, encoders: Callable[[], Encoders], teller: _Teller) -> str | None:
    """Build; return the id of the map."""
    from gnomonic.atlas.dataset import Dataset

    name = f"{folder.parent.name}/{folder.name}"
    dataset = Dataset(name, root=root, encoders=encoders(), create=False)
    try:
        if job.kind == "update":
            dataset.update_indices(on_progress=teller, **job.arguments)
            return dataset.get_map().id
        if any(one.id == job.map_id for one in dataset.maps):  # a process was ended just after it had published
            return job.map_id
        return dataset.create_index(map_id=job.map_id, index_id=job.index_id, on_progress=teller, **job.arguments).id
    finally:
        dataset.close()


def _end_with_parent() -> None:
    """End when the server does: its pipe ends."""
    # Not by way of sys.stdin, whose lock this thread would hold when the interpreter ends.
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
