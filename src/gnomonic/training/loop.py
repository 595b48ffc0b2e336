"""The only training loop. It knows neither models nor losses: a stage brings parameters, batches and a loss."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gnomonic.errors import CheckpointError
from gnomonic.training.config import LoopConfig
from gnomonic.training.memory import release_free_memory
from gnomonic.training.optim import build_optimizer, learning_rate_at

__all__ = ["Metrics", "Stage", "run"]


class Stage(Protocol):
    """What the loop trains."""

    def parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Return the trained parameters with their names, always in the same order."""
        ...

    def batch(self, step: int) -> Any:
        """Return the batch of a step; a pure function of the step, so that a resumed run sees the same data."""
        ...

    def loss(self, batch: Any) -> Tensor:
        """Return the batch's loss, a scalar."""
        ...

    def tokens(self, batch: Any) -> int:
        """Return how many tokens the batch holds, for the rate shown."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Metrics:
    """One line of metrics.jsonl: means over the steps since the line before."""

    step: int
    loss: float
    grad_norm: float
    learning_rate: float
    tokens_per_s: float
    elapsed_s: float


def run(stage: Stage, config: LoopConfig, out: Path, *, on_log: Callable[[Metrics], None]) -> None:
    """Train until `config.max_steps`, going on exactly from the last checkpoint in `out` if there is one.

    Args:
        stage: parameters, batches and loss.
        config: steps, rates, precision.
        out: folder for state.safetensors with state.json, and metrics.jsonl.
        on_log: called with each metrics line.

    Raises:
        CheckpointError: the checkpoint in `out` does not fit the stage or the settings.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    parameters = list(stage.parameters())
    optimizer = build_optimizer(parameters, config)
    start, elapsed = _resume(out, parameters, optimizer, config)
    began = time.perf_counter() - elapsed
    losses, norms, tokens, marked = [], [], 0, time.perf_counter()
    with (out / "metrics.jsonl").open("a", encoding="utf-8") as log:
        for step in range(start, config.max_steps):
            rate = learning_rate_at(step, config)
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch = stage.batch(step)
            bf16 = config.autocast == "bf16"
            device = parameters[0][1].device.type
            with torch.autocast(device, dtype=torch.bfloat16) if bf16 else nullcontext():
                loss = stage.loss(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_([p for _, p in parameters], config.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(float(loss.detach()))
            norms.append(float(norm))
            tokens += stage.tokens(batch)
            if (step + 1) % config.log_every == 0 or step + 1 == config.max_steps:
                now = time.perf_counter()
                metrics = Metrics(
                    step=step + 1,
                    loss=round(sum(losses) / len(losses), 5),
                    grad_norm=round(sum(norms) / len(norms), 4),
                    learning_rate=rate,
                    tokens_per_s=round(tokens / (now - marked), 1),
                    elapsed_s=round(now - began, 1),
                )
                log.write(json.dumps(asdict(metrics)) + "\n")
                log.flush()
                on_log(metrics)
                losses, norms, tokens, marked = [], [], 0, now
                release_free_memory()
            if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.max_steps:
                _save(out, step + 1, time.perf_counter() - began, parameters, optimizer, config)


def _save(
    out: Path,
    step: int,
    elapsed_s: float,
    parameters: list[tuple[str, nn.Parameter]],
    optimizer: torch.optim.AdamW,
    config: LoopConfig,
) -> None:
    """Write weights, optimiser state and position as one file that appears whole or not at all."""
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    for name, parameter in parameters:
        tensors[f"model.{name}"] = parameter.detach()
        for key in ("exp_avg", "exp_avg_sq", "step"):
            tensors[f"{key}.{name}"] = optimizer.state[parameter][key]
    meta = {"step": str(step), "elapsed_s": str(elapsed_s), "loop": json.dumps(asdict(config))}
    target = out / "state.safetensors"
    partial = target.with_suffix(f".{os.getpid()}.partial")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, metadata=meta)
    partial.replace(target)


def _resume(
    out: Path, parameters: list[tuple[str, nn.Parameter]], optimizer: torch.optim.AdamW, config: LoopConfig
) -> tuple[int, float]:
    """Load the checkpoint in `out`, if any; return the next step and the seconds spent so far."""
    from safetensors import SafetensorError, safe_open

    path = out / "state.safetensors"
    if not path.is_file():
        return 0, 0.0
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error}; delete it to start over") from error
    if json.loads(meta["loop"]) != json.loads(json.dumps(asdict(config))):
        raise CheckpointError(f"checkpoint {path} was made with other loop settings; use another output folder")
    wanted = {f"{kind}.{name}" for name, _ in parameters for kind in ("model", "exp_avg", "exp_avg_sq", "step")}
    if wanted != set(tensors):
        raise CheckpointError(f"checkpoint {path} holds another model; use another output folder")
    with torch.no_grad():
        for name, parameter in parameters:
            parameter.copy_(tensors[f"model.{name}"])
            optimizer.state[parameter] = {k: tensors[f"{k}.{name}"] for k in ("exp_avg", "exp_avg_sq", "step")}
    return int(meta["step"]), float(meta["elapsed_s"])
