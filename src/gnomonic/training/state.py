"""A run's checkpoint: weights, optimiser state and position in one file that appears whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gnomonic.errors import CheckpointError

__all__ = ["STATE_FILE", "Position", "load_state", "save_state"]

STATE_FILE = "state.safetensors"
"""The checkpoint's name in a run's folder; weights are behind `model.`."""

# Settings that change what is shown and how fast it goes, not what is learnt.
_FREE = {"loop.log_every", "loop.checkpoint_every", "loop.workers", "loop.tensorboard"}
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")

Named = Sequence[tuple[str, nn.Parameter]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """How far a run has come."""

    step: int = 0
    """Optimiser steps done, so also the next step's number."""
    elapsed_s: float = 0.0
    """Wall time of training so far, over all sittings."""


def save_state(
    out: Path, position: Position, parameters: Named, optimizer: torch.optim.Optimizer, settings: Mapping[str, Any]
) -> None:
    """Replace the checkpoint of a run. Whatever goes wrong, and whenever the process ends, the old or the new is there.

    Args:
        out: the run's folder.
        position: how far it has come.
        parameters: what is trained, named.
        optimizer: AdamW over those parameters.
        settings: nested, JSON-like; a run goes on only under the same.

    Raises:
        CheckpointError: the file cannot be written; the old one is untouched.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    for name, parameter in parameters:
        tensors[f"model.{name}"] = parameter.detach().contiguous()
        for key in _MOMENTS:
            # A parameter that no loss has reached yet has no moments.
            if key in optimizer.state.get(parameter, {}):
                tensors[f"{key}.{name}"] = optimizer.state[parameter][key].contiguous()
    meta = {"step": str(position.step), "elapsed_s": str(position.elapsed_s), "settings": json.dumps(settings)}
    target = out / STATE_FILE
    partial = out / f"{STATE_FILE}.{os.getpid()}.partial"
    try:
        save_file(tensors, partial, metadata=meta)
        _flush(partial)
        partial.replace(target)
        for left in out.glob(f"{STATE_FILE}.*.partial"):
            left.unlink(missing_ok=True)  # of a process that was killed while it wrote
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise CheckpointError(
            f"checkpoint {target} of step {position.step} cannot be written: {error}; "
            + ("the one before it is intact" if target.is_file() else "there is none yet"),
            hint="make room, then run the same command again: it goes on from the last checkpoint",
        ) from error


def _flush(path: Path) -> None:
    """Have the file on the disk itself before its name replaces the old one's."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def load_state(out: Path, parameters: Named, optimizer: torch.optim.Optimizer, settings: Mapping[str, Any]) -> Position:
    """Put weights and optimiser state back as the checkpoint in `out` holds them.

    Args:
        out: the run's folder; without a checkpoint nothing is changed.
        parameters: what is trained, named.
        optimizer: AdamW over those parameters, as built.
        settings: those of this run.

    Returns:
        Where the run goes on; step 0 without a checkpoint.

    Raises:
        CheckpointError: the file is damaged, or of other settings or another model.
    """
    path = out / STATE_FILE
    if not path.is_file():
        return Position()
    meta, tensors = _read(path)
    try:
        position = Position(step=int(meta["step"]), elapsed_s=float(meta["elapsed_s"]))
        saved = json.loads(meta["settings"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is not a checkpoint of this version; use another output folder") from error
    _check_settings(path, saved, json.loads(json.dumps(settings)))
    _check_names(path, tensors, parameters)
    with torch.no_grad():
        for name, parameter in parameters:
            parameter.copy_(tensors[f"model.{name}"])
            if f"step.{name}" in tensors:
                # All three lie where the parameter does: the fused AdamW reads its step count there.
                optimizer.state[parameter] = {key: tensors[f"{key}.{name}"].to(parameter.device) for key in _MOMENTS}
    return position


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error}; delete it to start over") from error


def _leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _check_settings(path: Path, saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    # A setting that only one side knows came or went with a version of the program.
    old, new = dict(_leaves(saved)), dict(_leaves(current))
    differ = sorted(key for key in old.keys() & new.keys() if old[key] != new[key] and key not in _FREE)
    if differ:
        told = "; ".join(f"{key} was {old[key]!r}, is {new[key]!r}" for key in differ)
        raise CheckpointError(
            f"checkpoint {path} was made with other settings: {told}",
            hint="use another output folder, or the settings of before",
        )


def _check_names(path: Path, tensors: Mapping[str, Tensor], parameters: Named) -> None:
    held = {name.removeprefix("model."): tuple(t.shape) for name, t in tensors.items() if name.startswith("model.")}
    wanted = {name: tuple(parameter.shape) for name, parameter in parameters}
    differ = sorted(name for name in held.keys() | wanted.keys() if held.get(name) != wanted.get(name))
    if differ:
        name = differ[0]
        raise CheckpointError(
            f"checkpoint {path} holds another model: {len(differ)} tensors differ, such as {name} "
            f"({held.get(name, 'absent')} in the file, {wanted.get(name, 'absent')} in the model)",
            hint="use another output folder",
        )
