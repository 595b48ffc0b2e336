"""Progress of a long run: a bar with rate and time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from gnomonic.cli.embed_file import Job, Summary
from gnomonic.cli.source import Source

__all__ = ["EmbedProgress", "describe", "duration"]

_LINE_EVERY_S = 10.0


def duration(seconds: float) -> str:
    """Return a time in at most two units: 0.8 s, 12 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class EmbedProgress:
    """Draws how far `embed_file` is, on stderr; the bar counts characters, as time goes with length."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._source: Source | None = None
        self._rows = self._chars = 0
        self._own_rows = self._own_chars = self._own_tokens = 0
        self._begun = self._shown = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the model was ready and embedding began."""
        return time.monotonic() - self._begun

    @property
    def rows(self) -> int:
        """Rows that are finished, those of an earlier run included."""
        return self._rows

    def start(self, source: Source) -> None:
        """Take note of the size of the work."""
        self._source = source
        text = f"{source.path.name}: {source.rows:,} rows, embedding column {source.field!r}"
        self.console.print(text, soft_wrap=True, markup=False)

    def begin(self) -> None:
        """The model is ready: rates count from here."""
        self._begun = self._shown = time.monotonic()
        if self.console.is_terminal and self._source is not None:
            percent, now = TextColumn("{task.percentage:>3.0f} %"), TextColumn("{task.fields[now]}")
            self._bar = Progress(
                TextColumn("embedding"), BarColumn(), percent, now, console=self.console, transient=True
            )
            self._task = self._bar.add_task("", total=max(self._source.chars, 1), now="")
            self._bar.start()

    def within(self, chars: float) -> None:
        """About so many characters of the current chunk are embedded."""
        if self._bar is not None:
            self._bar.update(self._task, completed=self._chars + chars)

    def advance(self, rows: int, chars: int, tokens: int, *, resumed: bool) -> None:
        """A chunk is finished."""
        self._rows += rows
        self._chars += chars
        if not resumed:
            self._own_rows += rows
            self._own_chars += chars
            self._own_tokens += tokens
        if self._bar is not None:
            self._bar.update(self._task, completed=self._chars, now=self._describe())
        elif time.monotonic() - self._shown >= _LINE_EVERY_S:
            self._shown = time.monotonic()
            total = self._source.rows if self._source else 0
            self.console.print(f"{self._rows:,} of {total:,} rows · {self._describe()}", soft_wrap=True)

    def _describe(self) -> str:
        seconds = max(self.elapsed_s, 1e-6)
        if not self._own_chars or self._source is None:
            return ""
        left = (self._source.chars - self._chars) * seconds / self._own_chars
        texts, tokens = self._own_rows / seconds, self._own_tokens / seconds
        return f"{texts:,.0f} texts/s · {tokens:,.0f} tokens/s · {duration(left)} left"


def describe(job: Job, summary: Summary, seconds: float) -> Iterator[str]:
    """Yield the lines that tell what a finished run did, in `seconds` of embedding."""
    if summary.was_complete:
        yield f"{job.output} is complete; nothing to resume"
        return
    own = summary.rows - summary.resumed_rows
    yield f"{job.output}: {summary.rows:,} rows, {summary.dim} dimensions, {summary.tokens:,} tokens"
    yield f"{own:,} rows embedded in {duration(seconds)}, {own / max(seconds, 1e-6):,.0f} rows/s"
    if summary.resumed_rows:
        yield f"{summary.resumed_rows:,} rows taken over from the interrupted run"
    if summary.truncated:
        yield f"{summary.truncated:,} texts were too long and were cut; --long-text-mode mean uses all of them"
    if summary.failed:
        empty = "NaN" if job.output.suffix == ".npy" else "null"
        yield f"{summary.failed:,} rows failed ({empty} in the output); reasons in {job.output}.failed.jsonl"
