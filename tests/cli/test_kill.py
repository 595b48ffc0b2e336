"""kill -9 at every single change of the file system, and a full disk: nothing half-written, the same bytes after."""

from __future__ import annotations

import json
import multiprocessing
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from tests.cli.stand_ins import embed_then_die, embed_with_file_limit, run_job


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Child processes that start in milliseconds, from a server that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.cli.stand_ins", "pyarrow.parquet"])
    return context


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    path = folder / "rows.jsonl"
    rows: list[Any] = [{"id": index, "text": f"text {index}"} for index in range(7)]
    rows[4]["text"] = None
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _run(processes: ForkServerContext, target: Any, *arguments: Any) -> int:
    process = processes.Process(target=target, args=arguments)
    process.start()
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


@pytest.mark.parametrize(("ending", "step"), [("npy", 1), ("parquet", 4)])
def test_a_run_killed_at_any_change_and_resumed_gives_the_same_bytes(
    processes: ForkServerContext, tmp_path: Path, source: Path, ending: str, step: int
) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    whole = tmp_path / "whole"
    whole.mkdir()
    run_job(source, whole / f"out.{ending}")
    expected = {path.name: path.read_bytes() for path in whole.iterdir()}
    killed = 0
    for fatal in range(1, 200, step):
        folder = tmp_path / f"killed-{fatal}"
        folder.mkdir()
        output = folder / f"out.{ending}"
        code = _run(processes, embed_then_die, source, output, fatal, {})
        if code == 0:
            break
        assert code == -9
        killed += 1
        if output.exists():
            assert output.read_bytes() == expected[output.name]
        run_job(source, output, resume=True)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == expected, f"killed at {fatal}"
    assert killed * step > 25


def test_a_resumed_run_may_be_killed_again(processes: ForkServerContext, tmp_path: Path, source: Path) -> None:
    run_job(source, tmp_path / "whole.npy")
    folder = tmp_path / "killed"
    folder.mkdir()
    deaths = 0
    while _run(processes, embed_then_die, source, folder / "out.npy", 9, {"resume": True}) == -9:
        deaths += 1
    assert deaths >= 3
    assert (folder / "out.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


@pytest.mark.parametrize(
    ("name", "limit"), [("out.npy", 40), ("out.npy", 200), ("out.npy", 300), ("out.parquet", 1000)]
)
def test_a_full_disk_keeps_the_finished_work(
    processes: ForkServerContext, tmp_path: Path, source: Path, name: str, limit: int
) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    run_job(source, tmp_path / f"whole-{name}")
    output = tmp_path / name
    assert _run(processes, embed_with_file_limit, source, output, limit, tmp_path / "report.txt") == 1
    report = (tmp_path / "report.txt").read_text(encoding="utf-8")
    assert report.startswith("GnomonicError: cannot write")
    assert "--resume" in report
    assert not output.exists()
    run_job(source, output, resume=True)
    assert output.read_bytes() == (tmp_path / f"whole-{name}").read_bytes()
