"""The optimiser, its schedule, and the bound on its gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from gnomonic.errors import ConfigError
from gnomonic.training.config import LoopConfig

__all__ = ["build_optimizer", "clip_gradients", "learning_rate_at"]

_NO_WARMUP_TIMESCALE = 10_000
"""Steps after which an inverse-square-root decay without a warm-up has fallen to 1/√2, as in transformers."""


def build_optimizer(parameters: Iterable[tuple[str, nn.Parameter]], config: LoopConfig) -> torch.optim.AdamW:
    """Make AdamW (arXiv 1711.05101) with weight decay on matrices only, not on norms, biases and single numbers."""
    named = [(name, parameter) for name, parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [p for _, p in named if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for _, p in named if p.ndim < 2], "weight_decay": 0.0},
    ]
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, eps=config.eps, fused=True)


def learning_rate_at(step: int, config: LoopConfig) -> float:
    """Return the rate of optimiser step `step`, counted from 0: linear warm-up, then the schedule.

    With s steps done since the warm-up, of S: "cosine" (1 + cos(πs/S)) / 2, "linear" 1 - s/S, "inverse_sqrt"
    √(w / (w + s)) for w warm-up steps, "constant" 1; each times `learning_rate`.

    Raises:
        ConfigError: the schedule is unknown.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    since = step - config.warmup_steps
    done = min(1.0, since / max(1, config.max_steps - config.warmup_steps))
    if config.schedule == "cosine":
        factor = (1 + math.cos(math.pi * done)) / 2
    elif config.schedule == "linear":
        factor = 1 - done
    elif config.schedule == "inverse_sqrt":
        timescale = config.warmup_steps or _NO_WARMUP_TIMESCALE
        factor = math.sqrt(timescale / (timescale + since))
    elif config.schedule == "constant":
        factor = 1.0
    else:
        raise ConfigError(f"loop.schedule: {config.schedule!r} is unknown")
    return config.learning_rate * factor


def clip_gradients(parameters: Sequence[nn.Parameter], max_norm: float) -> float:
    """Scale all gradients down together so that their norm is at most `max_norm`.

    Args:
        parameters: those with a gradient count.
        max_norm: 0 leaves the gradients as they are.

    Returns:
        The L2 norm over all parameters before scaling.
    """
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if max_norm > 0:
        nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return float(norm)
