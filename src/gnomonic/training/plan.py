"""What a run will do and cost, known before it starts: its sources, the lengths of its texts, the price of a step."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from gnomonic.training.distributed import ALONE, World, sum_gradients
from gnomonic.training.loop import Stage

if TYPE_CHECKING:
    from gnomonic.training.config import LoopConfig
    from gnomonic.training.encoders import TrainedEncoder

__all__ = [
    "Lengths",
    "PlannedStage",
    "SourceUse",
    "StepCost",
    "Survey",
    "Surveyed",
    "TrainingPlan",
    "measure_step",
    "plan",
]

_MOMENTS = 8
"""Bytes that AdamW keeps per parameter: two float32."""
_LONG_S = 20.0
"""A step that takes longer is measured once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceUse:
    """One source in the run."""

    name: str
    rows: int
    """Rows, or windows of tokens, that it has."""
    seen: float
    """How many times the run shows each of them, on average."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lengths:
    """How long the texts of one kind are, in tokens with prefix and special tokens, after cutting."""

    name: str
    """Such as "query"."""
    texts: int
    """In the sample."""
    median: int
    p95: int
    limit: int
    truncated: float
    """Share of the texts that are longer than the limit, and are cut."""

    @classmethod
    def of(cls, name: str, sequences: Sequence[NDArray[np.int32]], cut: NDArray[np.bool_], limit: int) -> Self:
        """Describe a sample of tokenised texts, at least one."""
        median, p95 = np.percentile([len(ids) for ids in sequences], [50, 95])
        return cls(
            name=name,
            texts=len(sequences),
            median=round(float(median)),
            p95=round(float(p95)),
            limit=limit,
            truncated=float(cut.mean()),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What a stage knows of its data without training."""

    batch_size: int
    """Rows of a step over all processes."""
    sources: list[SourceUse]
    skipped: list[str]
    """Sources too small for the batch size."""
    lengths: list[Lengths]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepCost:
    """One step, measured."""

    seconds: float
    tokens: int
    """Of this process."""
    peak_bytes: int
    """Of GPU memory, else of the process, with what the optimiser will take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingPlan:
    """Everything that a dry run reports."""

    parameters: int
    layers: int
    hidden_size: int
    device: str
    processes: int
    steps: int
    survey: Survey | None
    """None for a stage that cannot describe its data."""
    cost: StepCost

    @property
    def seconds(self) -> float:
        """What the whole run will take, at the measured rate."""
        return self.steps * self.cost.seconds


class PlannedStage(Stage, Protocol):
    """A stage that can be planned."""

    loop: LoopConfig
    """With the number of steps settled."""
    encoder: TrainedEncoder


@runtime_checkable
class Surveyed(Protocol):
    """A stage that can describe its data."""

    def survey(self) -> Survey:
        """Look at the data, reading no more than a few batches."""
        ...


def plan(stage: PlannedStage, world: World = ALONE) -> TrainingPlan:
    """Survey the data and measure a step; nothing is written and no weight changes.

    Args:
        stage: ready to train.
        world: every process of a run must call this.
    """
    parameters = [parameter for _, parameter in stage.parameters()]
    shape = stage.encoder.model.config
    return TrainingPlan(
        parameters=sum(parameter.numel() for parameter in parameters),
        layers=shape.num_layers,
        hidden_size=shape.hidden_size,
        device=str(parameters[0].device),
        processes=world.size,
        steps=stage.loop.max_steps,
        survey=stage.survey() if isinstance(stage, Surveyed) else None,
        cost=measure_step(stage, stage.loop, world),
    )


def measure_step(stage: Stage, config: LoopConfig, world: World = ALONE) -> StepCost:
    """Measure a forward and backward pass of the run's first batches, as the loop would run them.

    The first step, which fills caches, is repeated unless it took long by itself.

    Args:
        stage: its gradients are cleared afterwards, its weights stay.
        config: the loop's settings.
        world: every process of a run must call this.
    """
    parameters = [parameter for _, parameter in stage.parameters()]
    device = parameters[0].device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    batch = stage.batch(0)
    seconds = _timed(stage, batch, config, world)
    if seconds < _LONG_S or world.size > 1:
        batch = stage.batch(min(1, config.max_steps - 1))
        seconds = _timed(stage, batch, config, world)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _peak_of_process()
    return StepCost(
        seconds=seconds,
        tokens=stage.tokens(batch),
        peak_bytes=peak + _MOMENTS * sum(parameter.numel() for parameter in parameters),
    )


def _timed(stage: Stage, batch: Any, config: LoopConfig, world: World) -> float:
    parameters = [parameter for _, parameter in stage.parameters()]
    device = parameters[0].device
    started = time.perf_counter()
    with torch.autocast(device.type, dtype=torch.bfloat16) if config.autocast == "bf16" else nullcontext():
        stage.backward(batch)
    sum_gradients(parameters, world)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - started
    for parameter in parameters:
        parameter.grad = None
    return seconds


def _peak_of_process() -> int:
    """Return the most memory this process ever held, in bytes; 0 where the system does not say."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
