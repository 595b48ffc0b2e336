"""`gnomonic export`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from typer.testing import CliRunner

from gnomonic.cli.main import app


def test_the_written_model_runs(tiny_checkpoint: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["export", str(tiny_checkpoint), "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "layer norm" in result.output
    session = ort.InferenceSession(tmp_path / "out" / "onnx" / "model.onnx")
    ones = np.ones((2, 3), dtype=np.int64)
    outputs = session.run(["sentence_embedding"], {"input_ids": ones, "attention_mask": ones})
    assert outputs[0].shape == (2, 32)


def test_int8_is_smaller(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for precision in ("fp32", "int8"):
        arguments = ["export", str(tiny_checkpoint), "-o", str(tmp_path), "--precision", precision]
        assert CliRunner().invoke(app, arguments).exit_code == 0
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "onnx").iterdir()}
    assert sizes["model_quantized.onnx"] < sizes["model.onnx"]


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--format", "gguf", "format 'gguf' is unknown"),
        ("--precision", "bf16", "choose fp32 or int8"),
    ],
)
def test_what_is_not_there_is_refused(
    tiny_checkpoint: Path, tmp_path: Path, option: str, value: str, said: str
) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["export", str(tiny_checkpoint), "-o", str(out), option, value])
    assert result.exit_code == 2
    assert said in result.output
    assert not out.exists()
