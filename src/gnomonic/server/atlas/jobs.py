"""Jobs: builds of maps that a server was asked for, each a file in its dataset's folder.

A job's record has one writer at a time: the server until the job's process runs, then that process, and the server
again once it has ended. A cancellation is a second file, so that anybody may ask for one. `queue/` of the data folder
holds an entry for each job that is not done, oldest first, so that a server that starts finds what another one left.
"""

from __future__ import annotations

import json
import os
import secrets
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gnomonic.errors import DatasetNotFoundError, OverloadedError

__all__ = ["FINAL", "JobQueue", "JobRecord", "QueueEntry", "is_cancelled", "job_of", "jobs_of", "now", "write_job"]

FINAL = frozenset({"completed", "failed", "cancelled"})

_KEPT_JOBS = 50
"""Records of ended jobs that a dataset keeps."""
_MAX_WAITING = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRecord:
    """What a job is and how far it got: `jobs/{id}.json` of a dataset's folder."""

    id: str
    kind: str
    """"create" builds a new map, "update" brings the current one up to date."""
    dataset_id: str
    created: str
    """ISO 8601 with microseconds and zone, as all times here."""
    state: str = "waiting"
    """"waiting", "running", "completed", "failed" or "cancelled"."""
    map_id: str | None = None
    """The map it builds, known before it is built; None for an update until that is published."""
    index_id: str | None = None
    map_name: str = ""
    indexed_field: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    """Of `Dataset.create_index` or `update_indices`."""
    started: str | None = None
    finished: str | None = None
    stage: str | None = None
    done: float = 0
    total: float = 0
    unit: str = "rows"
    rate: float | None = None
    """`unit` a second in this stage."""
    eta_s: float | None = None
    """Seconds until this stage ends, by its rate."""
    error: str | None = None
    error_kind: str | None = None
    """The class of the error, where it is one of ours."""
    warning: str | None = None
    pid: int | None = None
    attempts: int = 0

    @property
    def is_open(self) -> bool:
        """Whether it waits or runs."""
        return self.state not in FINAL

    def shown(self) -> dict[str, Any]:
        """Return what a client is told."""
        hidden = {"arguments", "pid", "attempts"}
        return {name: value for name, value in asdict(self).items() if name not in hidden}


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueEntry:
    """A job that is not done."""

    path: Path
    folder: Path
    """Of the dataset."""
    job_id: str
    since: float
    """When it was last asked for, in seconds since 1970."""


def now() -> str:
    """Return the time as records hold it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def jobs_of(folder: Path) -> list[JobRecord]:
    """Return a dataset's jobs, oldest first."""
    found = [job for path in (folder / "jobs").glob("*.json") if (job := _read(path)) is not None]
    return sorted(found, key=lambda job: job.created)


def job_of(folder: Path, job_id: str) -> JobRecord:
    """Return one job; its id must be a checked one.

    Raises:
        DatasetNotFoundError: the dataset has no such job.
    """
    found = _read(folder / "jobs" / f"{job_id}.json")
    if found is None:
        raise DatasetNotFoundError(f"there is no job {job_id}")
    return found


def write_job(folder: Path, job: JobRecord) -> None:
    """Replace a job's record, as a whole."""
    _write(folder / "jobs" / f"{job.id}.json", asdict(job))


def is_cancelled(folder: Path, job_id: str) -> bool:
    """Tell whether somebody asked for the job's end."""
    return _marker(folder, job_id).exists()


class JobQueue:
    """The jobs of all datasets that are not done."""

    def __init__(self, root: Path) -> None:
        """Use the data folder `root`; nothing is made before the first job."""
        self.root = root
        self.folder = root / "queue"

    def add(self, folder: Path, job: JobRecord) -> JobRecord:
        """Write the job's record and have it wait its turn.

        Raises:
            OverloadedError: too many wait.
        """
        if len(list(self.entries())) >= _MAX_WAITING:
            raise OverloadedError(f"{_MAX_WAITING} jobs wait already", retry_after_s=60)
        (folder / "jobs").mkdir(exist_ok=True)
        for old in [found for found in jobs_of(folder) if not found.is_open][:-_KEPT_JOBS]:
            (folder / "jobs" / f"{old.id}.json").unlink(missing_ok=True)
        write_job(folder, job)
        self.folder.mkdir(parents=True, exist_ok=True)
        entry = {"folder": folder.relative_to(self.root).as_posix(), "job": job.id}
        _write(self.folder / f"{time.time_ns():020}-{job.id}.json", entry)
        return job

    def update_soon(self, folder: Path, dataset_id: str) -> JobRecord:
        """Have the current map brought up to date; a job that waits for that is put off a little instead."""
        for entry in self.entries():
            if entry.folder == folder:
                job = _read(folder / "jobs" / f"{entry.job_id}.json")
                if job is not None and job.kind == "update" and job.state == "waiting":
                    os.utime(entry.path)
                    return job
        return self.add(folder, JobRecord(id=str(uuid.uuid4()), kind="update", dataset_id=dataset_id, created=now()))

    def entries(self) -> Iterator[QueueEntry]:
        """Yield the entries, oldest first; broken ones are removed."""
        for path in sorted(self.folder.glob("*.json")) if self.folder.is_dir() else ():
            try:
                told = json.loads(path.read_text(encoding="utf-8"))
                folder = self.root / str(told["folder"])
                since = path.stat().st_mtime
                yield QueueEntry(path=path, folder=folder, job_id=str(told["job"]), since=since)
            except FileNotFoundError:
                continue
            except (OSError, ValueError, KeyError, TypeError):
                path.unlink(missing_ok=True)

    def cancel(self, folder: Path, job_id: str) -> JobRecord:
        """Ask for a job's end; one that is done stays as it is.

        Raises:
            DatasetNotFoundError: the dataset has no such job.
        """
        job = job_of(folder, job_id)
        if job.is_open:
            _marker(folder, job_id).touch()
        return job

    def close(self, entry: QueueEntry, state: str | None = None, error: str | None = None) -> None:
        """Take a job from the queue; with a state, its record ends in that unless it has ended already."""
        job = _read(entry.folder / "jobs" / f"{entry.job_id}.json")
        if job is not None and job.is_open and state is not None:
            write_job(entry.folder, replace(job, state=state, error=error, finished=now(), pid=None))
        entry.path.unlink(missing_ok=True)
        _marker(entry.folder, entry.job_id).unlink(missing_ok=True)


def _marker(folder: Path, job_id: str) -> Path:
    return folder / "jobs" / f"{job_id}.cancel"


def _read(path: Path) -> JobRecord | None:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        known = {item.name for item in fields(JobRecord)}
        return JobRecord(**{name: value for name, value in told.items() if name in known})
    except (OSError, ValueError, TypeError):
        return None


def _write(path: Path, value: dict[str, Any]) -> None:
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with fresh.open("w", encoding="utf-8") as stream:
        json.dump(value, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)
