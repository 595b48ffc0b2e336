"""Jobs: records, the queue, and the runner that starts, ends and takes up processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gnomonic.errors import DatasetNotFoundError
from gnomonic.server.atlas import runner as runners
from gnomonic.server.atlas.jobs import JobQueue, JobRecord, is_cancelled, job_of, jobs_of, now, write_job
from gnomonic.server.atlas.runner import JobRunner


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a dataset."""
    path = tmp_path / "datasets" / "local" / "one"
    path.mkdir(parents=True)
    return path


def _job(number: int = 0, **more: Any) -> JobRecord:
    return JobRecord(
        id=f"0000000{number}-0000-0000-0000-000000000000", kind="create", dataset_id="d", created=now(), **more
    )


def _until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_record_comes_back_as_it_was_written(folder: Path) -> None:
    (folder / "jobs").mkdir()
    job = _job(arguments={"name": "ü"}, map_id="m", rate=2.5)
    write_job(folder, job)
    assert job_of(folder, job.id) == job
    assert jobs_of(folder) == [job]
    assert "arguments" not in job.shown()


def test_unknown_and_damaged_records_are_none(folder: Path) -> None:
    (folder / "jobs").mkdir()
    (folder / "jobs" / "x.json").write_text("{")
    assert jobs_of(folder) == []
    with pytest.raises(DatasetNotFoundError, match="no job x"):
        job_of(folder, "x")


def test_the_queue_holds_what_is_not_done_oldest_first(tmp_path: Path, folder: Path) -> None:
    queue = JobQueue(tmp_path)
    assert list(queue.entries()) == []
    assert not queue.folder.exists()
    for number in range(3):
        queue.add(folder, _job(number))
    entries = list(JobQueue(tmp_path).entries())
    assert [entry.job_id[7] for entry in entries] == ["0", "1", "2"]
    assert {entry.folder for entry in entries} == {folder}
    queue.close(entries[1], "failed", "because")
    assert [entry.job_id[7] for entry in queue.entries()] == ["0", "2"]
    assert (jobs_of(folder)[1].state, jobs_of(folder)[1].error) == ("failed", "because")
    (queue.folder / "000-broken.json").write_text("nonsense")
    assert len(list(queue.entries())) == 2


def test_updates_that_wait_are_one(tmp_path: Path, folder: Path) -> None:
    queue = JobQueue(tmp_path)
    first = queue.update_soon(folder, "d")
    assert queue.update_soon(folder, "d").id == first.id
    write_job(folder, replace(first, state="running"))
    assert queue.update_soon(folder, "d").id != first.id


def test_old_records_go(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnomonic.server.atlas.jobs._KEPT_JOBS", 2)
    (folder / "jobs").mkdir()
    for number in range(4):
        write_job(folder, _job(number, state="completed"))
    JobQueue(tmp_path).add(folder, _job(5))
    assert [job.id[7] for job in jobs_of(folder)] == ["2", "3", "5"]


def test_cancelling_an_ended_job_changes_nothing(tmp_path: Path, folder: Path) -> None:
    queue = JobQueue(tmp_path)
    job = queue.add(folder, _job())
    queue.close(next(queue.entries()), "completed")
    assert queue.cancel(folder, job.id).state == "completed"
    assert not is_cancelled(folder, job.id)


# The process of a job here: it notes that it runs, and then sleeps, ends well, or is killed, as its config says.
_STAND_IN = """
import json, os, signal, sys, time
folder, job_id, config = sys.argv[1:]
path = os.path.join(folder, "jobs", job_id + ".json")
job = json.load(open(path))
job.update(state="running", pid=os.getpid(), attempts=job["attempts"] + 1)
with open(path + ".new", "w") as stream: json.dump(job, stream)
os.replace(path + ".new", path)
if config == "sleep": time.sleep(60)
if config == "die": os.kill(os.getpid(), signal.SIGKILL)
job.update(state="completed", pid=None)
with open(path + ".new", "w") as stream: json.dump(job, stream)
os.replace(path + ".new", path)
"""


@pytest.fixture
def make_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], JobRunner]]:
    """Make runners whose jobs are stand-ins; what still runs is ended."""
    made: list[JobRunner] = []

    def popen(command: list[str], **more: Any) -> Any:
        return subprocess.Popen([sys.executable, "-c", _STAND_IN, *command[3:]], **more)

    names = ("PIPE", "DEVNULL", "TimeoutExpired")
    stand_in = SimpleNamespace(Popen=popen, **{name: getattr(subprocess, name) for name in names})
    monkeypatch.setattr(runners, "subprocess", stand_in)

    def make(config: str) -> JobRunner:
        made.append(JobRunner(JobQueue(tmp_path), config))
        return made[-1]

    yield make
    for one in made:
        one._end_all()
        if one._lock is not None:
            one._lock.close()


