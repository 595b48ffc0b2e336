"""`gnomonic embed` as it is typed, with the tiny model and the real engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from gnomonic import load
from gnomonic.cli.main import app

PROGRAM = [sys.executable, "-c", "from gnomonic.cli.main import app_main; app_main()"]
TEXTS = ["the quick brown fox", "", "stone paper " * 40, "Ünïcödé 中文 \x00", "water", "long night " * 300]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), encoding="utf-8")
    return path


def _invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["embed", *map(str, arguments)])


def test_the_command_gives_the_vectors_of_the_library(tmp_path: Path, source: Path, tiny_checkpoint: Path) -> None:
    output = tmp_path / "out.npy"
    options = ["--task-type", "clustering", "--dimensionality", "16", "--chunk-rows", "2"]
    result = _invoke(source, "-o", output, "--model", tiny_checkpoint, *options)
    assert result.exit_code == 0, result.stderr
    with load(tiny_checkpoint) as encoder:
        expected = encoder.encode(TEXTS, task_type="clustering", dim=16).vectors
    cosines = (np.load(output) * expected).sum(axis=1)
    assert cosines.min() >= 1 - 1e-6
    assert "6 rows, 16 dimensions" in result.stdout


def test_two_runs_give_the_same_bytes(tmp_path: Path, source: Path, tiny_checkpoint: Path) -> None:
    pytest.importorskip("pyarrow")
    outputs = [tmp_path / "one.parquet", tmp_path / "two.parquet"]
    for output in outputs:
        assert _invoke(source, "-o", output, "--model", tiny_checkpoint).exit_code == 0
    assert outputs[0].read_bytes() == outputs[1].read_bytes()


def test_the_report_counts_failed_and_cut_texts(tmp_path: Path, source: Path, tiny_checkpoint: Path) -> None:
    with source.open("a", encoding="utf-8") as file:
        file.write("no json\n")
    output = tmp_path / "out.npy"
    result = _invoke(source, "-o", output, "--model", tiny_checkpoint, "--max-tokens", 64)
    assert result.exit_code == 0, result.stderr
    assert "2 texts were too long and were cut" in result.stdout
    assert "1 rows failed (NaN in the output); reasons in" in result.stdout
    assert np.isnan(np.load(output)[-1]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--task-type", "poetry"], "task_type 'poetry' is unknown"),
        (["--long-text-mode", "split"], "long_text_mode 'split' is unknown"),
        (["--dimensionality", "33"], "33 is larger than the model's 32"),
        (["--dimensionality", "0"], "0 is smaller than 1"),
        (["--max-tokens", "0"], "max_tokens_per_text 0"),
        (["--precision", "fp12"], "fp12"),
        (["--device", "abacus"], "abacus"),
        (["--model", "no-such-model"], "no-such-model"),
        (["--field", "body"], "no column 'body'"),
    ],
    ids=lambda value: value[1] if isinstance(value, list) else "",
)
def test_a_wrong_option_ends_with_2_and_writes_nothing(
    tmp_path: Path, source: Path, tiny_checkpoint: Path, options: list[str], message: str
) -> None:
    model = [] if options[0] == "--model" else ["--model", tiny_checkpoint]
    result = _invoke(source, "-o", tmp_path / "out.npy", *model, *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == [source]


def test_a_size_the_model_was_not_trained_for_warns(tmp_path: Path, source: Path, tiny_checkpoint: Path) -> None:
    command = [*PROGRAM, "embed", str(source), "-o", str(tmp_path / "out.npy"), "--model", str(tiny_checkpoint)]
    result = subprocess.run([*command, "--dimensionality", "5"], capture_output=True, text=True, check=True)
    assert result.stderr.count("warning: dimensionality 5 is below 8") == 1


def _start(command: list[str], folder: Path, chunks: int) -> subprocess.Popen[str]:
    """Start a run and wait until it has finished some chunks."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while process.poll() is None and len(list(folder.glob("*.json"))) < chunks + 1:
        assert time.monotonic() < deadline, "the run made no progress"
        time.sleep(0.002)
    return process


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_real_run_that_is_stopped_goes_on_to_the_same_bytes(
    tmp_path: Path, tiny_checkpoint: Path, number: signal.Signals
) -> None:
    source = tmp_path / "in.txt"
    source.write_text("".join(f"the {index} fox jumps over {'stone ' * (index % 7)}\n" for index in range(600)))
    options = ["--model", str(tiny_checkpoint), "--chunk-rows", "8", "--threads", "1"]
    assert _invoke(source, "-o", tmp_path / "whole.npy", *options).exit_code == 0
    output = tmp_path / "out.npy"
    command = [*PROGRAM, "embed", str(source), "-o", str(output), *options]
    process = _start(command, tmp_path / "out.npy.partial", chunks=3)
    os.kill(process.pid, number)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert "Traceback" not in stderr
    assert not output.exists()
    result = _invoke(source, "-o", output, *options, "--resume")
    assert result.exit_code == 0, result.stderr
    assert "rows taken over" in result.stdout
    assert output.read_bytes() == (tmp_path / "whole.npy").read_bytes()
