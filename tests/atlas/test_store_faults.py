"""Writers that are killed, meet each other or run out of space, and files that are damaged."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gnomonic.atlas import upkeep, writing
from gnomonic.atlas.lock import hold
from gnomonic.atlas.store import Store, open_store
from gnomonic.errors import DatasetError

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

_APPENDING = """
import sys, pathlib, numpy, pyarrow
from gnomonic.atlas.store import open_store
import lancedb
store = open_store(pathlib.Path(sys.argv[1]), unique_id_field="id")
print("ready", flush=True)
for turn in range(int(sys.argv[3])):
    ids = [f"{sys.argv[2]}-{turn}-{i}" for i in range(500)]
    store.append(pyarrow.table({"id": ids, f"only {turn}": ids}), vectors=numpy.full((500, 64), turn))
"""


def _start(code: str, *arguments: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset with ten rows."""
    store = open_store(tmp_path / "data", unique_id_field="id")
    store.append(pa.table({"id": range(10), "text": [f"word{i}" * 50 for i in range(10)]}), vectors=np.eye(10, 64))
    store.close()
    return tmp_path / "data"


def _check_whole(store: Store) -> None:
    """Every reading agrees, and every turn of 500 rows is there or is not."""
    table = pa.Table.from_batches(store.scan(["_row", *store.schema.names]))
    assert table.num_rows == store.count() == sum(len(block) for _, block in store.vectors())
    found = np.sort(table["_row"].to_numpy())
    assert len(np.unique(found)) == len(found)
    ids = table["id"].to_pylist()
    assert len(set(ids)) == len(ids)
    turns: dict[str, int] = {}
    for one in ids:
        turns[one.rpartition("-")[0]] = turns.get(one.rpartition("-")[0], 0) + 1
    assert set(turns.values()) <= {500}


def _numbers_of(store: Store) -> list[int]:
    return [row for batch in store.scan(["_row"]) for row in batch.column(0).to_pylist()]


def test_two_processes_append_and_one_is_killed(tmp_path: Path) -> None:
    other = _start(_APPENDING, tmp_path, "other", 1000)
    assert other.stdout is not None
    assert other.stdout.readline() == "ready\n"
    store = open_store(tmp_path, unique_id_field="id")
    for turn in range(3):
        ids = [f"ours-{turn}-{i}" for i in range(500)]
        assert store.append(pa.table({"id": ids}), vectors=np.zeros((500, 64))) == ids
    other.kill()
    other.wait()
    other.stdout.close()
    before = store.count()
    _check_whole(store)
    store.append(pa.table({"id": [f"after-{i}" for i in range(500)]}), vectors=np.zeros((500, 64)))
    assert store.count() == before + 500
    _check_whole(open_store(tmp_path))
    assert set(_numbers_of(store)) == set(range(store.count()))


@pytest.mark.parametrize("step", ["add_columns", "drop_columns", "delete", "add", "create_table", "write_state"])
def test_a_writer_may_fail_at_any_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """The step is done and then the writer fails, as if it was killed there."""
    store = open_store(tmp_path, unique_id_field="id")
    if step != "create_table":
        store.append(pa.table({"id": ["a", "b"], "empty": pa.nulls(2)}))
    version, rows = store.version, [batch.to_pylist() for batch in store.scan()]
    original: Callable[..., Any]

    def fail(*args: Any, **kwargs: Any) -> Any:
        if step != "write_state":
            original(*args, **kwargs)
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        import lancedb

        owner = {"create_table": type(lancedb.connect(str(tmp_path))), "write_state": writing}.get(
            step, lancedb.table.LanceTable
        )
        original = getattr(owner, step)
        patch.setattr(owner, step, fail)
        table = pa.table({"id": ["b", "c"], "empty": [1, 2], "new": [3, 4]})
        with pytest.raises(DatasetError, match="nothing was changed: killed"):
            store.append(table, vectors=np.eye(2), on_conflict="replace")
    for reader in (store, open_store(tmp_path)):
        assert (reader.version, [batch.to_pylist() for batch in reader.scan()]) == (version, rows)
        assert reader.dim is None
    assert store.append(table, vectors=np.eye(2), on_conflict="replace") == ["b", "c"]
    found = {row["id"]: row for batch in store.scan(["id", "_row", "empty", "new"]) for row in batch.to_pylist()}
    assert found["c"]["new"] == 4
    assert found["b"]["empty"] == 1
    assert sorted(row["_row"] for row in found.values()) == list(range(len(found)))


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are POSIX")
def test_a_full_disk_changes_nothing(folder: Path) -> None:
    import resource

    store = open_store(folder)
    rows = [batch.to_pylist() for batch in store.scan()]
    vectors = np.random.default_rng(0).normal(size=(2000, 64))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(DatasetError, match=r"rows\.lance cannot be written, and nothing was changed"):
            store.append(pa.table({"id": range(100, 2100)}), vectors=vectors)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [batch.to_pylist() for batch in store.scan()] == rows
    store.append(pa.table({"id": range(100, 2100)}), vectors=vectors)
    assert store.count() == open_store(folder).count() == 2010