def test_jobs_run_one_after_another(tmp_path: Path, folder: Path, make_runner: Callable[[str], JobRunner]) -> None:
    queue, runner = JobQueue(tmp_path), make_runner("well")
    for number in range(2):
        queue.add(folder, _job(number))
    runner.tick()
    assert len(runner._children) == 1

    def all_done() -> bool:
        runner.tick()
        return not list(queue.entries())

    _until(all_done)
    assert [job.state for job in jobs_of(folder)] == ["completed", "completed"]


def test_a_process_that_is_killed_is_a_job_that_failed(
    tmp_path: Path, folder: Path, make_runner: Callable[[str], JobRunner]
) -> None:
    queue, runner = JobQueue(tmp_path), make_runner("die")
    job = queue.add(folder, _job())

    def failed() -> bool:
        runner.tick()
        return job_of(folder, job.id).state == "failed"

    _until(failed)
    assert "by signal 9" in str(job_of(folder, job.id).error)


def test_a_job_is_cancelled_while_it_waits_and_while_it_runs(
    tmp_path: Path, folder: Path, make_runner: Callable[[str], JobRunner]
) -> None:
    queue, runner = JobQueue(tmp_path), make_runner("sleep")
    running, waiting = queue.add(folder, _job(0)), queue.add(folder, _job(1))
    runner.tick()
    _until(lambda: job_of(folder, running.id).state == "running")
    queue.cancel(folder, waiting.id)
    runner.tick()
    assert job_of(folder, waiting.id).state == "cancelled"
    queue.cancel(folder, running.id)

    def cancelled() -> bool:
        runner.tick()
        return job_of(folder, running.id).state == "cancelled"

    _until(cancelled)
    assert list(queue.entries()) == []


def test_a_job_of_a_server_that_ended_is_taken_up(
    tmp_path: Path, folder: Path, make_runner: Callable[[str], JobRunner]
) -> None:
    queue, first = JobQueue(tmp_path), make_runner("sleep")
    job = queue.add(folder, _job())
    first.tick()
    _until(lambda: job_of(folder, job.id).state == "running")
    second = make_runner("well")
    second.tick()
    assert second._children == {}  # the first holds the lock
    first._end_all()
    first._lock.close()
    first._lock = None
    left = job_of(folder, job.id)
    assert (left.state, left.pid, left.attempts) == ("waiting", None, 0)

    def completed() -> bool:
        second.tick()
        return job_of(folder, job.id).state == "completed"

    _until(completed)


def test_a_job_whose_process_is_gone_starts_again_but_not_for_ever(
    tmp_path: Path, folder: Path, make_runner: Callable[[str], JobRunner]
) -> None:
    queue, runner = JobQueue(tmp_path), make_runner("sleep")
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    job = queue.add(folder, _job(state="running", pid=int(dead.stdout), attempts=1))
    runner.tick()
    assert list(runner._children) == [job.id]
    worn = queue.add(folder, _job(7, state="running", pid=int(dead.stdout), attempts=3))
    runner.tick()
    assert job_of(folder, worn.id).state == "failed"


def test_rows_must_have_stopped_coming(tmp_path: Path, folder: Path, make_runner: Callable[[str], JobRunner]) -> None:
    queue, runner = JobQueue(tmp_path), make_runner("sleep")
    queue.update_soon(folder, "d")
    runner.tick()
    assert runner._children == {}
    (entry,) = queue.entries()
    os.utime(entry.path, (time.time() - 10, time.time() - 10))
    runner.tick()
    assert len(runner._children) == 1


def test_entries_without_a_dataset_go(tmp_path: Path, folder: Path, make_runner: Callable[[str], JobRunner]) -> None:
    queue, runner = JobQueue(tmp_path), make_runner("sleep")
    job = queue.add(folder, _job())
    (folder / "jobs" / f"{job.id}.json").unlink()
    runner.tick()
    assert list(queue.entries()) == []
    assert runner._children == {}
