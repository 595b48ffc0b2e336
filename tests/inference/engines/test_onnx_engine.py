"""The ONNX engine where it differs from the others: its cache of built graphs, and what the runtime refuses."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from gnomonic.checkpoints.huggingface import read_config
from gnomonic.errors import CheckpointError, EngineError, InputError
from gnomonic.inference.batching import pad
from gnomonic.inference.engines import graph_cache
from gnomonic.inference.engines.graph_cache import multiplies_signed_exactly
from gnomonic.inference.engines.onnx import OnnxEngine

FEEDS = pad([np.arange(12), np.arange(5)])


def _embed(folder: Path, cache: Path, precision: str = "fp32") -> NDArray[np.float32]:
    engine = OnnxEngine.open(folder, read_config(folder), precision=precision, threads=1, cache_dir=cache)
    return engine.run(FEEDS)


def _graphs(cache: Path) -> list[Path]:
    return sorted((cache / "graphs").iterdir())


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The checkpoints that graphs were built from, in order."""
    folders: list[Path] = []
    build = graph_cache._build

    def counted(unfinished: Path, folder: Path, *rest: Any) -> None:
        folders.append(folder)
        build(unfinished, folder, *rest)

    monkeypatch.setattr(graph_cache, "_build", counted)
    return folders


def test_a_graph_is_built_once(tiny_checkpoint: Path, tmp_path: Path, built: list[Path]) -> None:
    first = _embed(tiny_checkpoint, tmp_path)
    np.testing.assert_array_equal(_embed(tiny_checkpoint, tmp_path), first)
    assert built == [tiny_checkpoint]
    (folder,) = _graphs(tmp_path)
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "weights.bin", "manifest.json"}


