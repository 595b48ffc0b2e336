"""Every generation of config.json, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import NomicBertConfig as NativeConfig

from gnomonic.errors import ConfigError
from gnomonic.models.config import NomicBertConfig

# As published for nomic-embed-text-v1.5, boilerplate included.
ORIGINAL: dict[str, Any] = {
    "model_type": "nomic_bert", "architectures": ["NomicBertModel"], "n_embd": 768, "n_head": 12, "n_layer": 12,
    "n_inner": 3072, "activation_function": "swiglu", "qkv_proj_bias": False, "mlp_fc1_bias": False,
    "mlp_fc2_bias": False, "prenorm": False, "parallel_block": False, "parallel_block_tied_norm": False,
    "layer_norm_epsilon": 1e-12, "use_rms_norm": False, "causal": False, "type_vocab_size": 2, "n_positions": 8192,
    "max_trained_positions": 2048, "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False, "rotary_emb_scale_base": None, "rotary_scaling_factor": None,
    "vocab_size": 30528, "pad_vocab_size_multiple": 64, "attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0,
    "initializer_range": 0.02, "bos_token_id": None, "eos_token_id": None, "dense_seq_output": True,
    "use_xentropy": True, "fused_bias_fc": True, "fused_dropout_add_ln": True, "use_flash_attn": True,
    "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "reorder_and_upcast_attn": False,
    "summary_type": "cls_index", "summary_use_proj": True, "tie_word_embeddings": True,
}  # fmt: skip
NATIVE: dict[str, Any] = {
    "model_type": "nomic_bert", "vocab_size": 30528, "hidden_size": 768, "num_hidden_layers": 12,
    "num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "silu", "type_vocab_size": 2,
    "layer_norm_eps": 1e-12, "max_position_embeddings": 2048,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
}  # fmt: skip


def _without(raw: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if key not in keys}


def test_the_published_config_is_the_default() -> None:
    assert NomicBertConfig.from_hf(ORIGINAL) == NomicBertConfig()


def test_the_first_code_default_for_scaling_means_none() -> None:
    assert NomicBertConfig.from_hf(ORIGINAL | {"rotary_scaling_factor": 1.0}) == NomicBertConfig()


def test_a_whole_number_written_as_a_float_is_read() -> None:
    assert NomicBertConfig.from_hf(ORIGINAL | {"n_inner": 3072.0}).intermediate_size == 3072


def test_both_styles_side_by_side_are_read() -> None:
    assert NomicBertConfig.from_hf(ORIGINAL | NATIVE) == NomicBertConfig()


def test_native_keys_alone_are_read() -> None:
    assert NomicBertConfig.from_hf(NATIVE) == NomicBertConfig(max_positions=2048)


def test_the_v1_config_of_transformers_scales_beyond_the_trained_length() -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 1000.0, "factor": 2.0}
    raw = _without(ORIGINAL | NATIVE, "max_trained_positions", "rotary_scaling_factor")
    config = NomicBertConfig.from_hf(raw | {"max_position_embeddings": 8192, "rope_parameters": rope})
    assert config == NomicBertConfig(rotary_scaling_factor=2.0)


def test_a_masked_lm_config_is_read() -> None:
    raw = ORIGINAL | {"architectures": ["NomicBertForPreTraining"], "n_positions": 2048}
    assert NomicBertConfig.from_hf(raw).max_positions == 2048


@pytest.mark.parametrize(
    ("length", "base"), [(2048, 1000.0), (2049, 1001.0), (3072, 2045.2), (4096, 3108.2), (6144, 5266.4), (8192, 7453.5)]
)
def test_the_scaled_base_has_its_published_values(length: int, base: float) -> None:
    assert NomicBertConfig(rotary_scaling_factor=2.0).rotary_base_at(length) == pytest.approx(base, abs=0.06)


def test_without_scaling_the_base_never_changes() -> None:
    assert {NomicBertConfig().rotary_base_at(length) for length in (1, 2048, 8192)} == {1000.0}


REFUSED: list[dict[str, Any]] = [
    {"prenorm": True}, {"parallel_block": True}, {"parallel_block_tied_norm": True}, {"use_rms_norm": True},
    {"causal": True}, {"is_decoder": True}, {"qkv_proj_bias": True}, {"mlp_fc1_bias": True}, {"mlp_fc2_bias": True},
    {"rotary_emb_fraction": 0.5}, {"rotary_emb_fraction": 0}, {"rotary_emb_interleaved": True},
    {"rotary_emb_scale_base": 512}, {"activation_function": "gelu"}, {"hidden_act": "gelu"},
    {"scale_attn_weights": False}, {"scale_attn_by_inverse_layer_idx": True}, {"num_experts": 8},
    {"tie_word_embeddings": False}, {"model_type": "bert"}, {"rotary_scaling_factor": 0.5},
    {"rotary_scaling_factor": -2}, {"rotary_scaling_factor": "2"}, {"rotary_emb_base": 0},
    {"rotary_emb_base": float("nan")}, {"rotary_emb_base": float("inf")}, {"n_embd": 770}, {"n_embd": 0},
    {"n_embd": -768}, {"n_embd": "768"}, {"n_embd": True}, {"n_embd": 768.5}, {"n_layer": 0}, {"n_head": 7},
    {"vocab_size": -1}, {"vocab_size": []}, {"layer_norm_epsilon": -1e-12}, {"n_positions": 0},
    {"hidden_size": 384}, {"num_hidden_layers": 6}, {"rope_parameters": {"rope_type": "yarn"}},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}, {"rope_parameters": [1]},
]  # fmt: skip


@pytest.mark.parametrize("wrong", REFUSED, ids=str)
def test_a_value_that_is_not_implemented_is_refused_by_name(wrong: dict[str, Any]) -> None:
    (key,) = wrong
    # Sizes that do not divide are named as we call them.
    names = {"n_embd": "n_embd|hidden_size", "n_head": "n_head|num_heads"}
    with pytest.raises(ConfigError, match=names.get(key, key)):
        NomicBertConfig.from_hf(ORIGINAL | wrong)


def test_a_message_names_the_file_and_the_value() -> None:
    with pytest.raises(ConfigError, match=r"there/config\.json: activation_function='gelu'.*'swiglu'"):
        NomicBertConfig.from_hf(ORIGINAL | {"activation_function": "gelu"}, where="there/config.json")


@pytest.mark.parametrize("key", ["vocab_size", "n_embd", "n_layer", "n_head", "n_inner"])
def test_a_missing_size_is_never_guessed(key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        NomicBertConfig.from_hf(_without(ORIGINAL, key))


shapes = st.builds(
    lambda heads, half, **rest: NomicBertConfig(num_heads=heads, hidden_size=2 * half * heads, **rest),
    heads=st.integers(1, 8), half=st.integers(2, 64), vocab_size=st.integers(1, 10**6),
    num_layers=st.integers(1, 48), intermediate_size=st.integers(1, 10**5), type_vocab_size=st.integers(1, 4),
    rotary_base=st.floats(1.0, 1e7), rotary_scaling_factor=st.none() | st.floats(1.01, 64),
    layer_norm_eps=st.floats(1e-12, 1e-3), max_positions=st.integers(2048, 10**6),
)  # fmt: skip


@given(config=shapes)
def test_writing_and_reading_give_the_config_back(config: NomicBertConfig) -> None:
    assert NomicBertConfig.from_hf(config.to_hf()) == config


@given(config=shapes)
def test_transformers_understands_what_is_written(config: NomicBertConfig) -> None:
    native = NativeConfig(**config.to_hf())
    ours = (config.hidden_size, config.num_layers, config.num_heads, config.intermediate_size, config.vocab_size)
    assert ours == (
        native.hidden_size, native.num_hidden_layers, native.num_attention_heads, native.intermediate_size,
        native.vocab_size,
    )  # fmt: skip
    assert native.rope_parameters["rope_theta"] == config.rotary_base
    assert native.rope_parameters.get("factor") == config.rotary_scaling_factor
