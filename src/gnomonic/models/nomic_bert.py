"""NomicBERT: the text encoder and its masked-language-model head.

Attribute names are the published tensor names, so `load_state_dict(strict=True)` is the loader. The odd ones:
`emb_ln` is the norm after the embedding sum, `Wqkv` the fused projection, `fc12` the gate of the MLP.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gnomonic.models.config import NomicBertConfig
from gnomonic.models.layers import AttentionPlan, Block, rotary_tables

__all__ = ["NomicBert", "NomicBertForMaskedLM"]


class _Embeddings(nn.Module):
    def __init__(self, config: NomicBertConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)

    def forward(self, input_ids: Tensor) -> Tensor:
        # Every published use has token type 0 throughout.
        out: Tensor = self.word_embeddings(input_ids) + self.token_type_embeddings.weight[0]
        return out


class _Encoder(nn.Module):
    def __init__(self, config: NomicBertConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Block(config.hidden_size, config.num_heads, config.intermediate_size, config.layer_norm_eps)
            for _ in range(config.num_layers)
        )


def _initialise(module: nn.Module, std: float) -> None:
    """Draw matrices from N(0, std²) from torch's global generator; norms start as the identity."""
    for name, parameter in module.named_parameters():
        if parameter.ndim >= 2:
            nn.init.normal_(parameter, std=std)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
        else:
            nn.init.ones_(parameter)


class NomicBert(nn.Module):
    """The encoder: packed token ids in, one vector per token out."""

    def __init__(self, config: NomicBertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        self.emb_ln = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.encoder = _Encoder(config)
        _initialise(self, config.initializer_range)

    def forward(self, input_ids: Tensor, lengths: Sequence[int]) -> Tensor:
        """Encode sequences laid end to end.

        Args:
            input_ids: [T] int64, all sequences one after the other, without padding.
            lengths: tokens per sequence, each at least 1; they sum to T.

        Returns:
            [T, hidden_size] in the weights' dtype (autocast's, under autocast).
        """
        device = input_ids.device
        # Sequences of one length lie side by side while they are worked on, so that attention takes slices of the
        # batch instead of gathering it, layer by layer.
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        if moved := order != list(range(len(lengths))):
            pieces = torch.split(torch.arange(len(input_ids)), list(lengths))
            forth = torch.cat([pieces[index] for index in order]).to(device)
            input_ids, lengths = input_ids[forth], [lengths[index] for index in order]
        x: Tensor = self.emb_ln(self.embeddings(input_ids))
        plan = AttentionPlan.build(lengths, device)
        cos, sin = rotary_tables(lengths, self.config.rotary_base_at, self.config.head_dim, device)
        dtype = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else x.dtype
        rotary = (cos.to(dtype), sin.to(dtype))
        for layer in self.encoder.layers:
            x = layer(x, rotary, plan)
        return x.index_select(0, forth.argsort()) if moved else x


class _Transform(nn.Module):
    def __init__(self, config: NomicBertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer_norm(F.silu(self.dense(x)))
        return out


class _Predictions(nn.Module):
    def __init__(self, config: NomicBertConfig) -> None:
        super().__init__()
        self.transform = _Transform(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias=False)


class _Head(nn.Module):
    def __init__(self, config: NomicBertConfig) -> None:
        super().__init__()
        self.predictions = _Predictions(config)


class NomicBertForMaskedLM(nn.Module):
    """The encoder under `bert.` with the masked-language-model head under `cls.`; the decoder is the word table."""

    def __init__(self, config: NomicBertConfig) -> None:
        super().__init__()
        self.config = config
        self.bert = NomicBert(config)
        self.cls = _Head(config)
        _initialise(self.cls, config.initializer_range)
        self.cls.predictions.decoder.weight = self.bert.embeddings.word_embeddings.weight

    def forward(self, input_ids: Tensor, lengths: Sequence[int], positions: Tensor | None = None) -> Tensor:
        """Score the vocabulary at some tokens.

        Args:
            input_ids: [T] int64, packed.
            lengths: tokens per sequence.
            positions: [m] int64, packed positions to score; None for all.

        Returns:
            logits [m, vocab_size], or [T, vocab_size].
        """
        x = self.bert(input_ids, lengths)
        if positions is not None:
            x = x[positions]
        head = self.cls.predictions
        logits: Tensor = head.decoder(head.transform(x))
        return logits