def test_precisions_have_their_own_graphs(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for precision in ("fp32", "int8", "fp32"):
        _embed(tiny_checkpoint, tmp_path, precision)
    assert len(_graphs(tmp_path)) == 2


def test_changed_weights_give_a_new_graph_in_place_of_the_old(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_checkpoint()
    before = _embed(folder, tmp_path)
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    # The top byte of a value of the last tensor: the sign.
    data[-1] ^= 0x80
    weights.write_bytes(data)
    os.utime(weights, ns=(time.time_ns(), time.time_ns() + 1))
    assert np.abs(_embed(folder, tmp_path) - before).max() > 1e-6
    assert len(_graphs(tmp_path)) == 1


def test_another_checkpoint_keeps_its_graph(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    for seed in (0, 1):
        _embed(make_checkpoint(seed=seed), tmp_path)
    assert len(_graphs(tmp_path)) == 2


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["model.onnx", "weights.bin"])
@pytest.mark.parametrize("damage", [_flip, Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_damaged_graph_is_built_again(
    tiny_checkpoint: Path, tmp_path: Path, name: str, damage: Callable[[Path], object], built: list[Path]
) -> None:
    first = _embed(tiny_checkpoint, tmp_path)
    damage(_graphs(tmp_path)[0] / name)
    np.testing.assert_array_equal(_embed(tiny_checkpoint, tmp_path), first)
    _embed(tiny_checkpoint, tmp_path)
    assert len(built) == 2
    assert len(_graphs(tmp_path)) == 1


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"files": {"model.onnx": {}}}'])
def test_a_damaged_manifest_is_no_manifest(
    tiny_checkpoint: Path, tmp_path: Path, manifest: str, built: list[Path]
) -> None:
    _embed(tiny_checkpoint, tmp_path)
    (_graphs(tmp_path)[0] / "manifest.json").write_text(manifest)
    _embed(tiny_checkpoint, tmp_path)
    assert len(built) == 2


def _build_in_process(folder: str, cache: str, barrier: Any, results: Any) -> None:
    barrier.wait()
    results.put(_embed(Path(folder), Path(cache)).tobytes())


def test_processes_that_build_at_once_all_succeed(tiny_checkpoint: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(3), context.Queue()
    arguments = (str(tiny_checkpoint), str(tmp_path), barrier, results)
    processes = [context.Process(target=_build_in_process, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    answers = {results.get(timeout=100) for _ in processes}
    for process in processes:
        process.join()
    assert answers == {_embed(tiny_checkpoint, tmp_path).tobytes()}
    assert len(_graphs(tmp_path)) == 1


def test_a_graph_published_meanwhile_is_kept(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = graph_cache._build

    def overtaken(unfinished: Path, *rest: Any) -> None:
        build(unfinished, *rest)
        shutil.copytree(unfinished, tmp_path / "graphs" / unfinished.name)
        (tmp_path / "graphs" / unfinished.name / "marker").touch()

    monkeypatch.setattr(graph_cache, "_build", overtaken)
    _embed(tiny_checkpoint, tmp_path)
    (folder,) = _graphs(tmp_path)
    assert (folder / "marker").exists()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_cache_that_cannot_be_written_only_slows(
    tiny_checkpoint: Path, tmp_path: Path, precision: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = _embed(tiny_checkpoint, tmp_path / "cache", precision)
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(_embed(tiny_checkpoint, tmp_path / "file", precision), expected)
    assert "cannot be kept" in caplog.text


def test_a_full_disk_leaves_nothing_behind(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = _embed(tiny_checkpoint, tmp_path / "good")

    def full(_self: object, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(graph_cache.FileStore, "_append", full)
    np.testing.assert_array_equal(_embed(tiny_checkpoint, tmp_path / "full"), expected)
    assert "No space left on device" in caplog.text
    assert _graphs(tmp_path / "full") == []


def test_abandoned_folders_are_removed_and_running_builds_are_not(tiny_checkpoint: Path, tmp_path: Path) -> None:
    graphs = tmp_path / "graphs"
    for name in (".building-old", ".building-new"):
        (graphs / name / "x").mkdir(parents=True)
    long_ago = time.time() - 2 * 24 * 3600
    os.utime(graphs / ".building-old", (long_ago, long_ago))
    _embed(tiny_checkpoint, tmp_path)
    assert sorted(path.name for path in _graphs(tmp_path))[0] == ".building-new"
    assert len(_graphs(tmp_path)) == 2


def test_a_damaged_checkpoint_is_an_error_and_nothing_is_kept(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_checkpoint()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError):
        _embed(folder, tmp_path)
    assert _graphs(tmp_path) == []


def test_precisions_of_other_engines_are_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose fp32 or int8"):
        _embed(tiny_checkpoint, tmp_path, "bf16")


def test_a_file_that_is_no_graph_is_an_engine_error(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(EngineError, match="cannot load the graph"):
        OnnxEngine(path, threads=1)


def test_a_graph_of_someone_else_is_an_engine_error() -> None:
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        "other",
        [info("x", onnx.TensorProto.FLOAT, [1])],
        [info("y", onnx.TensorProto.FLOAT, [1])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    with pytest.raises(EngineError, match="not one that Gnomonic wrote"):
        OnnxEngine(model.SerializeToString(), threads=1)


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [
        ("x86_64", "avx2", False),
        ("x86_64", "avx2 avx512_vnni", True),
        ("AMD64", "avx_vnni", True),
        ("aarch64", "", True),
        ("arm64", None, True),
        ("x86_64", None, False),
    ],
)
def test_signed_weights_are_used_where_they_are_exact(
    machine: str, flags: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_text(_path: Path, **_options: str) -> str:
        if flags is None:
            raise FileNotFoundError
        return f"flags\t\t: fpu {flags} clflush\n"

    monkeypatch.setattr(graph_cache.platform, "machine", lambda: machine)
    monkeypatch.setattr(Path, "read_text", read_text)
    assert multiplies_signed_exactly() is expected


def test_the_manifest_says_where_a_graph_is_from(tiny_checkpoint: Path, tmp_path: Path) -> None:
    _embed(tiny_checkpoint, tmp_path)
    manifest = json.loads((_graphs(tmp_path)[0] / "manifest.json").read_text())
    assert (manifest["source"], manifest["precision"]) == (str(tiny_checkpoint.resolve()), "fp32")
