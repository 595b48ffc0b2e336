"""Exported models in the WebAssembly runtime that transformers.js uses, under node."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from gnomonic.checkpoints.huggingface import read_config
from gnomonic.checkpoints.onnx import export_onnx
from gnomonic.inference.batching import pad
from gnomonic.inference.engines.onnx import OnnxEngine

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]

_SCRIPT = Path(__file__).with_name("run_in_web_runtime.mjs")
_RUNTIME = "onnxruntime-web@1.30.0"


@pytest.fixture(scope="module")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which node finds the runtime."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("node")
    (folder / "package.json").write_text('{"private": true}')
    # Nothing of the package has to run to install it.
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", _RUNTIME]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500, check=False)
    if done.returncode:
        pytest.skip(f"npm cannot install {_RUNTIME}: {done.stderr.strip()[-200:]}")
    return folder


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_web_runtime_gives_our_vectors(
    tiny_checkpoint: Path, tmp_path: Path, node_modules: Path, precision: str
) -> None:
    config = read_config(tiny_checkpoint)
    model = export_onnx(tiny_checkpoint, config, tmp_path, precision=precision)
    feeds = pad([np.arange(9), np.arange(40) % 7, np.arange(1)])
    values = {name: array.ravel().tolist() for name, array in feeds.items()}
    (tmp_path / "feeds.json").write_text(json.dumps({"shape": list(feeds["input_ids"].shape), **values}))
    done = subprocess.run(
        ["node", str(_SCRIPT), str(node_modules), str(model), str(tmp_path / "feeds.json")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["dims"] == [3, config.hidden_size]
    assert answer["hiddenDims"] == [3, 40, config.hidden_size]
    pooled = np.array(answer["pooled"], dtype=np.float32).reshape(answer["dims"])
    ours = OnnxEngine(model, threads=1).run(feeds)
    np.testing.assert_allclose(pooled, ours, atol=1e-4 if precision == "fp32" else 1e-2)
