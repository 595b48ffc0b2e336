"""NomicBERT as an ONNX graph: token ids and mask in, token embeddings and pooled vectors out.

Shapes: B rows, S their padded width, T = B·S tokens, H hidden size, N heads, d head size, e = d + 2.

**Padding without a mask.** ONNX Runtime's attention in blocks, which never holds an S × S matrix, takes neither
mask nor bias. So the mask travels inside the heads: each head of q and k gets one more rotary pair. The weights of
that pair are zero and its bias is (1, 0), so before the rotation it reads (1, 0) for every token, and after it
whatever the rotary tables say: (1, 0) in q and (m, 0) in k, where m is 0 for a real token and hugely negative for
padding. That adds m to each score: real tokens are unchanged to the bit, padding gets a weight of exactly zero.

**Row scales** of 8-bit products are folded in where they are free: those of q and k into the rotary tables, that of
fc11 into the quantisation of the product that follows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.checkpoints.onnx_graph import GraphWriter
from gnomonic.checkpoints.onnx_linear import Linear, Operand
from gnomonic.models.config import NomicBertConfig

__all__ = ["EncoderGraph"]

# Times 1/√d it still leaves exp(score) at exactly zero, and no sum with a real score overflows.
_HIDDEN_SCORE = -1e9


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tables:
    """Rotary tables (cos, sin), [T, e/2] each."""

    q: tuple[str, str]
    k: tuple[str, str]


class EncoderGraph:
    """Writes the encoder of one configuration into a graph."""

    def __init__(
        self, graph: GraphWriter, linear: Linear, config: NomicBertConfig, tensors: Mapping[str, NDArray[Any]]
    ) -> None:
        """Prepare to write.

        Args:
            graph: where the operators go.
            linear: how products are computed.
            config: the model's shape.
            tensors: weights by their published names, float16 or float32.
        """
        self._graph = graph
        self._linear = linear
        self._config = config
        self._tensors = tensors
        self._shared_tables: _Tables | None = None

    def write(self) -> None:
        """Write all of it, from `input_ids` and `attention_mask` to `last_hidden_state` and `sentence_embedding`."""
        g, config = self._graph, self._config
        g.scope("input")
        self._shape = g.op("Shape", "input_ids")
        self._mask = self._cast("attention_mask", np.float32)
        self._write_rotary_tables()
        g.scope("embeddings")
        words = self._tensors["embeddings.word_embeddings.weight"]
        # Every published use has token type 0 throughout, so its vector is part of every word's.
        table = words.astype(np.float32) + self._tensors["embeddings.token_type_embeddings.weight"][0]
        x = self._linear.rows_of("word_table", table, g.op("Reshape", "input_ids", g.ints(-1)))
        x = self._norm(x, "emb_ln")
        for layer in range(config.num_layers):
            name = f"encoder.layers.{layer}"
            operand = self._linear.ready(x)
            x = self._norm(g.op("Add", x, self._attention(operand, f"{name}.attn")), f"{name}.norm1")
            x = self._norm(g.op("Add", x, self._mlp(self._linear.ready(x), f"{name}.mlp")), f"{name}.norm2")
        g.scope("output")
        hidden = self._rows(x, config.hidden_size)
        g.output("last_hidden_state", hidden)
        g.output("sentence_embedding", self._mean(hidden))

    # -- parts ------------------------------------------------------------------------------------------------

    def _write_rotary_tables(self) -> None:
        """Write the cosines and sines of every token, [T, d/2], and the constant columns of the extra pair."""
        g, half = self._graph, self._config.head_dim // 2
        rows, width = (g.op("Squeeze", g.op("Slice", self._shape, g.ints(i), g.ints(i + 1))) for i in (0, 1))
        zero, one = g.constant(0, np.int64), g.constant(1, np.int64)
        positions = self._cast(g.op("Range", zero, width, one), np.float32)
        # [1 or B, S, d/2], then every row of the batch spelled out.
        angles = g.op("Mul", g.op("Reshape", positions, g.ints(1, -1, 1)), self._frequencies())
        full = g.op("Concat", self._shape, g.ints(half), axis=0)
        tables = [g.op("Expand", g.op(function, angles), full) for function in ("Cos", "Sin")]
        self._cos, self._sin = (g.op("Reshape", table, g.ints(-1, half)) for table in tables)
        # Each token has its own row in the tables, so its place in them is its place in the batch.
        tokens = g.op("Range", zero, g.op("Mul", rows, width), one)
        self._places = g.op("Reshape", tokens, self._shape)
        kept = g.op("Reshape", self._mask, g.ints(-1, 1))
        self._nothing = g.op("Mul", kept, g.constant(0, np.float32))
        self._visible = g.op("Add", self._nothing, g.constant(1, np.float32))
        hidden = g.op("Sub", self._visible, kept)
        self._visibility = g.op("Mul", hidden, g.constant(_HIDDEN_SCORE, np.float32))

    def _frequencies(self) -> str:
        """Write the rotary frequencies: [1, 1, d/2], or [B, 1, d/2] when they depend on each row's length."""
        g, config = self._graph, self._config
        exponents = np.arange(0, config.head_dim, 2) / config.head_dim
        plain = config.rotary_base**-exponents
        alpha = config.rotary_scaling_factor
        if alpha is None:
            return g.constant(plain.reshape(1, 1, -1), np.float32)
        # Dynamic NTK (arXiv 2402.01613, eq. 5) by each row's own length L: the base grows by s^(d/(d-2)) with
        # s = α·L/trained − (α − 1), at least 1; a frequency base^(-2k/d) therefore by s^(-2k/(d-2)). In float64,
        # because an error in a frequency is multiplied by positions up to 8192.
        lengths = g.op("ReduceSum", self._cast("attention_mask", np.float64), g.ints(1), keepdims=1)
        stretch = g.op("Mul", lengths, g.constant(alpha / config.max_trained_positions, np.float64))
        stretch = g.op("Sub", stretch, g.constant(alpha - 1, np.float64))
        stretch = g.op("Max", stretch, g.constant([[1.0]], np.float64))
        powers = -exponents * config.head_dim / (config.head_dim - 2)
        grown = g.op("Pow", g.op("Unsqueeze", stretch, g.ints(1)), g.constant(powers, np.float64))
        return self._cast(g.op("Mul", grown, g.constant(plain, np.float64)), np.float32)

    def _tables(self, row_scale: str | None) -> _Tables:
        """Write the tables of q and k; those that no row scale rides along with serve every layer."""
        g = self._graph
        if row_scale is None and self._shared_tables:
            return self._shared_tables
        cos, sin = self._cos, self._sin
        if row_scale is not None:
            cos, sin = g.op("Mul", cos, row_scale), g.op("Mul", sin, row_scale)
        sin = g.op("Concat", sin, self._nothing, axis=1)
        tables = _Tables(
            q=(g.op("Concat", cos, self._visible, axis=1), sin),
            k=(g.op("Concat", cos, self._visibility, axis=1), sin),
        )
        if row_scale is None:
            self._shared_tables = tables
        return tables

    def _attention(self, x: Operand, name: str) -> str:
        g, config = self._graph, self._config
        g.scope(name)
        extended = config.num_heads * (config.head_dim + 2)
        parts = np.split(self._tensors[f"{name}.Wqkv.weight"], 3)
        tables = self._tables(x.row_scale)
        rotated = []
        for letter, matrix, (cos, sin) in zip("qk", parts[:2], (tables.q, tables.k), strict=True):
            wider, bias = _with_extra_pair(matrix, config)
            projected = self._rows(self._linear.product(x, f"{name}.{letter}", wider, bias), extended)
            rotated.append(
                g.op(
                    "RotaryEmbedding",
                    projected,
                    self._places,
                    cos,
                    sin,
                    num_heads=config.num_heads,
                    rotary_embedding_dim=config.head_dim + 2,
                )
            )
        values = self._scaled(self._linear.product(x, f"{name}.v", parts[2]), x.row_scale)
        mixed = g.op(
            "MultiHeadAttention",
            *rotated,
            self._rows(values, config.hidden_size),
            num_heads=config.num_heads,
            scale=config.head_dim**-0.5,
        )
        operand = self._linear.ready(g.op("Reshape", mixed, g.ints(-1, config.hidden_size)))
        out = self._linear.product(operand, f"{name}.out_proj.weight", self._tensors[f"{name}.out_proj.weight"])
        return self._scaled(out, operand.row_scale)

    def _mlp(self, x: Operand, name: str) -> str:
        """Write fc2(fc11(x) · silu(fc12(x)))."""
        g = self._graph
        g.scope(name)
        up, gate = (
            self._linear.product(x, f"{name}.{part}.weight", self._tensors[f"{name}.{part}.weight"])
            for part in ("fc11", "fc12")
        )
        # QuickGelu is x·sigmoid(alpha·x): with alpha 1 it is SiLU, in one pass.
        gate = g.op("QuickGelu", self._scaled(gate, x.row_scale), alpha=1.0)
        inner = self._linear.ready(g.op("Mul", up, gate))
        out = self._linear.product(inner, f"{name}.fc2.weight", self._tensors[f"{name}.fc2.weight"])
        if inner.row_scale is None or x.row_scale is None:
            return out
        return self._scaled(out, g.op("Mul", inner.row_scale, x.row_scale))

    def _mean(self, hidden: str) -> str:
        """Write the mean of the tokens that are not padding, [B, H]."""
        g = self._graph
        total = g.op("MatMul", g.op("Unsqueeze", self._mask, g.ints(1)), hidden)
        count = g.op("ReduceSum", self._mask, g.ints(1), keepdims=1)
        # A row without any token gives zeros, not a division by zero.
        count = g.op("Max", count, g.constant([[1.0]], np.float32))
        return g.op("Div", g.op("Squeeze", total, g.ints(1)), count)

    # -- small pieces -----------------------------------------------------------------------------------------

    def _norm(self, x: str, name: str) -> str:
        g = self._graph
        parts = (
            g.weight(f"{name}.{part}", self._tensors[f"{name}.{part}"].astype(np.float32, copy=False))
            for part in ("weight", "bias")
        )
        return g.op("LayerNormalization", x, *parts, epsilon=self._config.layer_norm_eps, axis=-1)

    def _scaled(self, x: str, row_scale: str | None) -> str:
        return x if row_scale is None else self._graph.op("Mul", x, row_scale)

    def _rows(self, x: str, width: int) -> str:
        """[T, width] to [B, S, width]."""
        shape = self._graph.op("Concat", self._shape, self._graph.ints(width), axis=0)
        return self._graph.op("Reshape", x, shape)

    def _cast(self, x: str, dtype: type[np.float32] | type[np.float64]) -> str:
        from onnx import helper

        return self._graph.op("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _with_extra_pair(matrix: NDArray[Any], config: NomicBertConfig) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give every head of a projection [N·d, H] one more rotary pair, which reads (1, 0) for every token.

    The first members of a head's pairs are its first half, the second members its second half.

    Returns:
        weights [N·e, H] and bias [N·e].
    """
    heads, half = config.num_heads, config.head_dim // 2
    wider = np.zeros((heads, 2, half + 1, config.hidden_size), dtype=np.float32)
    wider[:, :, :half] = matrix.reshape(heads, 2, half, config.hidden_size)
    bias = np.zeros((heads, 2, half + 1), dtype=np.float32)
    bias[:, 0, half] = 1
    return wider.reshape(-1, config.hidden_size), bias.reshape(-1)
