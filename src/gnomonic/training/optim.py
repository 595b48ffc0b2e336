"""The optimiser and its schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from gnomonic.training.config import LoopConfig

__all__ = ["build_optimizer", "learning_rate_at"]


def build_optimizer(parameters: Iterable[tuple[str, nn.Parameter]], config: LoopConfig) -> torch.optim.AdamW:
    """Make AdamW (arXiv 1711.05101) with weight decay on matrices only, not on norms and biases."""
    named = [(name, parameter) for name, parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [p for _, p in named if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for _, p in named if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, config.beta2), eps=1e-6, fused=True)


def learning_rate_at(step: int, config: LoopConfig) -> float:
    """Return the rate of optimiser step `step`, counted from 0: linear warm-up, then the schedule."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    span = max(1, config.max_steps - config.warmup_steps)
    done = min(1.0, (step - config.warmup_steps) / span)
    if config.schedule == "cosine":
        return config.learning_rate * (1 + math.cos(math.pi * done)) / 2
    return config.learning_rate * ((1 - done) if config.schedule == "linear" else 1.0)
