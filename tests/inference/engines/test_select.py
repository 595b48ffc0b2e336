from __future__ import annotations

from typing import Any

import pytest

from gnomonic.errors import InputError
from gnomonic.inference.engines.select import choose_engine


@pytest.mark.parametrize(
    ("device", "precision", "expected"),
    [
        (None, None, ("onnx", "cpu", "fp32")),
        (None, "auto", ("onnx", "cpu", "fp32")),
        ("cpu", "fp32", ("onnx", "cpu", "fp32")),
        ("cpu", "int8", ("onnx", "cpu", "int8")),
        ("cpu", "bf16", ("torch", "cpu", "bf16")),
        ("cpu", "fp16", ("torch", "cpu", "fp16")),
        ("torch-cpu", None, ("torch", "cpu", "fp32")),
        ("torch-cpu", "bf16", ("torch", "cpu", "bf16")),
        ("cuda", None, ("torch", "cuda", "bf16")),
        ("cuda:1", "fp16", ("torch", "cuda:1", "fp16")),
        ("cuda", "fp32", ("torch", "cuda", "fp32")),
        ("mps", "auto", ("torch", "mps", "fp32")),
    ],
)
def test_device_and_precision_choose_the_engine(
    device: str | None, precision: str | None, expected: tuple[str, str, str]
) -> None:
    assert choose_engine(device, precision) == expected


@pytest.mark.parametrize("device", ["", "gpu", "CPU", "cuda:", "cuda:x", "cuda:1 ", 0, []])
def test_unknown_devices_are_refused(device: Any) -> None:
    with pytest.raises(InputError, match=r"device .* is unknown; choose one of cpu, torch-cpu, cuda, cuda:N, mps"):
        choose_engine(device, None)


@pytest.mark.parametrize("precision", ["", "float32", "int4", 8, True])
def test_unknown_precisions_are_refused(precision: Any) -> None:
    with pytest.raises(InputError, match=r"precision .* is unknown; choose one of auto, fp32, bf16, fp16, int8"):
        choose_engine(None, precision)


@pytest.mark.parametrize("device", ["torch-cpu", "cuda", "cuda:0", "mps"])
def test_int8_is_the_cpu_engines_alone(device: str) -> None:
    with pytest.raises(InputError, match="'int8' runs on the device 'cpu' only"):
        choose_engine(device, "int8")
