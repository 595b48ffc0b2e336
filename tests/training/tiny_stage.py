"""A stage small enough to follow by hand: a two-layer network with dropout that learns numbers drawn from the step."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gnomonic.training.config import LoopConfig
from gnomonic.training.loop import Metrics

__all__ = ["Bad", "TinyStage", "ignore", "loop_config"]

ROWS, WIDTH = 12, 6

Bad = dict[int, float]
"""Step → what its loss is multiplied by."""


def loop_config(**changes: object) -> LoopConfig:
    """Settings of a ten-step run that writes often."""
    usual = {"max_steps": 10, "learning_rate": 0.01, "warmup_steps": 2, "autocast": "fp32", "log_every": 2}
    return LoopConfig(**{**usual, "checkpoint_every": 3, **changes})  # type: ignore[arg-type]


def ignore(metrics: Metrics) -> None:
    """Take a line and do nothing."""


class TinyStage:
    """Rows of a step, in micro-batches whose gradients add up."""

    def __init__(self, *, micro_batches: int = 1, dropout: float = 0.0, bad: Bad | None = None) -> None:
        torch.manual_seed(1)
        self.model = nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 2))
        self.micro_batches = micro_batches
        self.bad = bad or {}
        self.dtypes: list[torch.dtype] = []

    def parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        return self.model.named_parameters()

    def batch(self, step: int) -> tuple[int, Tensor, Tensor]:
        x = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(step))
        return step, x, x[:, :2] * 5

    def backward(self, batch: tuple[int, Tensor, Tensor]) -> float:
        step, x, y = batch
        share = 0.0
        for rows, wanted in zip(x.chunk(self.micro_batches), y.chunk(self.micro_batches), strict=True):
            found = self.model(rows)
            self.dtypes.append(found.dtype)
            loss = (found.float() - wanted).square().sum() / len(x) * self.bad.get(step, 1.0)
            loss.backward()
            share += float(loss.detach())
        return share

    def tokens(self, batch: tuple[int, Tensor, Tensor]) -> int:
        return len(batch[1])

    def describe(self, batch: tuple[int, Tensor, Tensor]) -> str:
        return f"rows of step index {batch[0]}"
