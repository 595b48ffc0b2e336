"""Which engine runs a model: a pure choice from device and precision, then the opening of that engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from gnomonic.errors import InputError

if TYPE_CHECKING:
    from gnomonic.inference.engines.base import Engine
    from gnomonic.models.config import NomicBertConfig

__all__ = ["choose_engine", "open_engine"]

_DEVICES = "cpu, torch-cpu, cuda, cuda:N, mps"
_PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")


def open_engine(
    folder: Path,
    config: NomicBertConfig,
    *,
    device: str | None = None,
    precision: str | None = "auto",
    threads: int,
    cache_dir: Path,
) -> Engine:
    """Open the engine that runs this model on this device.

    Args:
        folder: the checkpoint.
        config: its configuration.
        device: None or "cpu", "torch-cpu", "cuda", "cuda:N", "mps".
        precision: None or "auto", "fp32", "bf16", "fp16", "int8".
        threads: CPU threads of one run.
        cache_dir: where built graphs are kept.

    Raises:
        InputError: no engine has this device or this precision on it.
        MissingExtraError: the engine's runtime is not installed.
        CheckpointError: the weights are absent, damaged or do not fit.
        EngineError: the runtime could not start.
    """
    engine, place, resolved = choose_engine(device, precision)
    if engine == "onnx":
        from gnomonic.inference.engines.onnx import OnnxEngine

        return OnnxEngine.open(folder, config, precision=resolved, threads=threads, cache_dir=cache_dir)
    from gnomonic.inference.engines.torch import TorchEngine

    return TorchEngine.open(folder, config, device=place, precision=resolved, threads=threads)


def choose_engine(device: str | None, precision: str | None) -> tuple[str, str, str]:
    """Return the engine's name, its device and its precision.

    The CPU's engine is ONNX Runtime, in fp32 unless int8 is asked for; half precision on the CPU is torch's. A
    GPU is torch's, in bf16 on CUDA and fp32 elsewhere unless told otherwise.

    Raises:
        InputError: no engine has this device, or this precision on it.
    """
    place = "cpu" if device is None else device
    wanted = "auto" if precision is None else precision
    if wanted not in _PRECISIONS:
        raise InputError(f"precision {precision!r} is unknown; choose one of {', '.join(_PRECISIONS)}")
    if not re.fullmatch(r"cpu|torch-cpu|mps|cuda(:\d+)?", str(place)):
        raise InputError(f"device {device!r} is unknown; choose one of {_DEVICES}")
    if place == "cpu" and wanted in ("auto", "fp32", "int8"):
        return "onnx", "cpu", "fp32" if wanted == "auto" else wanted
    if wanted == "int8":
        raise InputError(f"precision 'int8' runs on the device 'cpu' only, not on {place!r}; choose fp32, bf16 or fp16")
    if wanted == "auto":
        wanted = "bf16" if place.startswith("cuda") else "fp32"
    return "torch", place.removeprefix("torch-"), wanted
