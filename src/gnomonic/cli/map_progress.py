"""Progress of a map build: a bar a stage with rate and time left on a terminal, a line a stage elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from gnomonic.cli.progress import duration

if TYPE_CHECKING:
    from gnomonic.atlas.progress import Progress as Report

__all__ = ["MapProgress"]


class MapProgress:
    """Draws the reports of a build on stderr; its call is the build's `on_progress`."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._stage = ""
        self._began = time.monotonic()
        self._last: Report | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            columns = (TextColumn("{task.description:<12}"), BarColumn(), TextColumn("{task.fields[now]}"))
            self._bar = Progress(*columns, TimeRemainingColumn(), console=self.console, transient=True)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        if kind is None:
            self._end()
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, report: Report) -> None:
        """Show one report."""
        if report.stage != self._stage:
            self._end()
            self._stage = report.stage
            self._began = time.monotonic()
            if self._bar is not None:
                self._task = self._bar.add_task(report.stage, total=report.total, now="")
        self._last = report
        if self._bar is not None:
            seconds = max(time.monotonic() - self._began, 1e-3)
            now = f"{report.done:,.0f} of {report.total:,.0f} {report.unit}, {report.done / seconds:,.0f}/s"
            self._bar.update(self._task, completed=report.done, total=report.total, now=now)

    def _end(self) -> None:
        """Leave a line of the stage that is over."""
        if self._last is None:
            return
        if self._bar is not None:
            self._bar.remove_task(self._task)
        seconds = time.monotonic() - self._began
        text = f"  {self._last.stage:<12} {self._last.total:>10,.0f} {self._last.unit:<8} {duration(seconds)}"
        self.console.print(text, markup=False)
        self._last = None
