"""How fast this machine multiplies matrices: the ceiling every throughput is compared with.

The shapes are those of nomic-embed-text-v1.5's layers over a batch of 2,048 tokens. The peak of a dtype is
the best median over shapes and runtimes (torch with oneDNN, ONNX Runtime with MLAS), so it is a rate some
runtime really holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

__all__ = ["measure_gemm"]

SHAPES = ((2048, 768, 2304), (2048, 768, 768), (2048, 768, 3072), (2048, 3072, 768))
QUICK_SHAPES = ((256, 256, 256),)

Case = tuple[str, str, Callable[[], Any]]


def _torch_cases(m: int, k: int, n: int) -> Iterator[Case]:
    import torch

    for dtype, label in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
        x, w = torch.randn(m, k, dtype=dtype), torch.randn(n, k, dtype=dtype)
        yield label, "torch", lambda x=x, w=w: torch.nn.functional.linear(x, w)
    if hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        packed = torch.ops.mkldnn._reorder_linear_weight(w, m)
        yield (
            "bf16",
            "torch prepacked",
            lambda: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], ""),
        )
    a = torch.randint(-128, 127, (m, k), dtype=torch.int8)
    b = torch.randint(-128, 127, (k, n), dtype=torch.int8)
    yield "int8", "torch", lambda: torch._int_mm(a, b)


def _onnxruntime_cases(m: int, k: int, n: int, threads: int) -> Iterator[Case]:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)

    def session(node: Any, constants: dict[str, Any], dtype: int) -> Any:
        weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
        x = helper.make_tensor_value_info("x", dtype, [None, k])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(helper.make_graph([node], "gemm", [x], [y], weights), opset_imports=opsets)
        model.ir_version = 8
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    weights = rng.standard_normal((k, n), dtype=np.float32)
    product = session(helper.make_node("MatMul", ["x", "w"], ["y"]), {"w": weights}, TensorProto.FLOAT)
    x = rng.standard_normal((m, k), dtype=np.float32)
    yield "fp32", "onnxruntime", lambda: product.run(None, {"x": x})
    names = ["x", "w", "x_scale", "w_scale", "x_zero", "w_zero"]
    node = helper.make_node("MatMulIntegerToFloat", names, ["y"], domain="com.microsoft")
    constants = {
        "w": rng.integers(-127, 128, (k, n), dtype=np.int8),
        "x_scale": np.float32(0.1),
        "w_scale": np.full(n, 0.1, np.float32),
        "x_zero": np.uint8(128),
        "w_zero": np.zeros(n, np.int8),
    }
    quantized = session(node, constants, TensorProto.UINT8)
    u = rng.integers(0, 256, (m, k), dtype=np.uint8)
    yield "int8", "onnxruntime", lambda: quantized.run(None, {"x": u})


def _median_seconds(call: Callable[[], Any], repeats: int) -> float:
    call()
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def measure_gemm(threads: int, *, quick: bool = False) -> dict[str, dict[str, float]]:
    """Time matrix products in every dtype and runtime.

    Args:
        threads: threads ONNX Runtime may use; torch's are set by the caller.
        quick: one small shape and few repeats; shows that it works, and measures nothing.

    Returns:
        dtype -> {"RUNTIME MxKxN": TFLOP/s}.
    """
    rates: dict[str, dict[str, float]] = {}
    for m, k, n in QUICK_SHAPES if quick else SHAPES:
        for cases in (_torch_cases(m, k, n), _onnxruntime_cases(m, k, n, threads)):
            for dtype, runtime, call in cases:
                seconds = _median_seconds(call, 3 if quick else 9)
                rates.setdefault(dtype, {})[f"{runtime} {m}x{k}x{n}"] = 2 * m * k * n / seconds / 1e12
    return rates
