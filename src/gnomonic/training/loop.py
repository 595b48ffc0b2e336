"""The only training loop. It knows neither models nor losses: a stage brings parameters, batches and gradients."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from gnomonic.errors import CheckpointError, ConfigError, GnomonicError
from gnomonic.training.config import LoopConfig
from gnomonic.training.data.prefetch import Prefetch
from gnomonic.training.distributed import ALONE, World, broadcast, gather_objects, sum_gradients, sum_numbers
from gnomonic.training.metrics import Metrics, MetricsLog
from gnomonic.training.optim import build_optimizer, clip_gradients, learning_rate_at
from gnomonic.training.state import Position, load_state, save_state

__all__ = ["Metrics", "Stage", "run"]


class Stage(Protocol):
    """What the loop trains."""

    def parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Return the trained parameters with their names, always in the same order."""
        ...

    def batch(self, step: int) -> Any:
        """Return this rank's part of a step's batch.

        A pure function of (settings, step, rank), so that a resumed run sees the same data; it may be called from
        another thread, and draws nothing from the global random numbers.
        """
        ...

    def backward(self, batch: Any) -> float:
        """Add this rank's share of the gradient to the parameters, and return its share of the loss.

        Shares summed over ranks are the loss and the gradient of the whole step's batch: for a mean over n items on
        all ranks, a rank's share is the sum over its own items divided by n. Micro-batches are the stage's own affair;
        the loop clips and steps once, after this returns.
        """
        ...

    def tokens(self, batch: Any) -> int:
        """Return how many tokens the batch holds, padding left out, for the rate shown."""
        ...

    def describe(self, batch: Any) -> str:
        """Return which batch this is, in one line, for the message when its loss is not a number."""
        ...


def run(
    stage: Stage,
    config: LoopConfig,
    out: Path,
    *,
    world: World = ALONE,
    on_log: Callable[[Metrics], None],
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Train until `config.max_steps`, going on exactly from the last checkpoint in `out` if there is one.

    Args:
        stage: parameters, batches and gradients.
        config: steps, rates, precision.
        out: folder for state.safetensors and metrics.jsonl, which rank 0 writes and all ranks read.
        world: this process among those that train together; their gradients are summed.
        on_log: called on rank 0 with each metrics line.
        settings: what else, besides `config`, must be the same when a run goes on; nested, JSON-like.

    Raises:
        ConfigError: the number of steps is open, or TensorBoard is wanted and not installed.
        CheckpointError: the checkpoint in `out` does not fit the stage or the settings, or one cannot be written.
        GnomonicError: the loss or the gradient stopped being a number; the message names step and batch, and the
            last checkpoint is from before.
    """
    if config.max_steps < 1:
        raise ConfigError("loop.max_steps: 0 leaves the steps to the stage's epochs, and this stage has none; give 1+")
    out.mkdir(parents=True, exist_ok=True)
    named = [(name, parameter) for name, parameter in stage.parameters() if parameter.requires_grad]
    parameters = [parameter for _, parameter in named]
    settings = {**(settings or {}), "loop": asdict(config)}
    optimizer = build_optimizer(named, config)
    position = load_state(out, named, optimizer, settings)
    _check_agreement(out, position, world)
    broadcast((parameter.detach() for parameter in parameters), world)
    began = time.perf_counter() - position.elapsed_s
    with (
        MetricsLog(out, position, config, on_log=on_log if world.rank == 0 else None) as metrics,
        Prefetch(stage.batch, position.step, config.max_steps, config.workers) as batches,
    ):
        for step, batch in enumerate(batches, start=position.step):
            _reseed(config.seed, step, world.rank)
            optimizer.zero_grad(set_to_none=True)
            with _precision(config, parameters):
                share = stage.backward(batch)
            sum_gradients(parameters, world)
            loss, tokens = sum_numbers((share, stage.tokens(batch)), world, parameters[0].device)
            norm = clip_gradients(parameters, config.max_grad_norm)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise _diverged(step, loss, norm, gather_objects((share, stage.describe(batch)), world))
            rate = learning_rate_at(step, config)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            done = Position(step=step + 1, elapsed_s=time.perf_counter() - began)
            metrics.add(done, loss=loss, grad_norm=norm, learning_rate=rate, tokens=int(tokens))
            due = done.step % config.checkpoint_every == 0 or done.step == config.max_steps
            if due and world.rank == 0:
                save_state(out, done, named, optimizer, settings)


def _reseed(seed: int, step: int, rank: int) -> None:
    """Make torch's random numbers a function of the step, so that a resumed run draws the same without saving them."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0]) >> 1)


def _precision(config: LoopConfig, parameters: Sequence[nn.Parameter]) -> AbstractContextManager[Any]:
    if config.autocast == "fp32":
        return nullcontext()
    return torch.autocast(parameters[0].device.type, dtype=torch.bfloat16)


def _check_agreement(out: Path, position: Position, world: World) -> None:
    steps = gather_objects(position.step, world)
    if len(set(steps)) > 1:
        raise CheckpointError(
            f"{out}: the processes found checkpoints of different steps, {steps} by rank; "
            "the output folder must be one that all machines share"
        )


def _diverged(step: int, loss: float, norm: float, ranks: Sequence[tuple[float, str]]) -> GnomonicError:
    """Say what stopped the run: the batches whose own loss is not a number, or all where only the gradient is."""
    what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm} (loss {loss:.5g})"
    told = [text for share, text in ranks if not math.isfinite(share)] or [text for _, text in ranks]
    return GnomonicError(
        f"step {step + 1}: {what}; the batch is {'; '.join(told)}. Nothing of this step was kept",
        hint="look at that batch; if nothing is wrong with it, take a lower learning rate or a longer warm-up. "
        "The same command goes on from the last checkpoint",
    )
