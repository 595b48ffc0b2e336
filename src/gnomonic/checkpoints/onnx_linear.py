"""Matrix products in a graph, in float32 or in 8 bits, behind one interface.

In 8 bits a product is `codes · weights` times two scales: the weights' one per output, applied inside the product,
and the tokens' one per row. The row scale is left to the caller, who can often apply it for less: inside
a rotation that happens anyway, or not at all where the row is quantised again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gnomonic.checkpoints.onnx_graph import GraphWriter
from gnomonic.checkpoints.quantize import quantize_rows

__all__ = ["Float32Linear", "Int8Linear", "Linear", "Operand"]

# Activations are unsigned bytes around 128: the fast 8-bit kernels of x86 take unsigned times signed.
_ZERO_POINT = 128
_LARGEST_CODE = 127.0
# Below every real activation's maximum, and its 127th part is still a normal float32.
_SMALLEST_MAXIMUM = 1e-30


@dataclass(frozen=True, kw_only=True, slots=True)
class Operand:
    """The left side of products, made ready once for all that share it."""

    value: str
    """[T, K]: float32, or uint8 codes."""
    row_scale: str | None = None
    """[T, 1] float32 that the rows of every product still need; None when they are right as they are."""


class Linear(Protocol):
    """How a graph multiplies with weights [N, K], rows being outputs as in the checkpoint."""

    precision: str

    def rows_of(self, name: str, table: NDArray[Any], ids: str) -> str:
        """Add a table [V, H] and the look-up of `ids` [T]; returns [T, H] float32."""
        ...

    def ready(self, x: str) -> Operand:
        """Prepare activations [T, K] float32."""
        ...

    def product(self, x: Operand, name: str, matrix: NDArray[Any], bias: NDArray[np.float32] | None = None) -> str:
        """Add weights and a product; returns [T, N] float32, rows unscaled. The bias is not scaled either."""
        ...


class Float32Linear:
    """Products in float32."""

    precision = "fp32"

    def __init__(self, graph: GraphWriter) -> None:
        self._graph = graph

    def rows_of(self, name: str, table: NDArray[Any], ids: str) -> str:
        """Look up float32 rows."""
        return self._graph.op("Gather", self._graph.weight(name, table.astype(np.float32, copy=False)), ids)

    def ready(self, x: str) -> Operand:
        """Pass the activations on."""
        return Operand(value=x)

    def product(self, x: Operand, name: str, matrix: NDArray[Any], bias: NDArray[np.float32] | None = None) -> str:
        """Multiply; the checkpoint's layout is kept and the runtime packs it."""
        weights = [self._graph.weight(name, matrix.astype(np.float32, copy=False))]
        if bias is not None:
            weights.append(self._graph.constant(bias, np.float32))
        return self._graph.op("Gemm", x.value, *weights, transB=1)


class Int8Linear:
    """Products of bytes: weights with one scale per output, activations with one per token, found at run time."""

    precision = "int8"

    def __init__(self, graph: GraphWriter, *, signed: bool = True) -> None:
        """Choose how weights are stored; the values are the same.

        Args:
            graph: where the operators go.
            signed: int8, for CPUs that multiply u8 by s8 exactly; else uint8 around 128, which is exact
                everywhere and slower on those CPUs.
        """
        self._graph = graph
        self._signed = signed

    def rows_of(self, name: str, table: NDArray[Any], ids: str) -> str:
        """Look up rows of codes and scale them back."""
        codes, scales = quantize_rows(table)
        rows = self._graph.op("Gather", self._graph.weight(name, codes), ids)
        scale = self._graph.op("Gather", self._graph.weight(f"{name}_scale", scales[:, None]), ids)
        return self._graph.op("Mul", self._graph.op("Cast", rows, to=_onnx_float()), scale)

    def ready(self, x: str) -> Operand:
        """Quantise each token by its own largest magnitude."""
        g = self._graph
        # Two reductions read x twice and write nothing; Abs would write a copy of x first.
        largest = g.op("ReduceMax", x, g.ints(-1), keepdims=1)
        smallest = g.op("ReduceMin", x, g.ints(-1), keepdims=1)
        magnitude = g.op("Max", largest, g.op("Neg", smallest), g.constant([[_SMALLEST_MAXIMUM]], np.float32))
        row_scale = g.op("Mul", magnitude, g.constant(1 / _LARGEST_CODE, np.float32))
        per_row = g.op("Squeeze", row_scale, g.ints(-1))
        zeros = g.op("Expand", g.constant(_ZERO_POINT, np.uint8), g.op("Shape", per_row))
        return Operand(value=g.op("QuantizeLinear", x, per_row, zeros, axis=0), row_scale=row_scale)

    def product(self, x: Operand, name: str, matrix: NDArray[Any], bias: NDArray[np.float32] | None = None) -> str:
        """Multiply codes, and scale the columns."""
        g = self._graph
        codes, scales = quantize_rows(matrix)
        stored = codes.T if self._signed else (codes.T.astype(np.int16) + _ZERO_POINT).astype(np.uint8)
        weight_zero = g.constant(0, np.int8) if self._signed else g.constant(_ZERO_POINT, np.uint8)
        return g.op(
            "MatMulIntegerToFloat",
            x.value,
            g.weight(name, stored),
            g.constant(1, np.float32),
            g.weight(f"{name}_scale", scales),
            g.constant(_ZERO_POINT, np.uint8),
            weight_zero,
            *([] if bias is None else [g.constant(bias, np.float32)]),
        )


def _onnx_float() -> int:
    from onnx import TensorProto

    return int(TensorProto.FLOAT)
