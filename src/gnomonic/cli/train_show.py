"""How training looks: progress while it runs, and the report of a dry run."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from gnomonic.cli.progress import duration

if TYPE_CHECKING:
    from gnomonic.training.loop import Metrics
    from gnomonic.training.plan import Survey, TrainingPlan

__all__ = ["TrainProgress", "show_plan"]


class TrainProgress:
    """Draws how far a run is, on stderr: a bar on a terminal, a line per metrics line elsewhere."""

    def __init__(self, steps: int, *, console: Console | None = None, quiet: bool = False) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._steps = steps
        self._quiet = quiet
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> Self:
        if self.console.is_terminal and not self._quiet:
            share, now = TextColumn("{task.percentage:>3.0f} %"), TextColumn("{task.fields[now]}")
            self._bar = Progress(TextColumn("training"), BarColumn(), share, now, console=self.console)
            self._task = self._bar.add_task("", total=max(self._steps, 1), now="first steps")
            self._bar.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, metrics: Metrics) -> None:
        """Show a line of metrics."""
        left = (self._steps - metrics.step) * metrics.elapsed_s / max(metrics.step, 1)
        now = f"loss {metrics.loss:.4f} · {metrics.tokens_per_s:,.0f} tokens/s · {duration(left)} left"
        if self._bar is not None:
            self._bar.update(self._task, completed=metrics.step, now=f"step {metrics.step}/{self._steps} · {now}")
        elif not self._quiet:
            self.console.print(f"step {metrics.step}/{self._steps} · {now}", soft_wrap=True, markup=False)


def show_plan(plan: TrainingPlan) -> Iterator[str]:
    """Yield the lines of a dry run's report."""
    shape, cost = f"{plan.layers} layers × {plan.hidden_size}", plan.cost
    yield f"model     {plan.parameters / 1e6:,.1f} M parameters, {shape}, on {plan.processes} × {plan.device}"
    if plan.survey is not None:
        yield from _show_survey(plan.survey)
    tokens = cost.tokens * plan.processes
    yield f"a step    {tokens:,} tokens in {duration(cost.seconds)}: {tokens / cost.seconds:,.0f} tokens/s"
    yield f"memory    {cost.peak_bytes / 1e9:.1f} GB a process at the most"
    yield f"in all    {plan.steps:,} steps, about {duration(plan.seconds)}"
    yield "a dry run: nothing was written to the output folder"


def _show_survey(survey: Survey) -> Iterator[str]:
    count, rows = len(survey.sources), sum(source.rows for source in survey.sources)
    sources = "1 source" if count == 1 else f"{count:,} sources"
    yield f"data      {rows:,} rows in {sources}; {survey.batch_size:,} rows a step"
    width = max((len(source.name) for source in survey.sources), default=0)
    for source in survey.sources:
        yield f"  {source.name:<{width}}  {source.rows:>11,} rows, each seen {source.seen:.3g} ×"
    if survey.skipped:
        yield f"  left out, since they have fewer rows than a step: {', '.join(survey.skipped)}"
    for side in survey.lengths:
        yield (
            f"{side.name:<9} median {side.median:,} tokens, 95 % have up to {side.p95:,}; "
            f"{side.truncated:.1%} are longer than {side.limit:,} and are cut ({side.texts:,} looked at)"
        )