def _truncate(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size // 3)


def _garble(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(path.stat().st_size))


@pytest.mark.parametrize("harm", [Path.unlink, _truncate, _garble], ids=["lost", "cut", "garbled"])
@pytest.mark.parametrize("part", ["data", "_versions", "rows.json", "all"])
def test_damage_is_told_with_the_file(folder: Path, harm: Callable[[Path], None], part: str) -> None:
    if part == "rows.json":
        if harm is Path.unlink:
            return
        harm(folder / part)
        with pytest.raises(DatasetError, match=r"rows\.json cannot be read"):
            open_store(folder)
        return
    if part == "all":
        shutil.rmtree(folder / "rows.lance")
    else:
        for path in (folder / "rows.lance" / part).iterdir():
            if path.suffix != ".json":
                harm(path)
    store = open_store(folder)
    assert store.count() == 10
    with pytest.raises(DatasetError, match=r"rows\.lance cannot be") as caught:
        list(store.scan())
    assert "backup" in caught.value.hint
    assert ".rs:" not in str(caught.value)


def test_state_of_a_newer_program(folder: Path) -> None:
    text = (folder / "rows.json").read_text(encoding="utf-8")
    (folder / "rows.json").write_text(text.replace('"format": 1', '"format": 2'), encoding="utf-8")
    with pytest.raises(DatasetError, match="newer version of Gnomonic"):
        open_store(folder)


def test_an_index_that_stops_the_files_from_being_joined(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(folder)
    store.create_full_text(["text"])
    original = upkeep._optimize
    failures = [RuntimeError("fragment not found in index")]

    def optimize(*args: Any) -> None:
        if failures:
            raise failures.pop()
        original(*args)

    monkeypatch.setattr(upkeep, "_optimize", optimize)
    store.optimize()
    assert failures == []
    assert store.full_text("word3" * 50)[0].tolist() in ([3], [])
    store.append(pa.table({"id": [10], "text": ["fresh"]}))
    assert store.full_text("fresh", columns=["text"])[0].tolist() == [10]


def test_joining_that_fails_is_no_failure_of_the_write(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: writing.Writer, keep_s: float = 0) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(upkeep, "_SMALL_WRITES", 1)
    monkeypatch.setattr(writing.Writer, "optimize", fail)
    store = open_store(folder)
    assert store.append(pa.table({"id": [10]})) == [10]
    assert store.append(pa.table({"id": [11]})) == [11]
    assert store.count() == 12


def test_threads_share_a_store(folder: Path) -> None:
    store = open_store(folder)
    errors: list[Exception] = []

    def work(number: int) -> None:
        try:
            for turn in range(3):
                store.append(pa.table({"id": [1000 + 10 * number + turn]}))
                assert store.get([number])["id"].to_pylist() == [number]
                assert sum(batch.num_rows for batch in store.scan(["id"])) >= 10
        except Exception as error:  # noqa: BLE001 - shown by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.count() == 22


# -- the lock ---------------------------------------------------------------------------------------------------


def test_a_lock_is_waited_for_and_named(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    said = rf"somebody writes; waited 0\.05 s for .*process {os.getpid()} on"
    with hold(path), pytest.raises(DatasetError, match=said), hold(path, wait_s=0.05, busy="somebody writes"):
        pass
    with hold(path, wait_s=0):
        pass


def test_a_lock_goes_from_thread_to_thread(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(5):
            with hold(tmp_path / "a.lock"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 15


def test_a_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    code = """
import sys, pathlib, time
from gnomonic.atlas.lock import hold
with hold(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
    holder = _start(code, tmp_path / "a.lock")
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(DatasetError, match=f"process {holder.pid} on"), hold(tmp_path / "a.lock", wait_s=0):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with hold(tmp_path / "a.lock", wait_s=5):
        pass


def test_a_lock_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be opened for locking"), hold(tmp_path / "none" / "a.lock"):
        pass
