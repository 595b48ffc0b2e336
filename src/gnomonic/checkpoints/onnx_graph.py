"""Writing an ONNX graph operator by operator, and three places for its weights: a file, memory, the model itself.

Only this module knows the onnx package; onnx_encoder.py knows the model.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

if TYPE_CHECKING:
    from types import TracebackType

    from onnx import TensorProto

__all__ = ["FileStore", "GraphWriter", "InlineStore", "MemoryStore", "WeightStore"]

# Opset 18: the first whose reductions take their axes as inputs. IR 8 is the version of its time, so that
# runtimes of several years read the file.
_OPSET = 18
_IR_VERSION = 8
_CONTRIB = "com.microsoft"
_CONTRIB_OPS = {"MatMulIntegerToFloat", "MultiHeadAttention", "QuickGelu", "RotaryEmbedding"}
# Weights start at multiples of a cache line, for aligned loads from the mapped file.
_ALIGNMENT = 64


class WeightStore(Protocol):
    """Where the values of a graph's weights go."""

    def put(self, name: str, values: NDArray[Any]) -> TensorProto:
        """Keep the values and return the graph's reference to them."""
        ...


def _external(name: str, values: NDArray[Any], location: Mapping[str, str | int]) -> TensorProto:
    """Describe a tensor whose bytes are elsewhere."""
    from onnx import TensorProto, helper

    tensor = TensorProto(name=name, dims=values.shape, data_location=TensorProto.EXTERNAL)
    tensor.data_type = helper.np_dtype_to_tensor_dtype(values.dtype)
    for key, value in location.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


class InlineStore:
    """Weights inside the model: one file, of at most 2 GB."""

    def put(self, name: str, values: NDArray[Any]) -> TensorProto:
        """Return a tensor that holds the values."""
        from onnx import numpy_helper

        return numpy_helper.from_array(np.ascontiguousarray(values), name)


class MemoryStore:
    """Weights stay arrays, handed to the runtime beside the model.

    Attributes:
        arrays: name -> values.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, NDArray[Any]] = {}

    def put(self, name: str, values: NDArray[Any]) -> TensorProto:
        """Keep the array and return a reference that only a runtime given the array can follow."""
        self.arrays[name] = np.ascontiguousarray(values)
        return _external(name, values, {"location": "in-memory"})


class FileStore:
    """Weights in one file beside the model, which the runtime maps into memory. A context manager.

    Attributes:
        size: bytes written so far.
        crc32: checksum of them.
    """

    def __init__(self, path: Path) -> None:
        """Create the file.

        Raises:
            OSError: it cannot be created.
        """
        self.size = 0
        self.crc32 = 0
        self._name = path.name
        self._file = path.open("wb")

    def __enter__(self) -> FileStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        with self._file:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())

    def put(self, name: str, values: NDArray[Any]) -> TensorProto:
        """Append the values and return a reference to their place.

        Raises:
            OSError: they cannot be written, as on a full disk.
        """
        self._append(bytes(-self.size % _ALIGNMENT))
        start = self.size
        self._append(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
        return _external(name, values, {"location": self._name, "offset": start, "length": self.size - start})

    def _append(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self.crc32 = zlib.crc32(data, self.crc32)
        self.size += len(data)


class GraphWriter:
    """Collects operators and weights; every method returns the name of the value it adds."""

    def __init__(self, store: WeightStore) -> None:
        self._store = store
        self._nodes: list[Any] = []
        self._initializers: dict[str, Any] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._scope = ""

    def scope(self, name: str) -> None:
        """Put `name` before the names of the operators that follow."""
        self._scope = f"{name}/"

    def weight(self, name: str, values: NDArray[Any]) -> str:
        """Add a weight; its values go to the store at once and are not kept here."""
        self._initializers[name] = self._store.put(name, values)
        return name

    def constant(self, values: Any, dtype: DTypeLike) -> str:
        """Add a small constant; equal ones are added once and always stay inside the model."""
        from onnx import numpy_helper

        array = np.asarray(values, dtype=dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._initializers[name] = numpy_helper.from_array(array, name)
            self._constants[key] = name
        return self._constants[key]

    def ints(self, *values: int) -> str:
        """Add a constant [n] int64."""
        return self.constant(values, np.int64)

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add an operator with one output; "" stands for an input left out."""
        from onnx import helper

        name = f"{self._scope}{kind}_{len(self._nodes)}"
        domain = _CONTRIB if kind in _CONTRIB_OPS else ""
        self._nodes.append(helper.make_node(kind, inputs, [name], name=name, domain=domain, **attributes))
        return name

    def output(self, name: str, value: str) -> None:
        """Give a value the name under which the caller finds it."""
        from onnx import helper

        self._nodes.append(helper.make_node("Identity", [value], [name], name=name))

    def serialize(
        self,
        inputs: Mapping[str, tuple[DTypeLike, list[str | int]]],
        outputs: Mapping[str, tuple[DTypeLike, list[str | int]]],
        metadata: Mapping[str, str],
    ) -> bytes:
        """Return the model file.

        Args:
            inputs: name -> dtype and shape, a string for a size that varies.
            outputs: the same for the outputs.
            metadata: free text the file carries.
        """
        from onnx import helper

        def describe(values: Mapping[str, tuple[DTypeLike, list[str | int]]]) -> list[Any]:
            return [
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
                for name, (dtype, shape) in values.items()
            ]

        graph = helper.make_graph(
            self._nodes, "nomic-bert", describe(inputs), describe(outputs), list(self._initializers.values())
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_CONTRIB, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="gnomonic")
        helper.set_model_props(model, dict(metadata))
        data: bytes = model.SerializeToString()
        return data
