"""What a run writes about itself: metrics.jsonl, and TensorBoard's files when wanted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gnomonic.errors import ConfigError
from gnomonic.training.config import LoopConfig
from gnomonic.training.memory import HeapKeeper
from gnomonic.training.state import Position

__all__ = ["Metrics", "MetricsLog"]

METRICS_FILE = "metrics.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Metrics:
    """One line of metrics.jsonl: means over the steps since the line before."""

    step: int
    """Optimiser steps done."""
    loss: float
    grad_norm: float
    """Before it is scaled down."""
    learning_rate: float
    """Of the line's last step."""
    tokens_per_s: float
    """Real tokens of all ranks."""
    elapsed_s: float
    """Wall time of training so far, over all sittings."""


class MetricsLog:
    """Averages the steps, and writes a line every `log_every` of them and at the end."""

    def __init__(
        self, out: Path, start: Position, config: LoopConfig, *, on_log: Callable[[Metrics], None] | None
    ) -> None:
        """Open the files, without the lines of steps that a stopped run did after its last checkpoint.

        Args:
            out: the run's folder.
            start: where the run goes on.
            config: how often to write, and when the run ends.
            on_log: called with each line; None writes nothing at all, as on ranks other than 0.

        Raises:
            ConfigError: TensorBoard is wanted and not installed.
        """
        self._config, self._on_log, self._marked = config, on_log, start
        self._sums, self._tokens, self._steps = [0.0, 0.0], 0, 0
        self._board: Any = None
        self._file: Any = None
        self._heap = HeapKeeper()
        if on_log is None:
            return
        if config.tensorboard:
            self._board = _open_board(out, start.step)
        _drop_after(out / METRICS_FILE, start.step)
        self._file = (out / METRICS_FILE).open("a", encoding="utf-8")

    def add(self, done: Position, *, loss: float, grad_norm: float, learning_rate: float, tokens: int) -> None:
        """Count a step; write a line if one is due.

        Args:
            done: the position after it.
            loss: of the whole step.
            grad_norm: before scaling.
            learning_rate: it was made with.
            tokens: of all ranks.
        """
        self._sums = [self._sums[0] + loss, self._sums[1] + grad_norm]
        self._tokens, self._steps = self._tokens + tokens, self._steps + 1
        if done.step % self._config.log_every and done.step != self._config.max_steps:
            return
        self._heap.check()
        if self._on_log is not None:
            seconds = max(done.elapsed_s - self._marked.elapsed_s, 1e-9)
            metrics = Metrics(
                step=done.step,
                loss=round(self._sums[0] / self._steps, 5),
                grad_norm=round(self._sums[1] / self._steps, 4),
                learning_rate=learning_rate,
                tokens_per_s=round(self._tokens / seconds, 1),
                elapsed_s=round(done.elapsed_s, 1),
            )
            self._write(metrics)
            self._on_log(metrics)
        self._sums, self._tokens, self._steps, self._marked = [0.0, 0.0], 0, 0, done

    def _write(self, metrics: Metrics) -> None:
        self._file.write(json.dumps(asdict(metrics)) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in asdict(metrics).items():
                if name != "step":
                    self._board.add_scalar(name, value, metrics.step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for sink in (self._file, self._board):
            if sink is not None:
                sink.close()


def _open_board(out: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "loop.tensorboard: the package tensorboard is not installed; run: pip install tensorboard, or leave the "
            f"setting out: {METRICS_FILE} holds the same numbers"
        ) from error
    return SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)


def _drop_after(path: Path, step: int) -> None:
    """Keep the whole lines up to a step: those after it will be written again."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue  # the process ended in the middle of this line
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text("".join(kept), encoding="utf-8")
    partial.replace(path)
