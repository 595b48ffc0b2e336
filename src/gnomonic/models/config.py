"""The configuration of a NomicBERT encoder, read strictly from every published generation of config.json.

This module is free of torch: the ONNX graph builder reads the same configuration.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gnomonic.errors import ConfigError

__all__ = ["NomicBertConfig"]

# Settings whose only implemented values are listed. A config may leave them out.
_IMPLEMENTED: dict[str, tuple[object, ...]] = {
    "prenorm": (False,),
    "parallel_block": (False,),
    "parallel_block_tied_norm": (False,),
    "use_rms_norm": (False, None),
    "causal": (False,),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "qkv_proj_bias": (False,),
    "mlp_fc1_bias": (False,),
    "mlp_fc2_bias": (False,),
    "rotary_emb_fraction": (1.0,),
    "rotary_emb_interleaved": (False,),
    "rotary_emb_scale_base": (None,),
    "activation_function": ("swiglu",),
    "hidden_act": ("silu",),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "num_experts": (None, 0),
    "tie_word_embeddings": (True,),
    "model_type": ("nomic_bert",),
}

# our name -> (original GPT2-style key, native transformers key)
_KEYS = {
    "vocab_size": ("vocab_size", "vocab_size"),
    "hidden_size": ("n_embd", "hidden_size"),
    "num_layers": ("n_layer", "num_hidden_layers"),
    "num_heads": ("n_head", "num_attention_heads"),
    "intermediate_size": ("n_inner", "intermediate_size"),
    "type_vocab_size": ("type_vocab_size", "type_vocab_size"),
    "layer_norm_eps": ("layer_norm_epsilon", "layer_norm_eps"),
    "initializer_range": ("initializer_range", "initializer_range"),
}
_REQUIRED = ("vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size")


def _number(source: Mapping[str, Any], key: str, where: str, *, whole: bool) -> float:
    value = source[key]
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or value <= 0 or (whole and value != int(value)):
        kind = "a positive whole number" if whole else "a positive number"
        raise ConfigError(f"{where}: {key} is {value!r}; it must be {kind}")
    return int(value) if whole else float(value)


@dataclass(frozen=True, kw_only=True, slots=True)
class NomicBertConfig:
    """Shape and constants of a NomicBERT text encoder; defaults are those of nomic-embed-text-v1.5."""

    vocab_size: int = 30528
    """Rows of the word table, padding rows included."""
    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_size: int = 3072
    type_vocab_size: int = 2
    max_positions: int = 8192
    """Longest sequence the model is meant for."""
    max_trained_positions: int = 2048
    """Longest sequence seen in training: where dynamic NTK scaling begins."""
    rotary_base: float = 1000.0
    rotary_scaling_factor: float | None = None
    """Dynamic NTK factor alpha; None leaves the base alone at every length."""
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        """Check what the parts must agree on.

        Raises:
            ConfigError: a size does not divide, or the scaling factor is below 1.
        """
        if self.hidden_size % self.num_heads or self.head_dim % 2:
            raise ConfigError(
                f"hidden_size {self.hidden_size} with {self.num_heads} heads gives no even head size; "
                "hidden_size must be a multiple of 2 × num_heads"
            )
        factor = self.rotary_scaling_factor
        if factor is not None and factor < 1:
            raise ConfigError(f"rotary_scaling_factor {factor} is below 1; use null or a factor such as 2")

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    def rotary_base_at(self, length: int) -> float:
        """Return the RoPE base for a sequence of that many tokens.

        Dynamic NTK (arXiv 2402.01613, eq. 5): base' = base · (αS/L − (α − 1))^(D/(D−2)) for S > L, with D the head
        size, L the trained length and α the scaling factor. A pure function of the sequence's own length.
        """
        if self.rotary_scaling_factor is None or length <= self.max_trained_positions:
            return self.rotary_base
        alpha = self.rotary_scaling_factor
        stretch = alpha * length / self.max_trained_positions - (alpha - 1)
        return float(self.rotary_base * stretch ** (self.head_dim / (self.head_dim - 2)))

    @classmethod
    def from_hf(cls, raw: Mapping[str, Any], *, where: str = "config.json") -> NomicBertConfig:
        """Read a published config: the original GPT2-style keys, the native transformers keys, or both side by side.

        Args:
            raw: the parsed config.json.
            where: the file's name, for messages.

        Raises:
            ConfigError: a key is missing, two keys disagree, or a value is not implemented.
        """
        for key, allowed in _IMPLEMENTED.items():
            if key in raw and raw[key] not in allowed:
                raise ConfigError(f"{where}: {key}={raw[key]!r} is not implemented; supported: {allowed[0]!r}")
        values: dict[str, Any] = {}
        for ours, names in _KEYS.items():
            whole = ours not in ("layer_norm_eps", "initializer_range")
            found = {name: _number(raw, name, where, whole=whole) for name in names if raw.get(name) is not None}
            if len(set(found.values())) > 1:
                raise ConfigError(f"{where}: {' and '.join(f'{k}={v}' for k, v in found.items())} disagree")
            if found:
                values[ours] = next(iter(found.values()))
            elif ours in _REQUIRED:
                raise ConfigError(f"{where}: neither {' nor '.join(dict.fromkeys(names))} is set")
        return cls(**values, **_rotary(raw, where), **_positions(raw, where))

    def to_hf(self) -> dict[str, Any]:
        """Return config.json in the published layout: original and native keys side by side, so both readers agree.

        The native `max_position_embeddings` is the trained length, because native transformers starts its dynamic
        NTK there.
        """
        rope: dict[str, Any] = {"rope_theta": self.rotary_base, "rope_type": "default"}
        if self.rotary_scaling_factor is not None:
            rope |= {"rope_type": "dynamic", "factor": self.rotary_scaling_factor}
        return {
            "architectures": ["NomicBertModel"],
            "model_type": "nomic_bert",
            "vocab_size": self.vocab_size,
            "n_embd": self.hidden_size,
            "n_layer": self.num_layers,
            "n_head": self.num_heads,
            "n_inner": self.intermediate_size,
            "n_positions": self.max_positions,
            "max_trained_positions": self.max_trained_positions,
            "type_vocab_size": self.type_vocab_size,
            "activation_function": "swiglu",
            "layer_norm_epsilon": self.layer_norm_eps,
            "initializer_range": self.initializer_range,
            "qkv_proj_bias": False,
            "mlp_fc1_bias": False,
            "mlp_fc2_bias": False,
            "prenorm": False,
            "parallel_block": False,
            "parallel_block_tied_norm": False,
            "use_rms_norm": False,
            "causal": False,
            "rotary_emb_base": self.rotary_base,
            "rotary_emb_fraction": 1.0,
            "rotary_emb_interleaved": False,
            "rotary_emb_scale_base": None,
            "rotary_scaling_factor": self.rotary_scaling_factor,
            "scale_attn_weights": True,
            "tie_word_embeddings": True,
            "pad_token_id": 0,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "intermediate_size": self.intermediate_size,
            "hidden_act": "silu",
            "layer_norm_eps": self.layer_norm_eps,
            "max_position_embeddings": self.max_trained_positions,
            "rope_parameters": rope,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        }


def _rotary(raw: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read base and scaling factor from `rotary_emb_base`/`rotary_scaling_factor` and/or `rope_parameters`."""
    values: dict[str, Any] = {}
    if raw.get("rotary_emb_base") is not None:
        values["rotary_base"] = _number(raw, "rotary_emb_base", where, whole=False)
    if raw.get("rotary_scaling_factor") is not None:
        values["rotary_scaling_factor"] = _number(raw, "rotary_scaling_factor", where, whole=False)
    rope = raw.get("rope_parameters") or {}
    if not isinstance(rope, Mapping):
        raise ConfigError(f"{where}: rope_parameters is {rope!r}; it must be an object")
    kind = rope.get("rope_type", "default")
    if kind not in ("default", "dynamic"):
        raise ConfigError(
            f"{where}: rope_parameters.rope_type={kind!r} is not implemented; supported: default, dynamic"
        )
    if rope.get("rope_theta") is not None:
        theta = _number(rope, "rope_theta", f"{where}: rope_parameters", whole=False)
        if values.setdefault("rotary_base", theta) != theta:
            raise ConfigError(
                f"{where}: rotary_emb_base={values['rotary_base']} and rope_parameters.rope_theta={theta} disagree"
            )
    if kind == "dynamic" and "rotary_scaling_factor" not in values and "rotary_scaling_factor" not in raw:
        values["rotary_scaling_factor"] = _number(rope, "factor", f"{where}: rope_parameters", whole=False)
    # The 2024 code default 1.0 meant "no scaling" and was later written as null.
    if values.get("rotary_scaling_factor") == 1.0:
        values["rotary_scaling_factor"] = None
    return values


def _positions(raw: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read the meant and the trained length; a config with native keys alone has one number for both."""
    names = ("n_positions", "max_position_embeddings", "max_trained_positions")
    found = {name: int(_number(raw, name, where, whole=True)) for name in names if raw.get(name) is not None}
    meant = found.get("n_positions") or found.get("max_position_embeddings") or 8192
    trained = found.get("max_trained_positions")
    if trained is None:
        # Native configs of the v1 family say max_position_embeddings 8192 though 2048 were trained.
        trained = min(2048, found.get("max_position_embeddings") or meant)
    return {"max_positions": max(meant, trained), "max_trained_positions": trained}
