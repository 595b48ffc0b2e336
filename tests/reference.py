"""NomicBERT in plain numpy, one sequence at a time, written from the formulas: what the engines are compared with.

It shares no code with the package. Tensors go by their published names; a config is anything with the attributes of
`NomicBertConfig`. Everything is computed in float64, the attention of long sequences in blocks of queries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["centred_cosine", "encode", "finish", "pool", "rotary_base"]

Array = NDArray[np.float64]
_QUERIES_AT_ONCE = 512


def rotary_base(config: Any, length: int) -> float:
    """RoPE base of a sequence of that many tokens: dynamic NTK beyond the trained length."""
    base, alpha, trained = config.rotary_base, config.rotary_scaling_factor, config.max_trained_positions
    if alpha is None or length <= trained:
        return base
    d = config.hidden_size // config.num_heads
    return base * ((alpha * length / trained) - (alpha - 1)) ** (d / (d - 2))


def _layer_norm(x: Array, weights: Mapping[str, NDArray[Any]], name: str, eps: float) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _rotate(x: Array, base: float) -> Array:
    """Rotate x [seq, heads, d]: dimension k is paired with k + d/2."""
    seq, _, d = x.shape
    half = d // 2
    frequencies = np.array([base ** (-2 * k / d) for k in range(half)])
    angles = np.arange(seq)[:, None, None] * frequencies
    first, second = x[..., :half], x[..., half:]
    turned = (first * np.cos(angles) - second * np.sin(angles), first * np.sin(angles) + second * np.cos(angles))
    return np.concatenate(turned, axis=-1)


def _attend(x: Array, weights: Mapping[str, NDArray[Any]], name: str, heads: int, base: float) -> Array:
    seq, hidden = x.shape
    d = hidden // heads
    q, k, v = np.split(x @ weights[f"{name}.Wqkv.weight"].astype(np.float64).T, 3, axis=1)
    q, k, v = (part.reshape(seq, heads, d) for part in (q, k, v))
    q, k = _rotate(q, base), _rotate(k, base)
    mixed = np.empty((seq, heads, d))
    for head in range(heads):
        for start in range(0, seq, _QUERIES_AT_ONCE):
            rows = slice(start, start + _QUERIES_AT_ONCE)
            scores = q[rows, head] @ k[:, head].T / np.sqrt(d)
            scores = np.exp(scores - scores.max(axis=1, keepdims=True))
            mixed[rows, head] = scores @ v[:, head] / scores.sum(axis=1, keepdims=True)
    return mixed.reshape(seq, hidden) @ weights[f"{name}.out_proj.weight"].astype(np.float64).T


def _gated(x: Array, weights: Mapping[str, NDArray[Any]], name: str) -> Array:
    value = x @ weights[f"{name}.fc11.weight"].astype(np.float64).T
    gate = x @ weights[f"{name}.fc12.weight"].astype(np.float64).T
    return (value * (gate / (1 + np.exp(-gate)))) @ weights[f"{name}.fc2.weight"].astype(np.float64).T


def encode(weights: Mapping[str, NDArray[Any]], config: Any, input_ids: NDArray[np.int64]) -> Array:
    """Encode one sequence.

    Args:
        weights: published name -> values.
        config: the model's shape.
        input_ids: [seq].

    Returns:
        token embeddings [seq, hidden_size] float64.
    """
    eps = config.layer_norm_eps
    words = weights["embeddings.word_embeddings.weight"][input_ids].astype(np.float64)
    x = _layer_norm(words + weights["embeddings.token_type_embeddings.weight"][0], weights, "emb_ln", eps)
    base = rotary_base(config, len(input_ids))
    for layer in range(config.num_layers):
        name = f"encoder.layers.{layer}"
        x = _layer_norm(x + _attend(x, weights, f"{name}.attn", config.num_heads, base), weights, f"{name}.norm1", eps)
        x = _layer_norm(x + _gated(x, weights, f"{name}.mlp"), weights, f"{name}.norm2", eps)
    return x


def pool(weights: Mapping[str, NDArray[Any]], config: Any, input_ids: NDArray[np.int64]) -> Array:
    """Return the mean token embedding of one sequence, [hidden_size] float64."""
    return encode(weights, config, input_ids).mean(axis=0)


def finish(pooled: NDArray[Any], *, layer_norm: bool, dim: int) -> Array:
    """Turn pooled vectors [n, hidden_size] into unit vectors [n, dim] float64."""
    x = np.asarray(pooled, dtype=np.float64)
    if layer_norm:
        x = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
    x = x[:, :dim]
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def centred_cosine(a: NDArray[Any], b: NDArray[Any]) -> Array:
    """Return the cosine of each row of a and b, [n], both taken relative to b's mean row.

    Vectors of random networks point the same way, so their raw cosine hides errors.
    """
    a, b = (np.asarray(x, dtype=np.float64) - np.asarray(b, dtype=np.float64).mean(axis=0) for x in (a, b))
    return (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
