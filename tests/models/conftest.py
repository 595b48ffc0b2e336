"""Pairs of one model: ours and that of transformers, with the same random weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import NomicBertConfig as NativeConfig
from transformers import NomicBertForMaskedLM as NativeForMaskedLM
from transformers import NomicBertModel as NativeModel

from gnomonic.models.config import NomicBertConfig
from gnomonic.models.nomic_bert import NomicBert, NomicBertForMaskedLM

_RENAMED = {
    "emb_ln": "embeddings.LayerNorm",
    "encoder.layers": "layers",
    "attn.out_proj": "self_attn.o_proj",
    "norm1": "post_attention_layernorm",
    "norm2": "post_mlp_layernorm",
    "mlp.fc11": "mlp.up_proj",
    "mlp.fc12": "mlp.gate_proj",
    "mlp.fc2": "mlp.down_proj",
}


def native_state(state: dict[str, torch.Tensor], prefix: str = "") -> dict[str, torch.Tensor]:
    """Rename an encoder's tensors as transformers has them in memory."""
    renamed = {}
    for name, tensor in state.items():
        for ours, theirs in _RENAMED.items():
            name = name.replace(ours, theirs)
        if ".attn.Wqkv." in name:
            for part, third in zip("qkv", tensor.chunk(3), strict=True):
                renamed[prefix + name.replace("attn.Wqkv", f"self_attn.{part}_proj")] = third
        else:
            renamed[prefix + name] = tensor
    return renamed


def native_config(config: NomicBertConfig) -> NativeConfig:
    """Say the same in the words of transformers, without going through our own `to_hf`."""
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rotary_base}
    if config.rotary_scaling_factor is not None:
        rope |= {"rope_type": "dynamic", "factor": config.rotary_scaling_factor}
    return NativeConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.intermediate_size,
        type_vocab_size=config.type_vocab_size,
        layer_norm_eps=config.layer_norm_eps,
        max_position_embeddings=config.max_trained_positions,
        rope_parameters=rope,
    )


def shake(module: torch.nn.Module, seed: int) -> None:
    """Draw weights that make tokens interact: scores spread, norms and gates are not the identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            centre = 1.0 if parameter.ndim == 1 and name.endswith("weight") else 0.0
            parameter.copy_(centre + 0.15 * torch.randn(parameter.shape, generator=generator))


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The same weights in both libraries."""

    config: NomicBertConfig
    ours: NomicBert
    native: NativeModel

    @classmethod
    def make(cls, seed: int = 0, **values: Any) -> Pair:
        config = NomicBertConfig(**values)
        ours = NomicBert(config).eval()
        shake(ours, seed)
        native = NativeModel(native_config(config)).eval()
        native.load_state_dict(native_state(ours.state_dict()), strict=True)
        return cls(config=config, ours=ours, native=native)

    def texts(self, lengths: list[int], seed: int = 1) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return [torch.randint(0, self.config.vocab_size, (n,), generator=generator) for n in lengths]

    def native_pooled(self, texts: list[torch.Tensor]) -> NDArray[np.float32]:
        """Pool one padded batch as transformers computes it."""
        width = max(len(text) for text in texts)
        ids = torch.zeros(len(texts), width, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        with torch.inference_mode():
            tokens = self.native(input_ids=ids, attention_mask=mask).last_hidden_state
        return ((tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)).numpy()

    def weights(self) -> dict[str, NDArray[np.float32]]:
        return {name: tensor.numpy() for name, tensor in self.ours.state_dict().items()}


@pytest.fixture(scope="session")
def small_pair() -> Pair:
    return Pair.make(vocab_size=97, hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64)


@pytest.fixture(scope="session")
def masked_lm_pair() -> tuple[NomicBertForMaskedLM, NativeForMaskedLM]:
    """Both heads; the biases that only the native one has are zero."""
    config = NomicBertConfig(vocab_size=90, hidden_size=32, num_layers=2, num_heads=4, intermediate_size=48)
    ours = NomicBertForMaskedLM(config).eval()
    shake(ours, 3)
    native = NativeForMaskedLM(native_config(config)).eval()
    head = {name: tensor for name, tensor in ours.state_dict().items() if name.startswith("cls.")}
    state = native_state(ours.bert.state_dict(), "nomic_bert.") | head
    outcome = native.load_state_dict(state, strict=False)
    assert not outcome.unexpected_keys
    assert all(name.endswith("bias") for name in outcome.missing_keys)
    with torch.no_grad():
        for name in outcome.missing_keys:
            native.get_parameter(name).zero_()
    return ours, native
