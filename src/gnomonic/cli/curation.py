"""How a command of `gnomonic curate` runs: opens the pairs and the model, shows how far it is, writes the result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from gnomonic.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    import pyarrow as pa

    from gnomonic.inference.encoder import TextEncoder
    from gnomonic.training.curation.pairs import Pairs
    from gnomonic.training.curation.report import Report
    from gnomonic.training.curation.vectors import VectorStore
    from gnomonic.training.curation.workplace import Workplace
    from gnomonic.types import Embeddings, TaskType

__all__ = ["CurateProgress", "Encoding", "Target", "Work", "curate", "curate_with", "judged_files", "search_device"]

_LINE_EVERY_S = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What is read and written."""

    files: tuple[Path, ...]
    output: Path
    cache: Path | None = None
    report_only: bool = False
    overwrite: bool = False
    corpus: tuple[Path, ...] = ()

    @property
    def partial(self) -> Path:
        """Folder for unfinished work, beside the output."""
        return self.output.with_name(f"{self.output.name}.partial")

    def check(self) -> None:
        """Find what is wrong before any work is done.

        Raises:
            MissingExtraError: pyarrow or torch is not installed.
            InputError: the output cannot be written as asked for.
        """
        if find_spec("torch") is None or find_spec("pyarrow") is None:
            raise MissingExtraError("train", needed_for="curation")
        if self.output.suffix != ".parquet":
            raise InputError(f"--output {self.output}: pairs are written as Parquet; give a name that ends in .parquet")
        if self.output.exists() and not (self.overwrite or self.report_only):
            raise InputError(f"{self.output} is there already; give another name, or --overwrite")


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoding:
    """The model and how it is run; the fields are the options of the same names."""

    model: str
    dim: int | None
    max_tokens: int
    precision: str
    device: str | None
    threads: int | None


class CurateProgress:
    """Draws how far a step is, on stderr: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._what = ""
        self._shown = time.monotonic()

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            text = TextColumn("{task.description}")
            columns = (text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=self.console, transient=True)
            self._task = self._bar.add_task("", total=None)
            self._bar.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` are finished."""
        if self._bar is not None:
            if what != self._what:
                self._bar.reset(self._task, description=what, total=total)
            self._bar.update(self._task, completed=done, total=total)
        elif time.monotonic() - self._shown >= _LINE_EVERY_S:
            self._shown = time.monotonic()
            self.console.print(f"{what}: {done:,} of {total:,}", soft_wrap=True, markup=False)
        self._what = what


class _Encoder:
    """A text encoder that cuts texts at a limit of its own."""

    def __init__(self, encoder: TextEncoder, max_tokens: int) -> None:
        self._encoder, self._max_tokens = encoder, max_tokens

    def encode(
        self, texts: Sequence[str], *, task_type: TaskType | str = "search_document", dim: int | None = None
    ) -> Embeddings:
        return self._encoder.encode(texts, task_type=task_type, dim=dim, max_tokens_per_text=self._max_tokens)


class Work:
    """One run: the rows, the place of what is worked out, and the end.

    Attributes:
        pairs: the rows.
        place: keeps what is finished, and shows how far it is.
    """

    def __init__(self, target: Target, pairs: Pairs, place: Workplace) -> None:
        self.pairs = pairs
        self.place = place
        self._target = target

    @property
    def store(self) -> VectorStore:
        """The place as one of vectors; it is with `curate_with` only."""
        from gnomonic.training.curation.vectors import VectorStore

        assert isinstance(self.place, VectorStore)
        return self.place

    def finish(
        self,
        report: Report,
        keep: NDArray[np.bool_] | None = None,
        *,
        negatives: Callable[[int, int], list[list[str]]] | None = None,
    ) -> None:
        """Write the pairs and the reports, and say so; `keep` [rows] masks the rows that stay, None keeps all."""
        from gnomonic.training.curation.pairs import write_pairs
        from gnomonic.training.curation.report import write_report

        output = self._target.output
        rows = np.arange(len(self.pairs)) if keep is None else np.flatnonzero(keep)
        if not self._target.report_only:
            write_pairs(self.pairs, rows, output, negatives=negatives, on_progress=self.place.on_progress)
        written = write_report(report, output)
        for name, value in report.details.items():
            typer.echo(f"{name}: {value:,.4g}" if isinstance(value, float) else f"{name}: {value:,}")
        truncated = getattr(self.place, "truncated", 0)
        if truncated:
            typer.echo(f"{truncated:,} texts were cut to fit the model or --max-tokens")
        where = ", ".join(str(path) for path in ([] if self._target.report_only else [output]) + written)
        typer.echo(f"{report.rows_out:,} of {report.rows_in:,} rows are kept; wrote {where}")


def search_device(device: str | None) -> str:
    """Return the torch device that compares the vectors of a model on that device."""
    return device if device is not None and device.startswith(("cuda", "mps")) else "cpu"


def judged_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files, those of a folder in the order of their names.

    Raises:
        InputError: a path is absent, or a folder holds no file of lines of JSON.
    """
    found: list[Path] = []
    for path in paths:
        inside = sorted([*path.glob("*.jsonl"), *path.glob("*.jsonl.gz")]) if path.is_dir() else [path]
        if not inside or not path.exists():
            raise InputError(
                f"--against {path}: no file there; name a file, or a folder with .jsonl or .jsonl.gz files"
            )
        found += inside
    return found


@contextmanager
def curate(target: Target) -> Iterator[Work]:
    """Open the pairs, and a place for unfinished work, which is deleted at the end.

    Raises:
        ConfigError: an input is absent, or lacks a column.
        InputError: an input cannot be read, or another process works on the same output.
    """
    from gnomonic.training.curation.workplace import Workplace

    with CurateProgress() as progress:
        place = Workplace(target.partial, on_progress=progress)
        with place.locked():
            yield Work(target, _open(target, progress), place)
            place.remove()


@contextmanager
def curate_with(target: Target, encoding: Encoding) -> Iterator[Work]:
    """Open the pairs, the model and a place for its vectors, which is deleted at the end unless it was asked for.

    Raises:
        GnomonicError: as `curate`; or the model cannot be opened; or another process works on the same output.
    """
    from gnomonic.inference.load import load
    from gnomonic.training.curation.vectors import VectorStore

    if encoding.threads is not None:
        import torch

        torch.set_num_threads(encoding.threads)
    loading = {"device": encoding.device, "precision": encoding.precision}
    with CurateProgress() as progress, load(encoding.model, threads=encoding.threads, **loading) as encoder:
        folder = target.cache or target.partial
        label = f"max_tokens={encoding.max_tokens}"
        embedder = _Encoder(encoder, encoding.max_tokens)
        store = VectorStore(folder, embedder, dim=encoding.dim, label=label, on_progress=progress)
        with store.locked():
            yield Work(target, _open(target, progress), store)
            if target.cache is None:
                store.remove()


def _open(target: Target, progress: CurateProgress) -> Pairs:
    from gnomonic.training.curation.pairs import Pairs
    from gnomonic.training.data.tables import open_tables

    def tell(path: Path, rows: int) -> None:
        progress(f"reading {path.name}", rows, rows)

    table = open_tables([str(path) for path in target.files], Path(), on_progress=tell)
    corpus = _documents(target.corpus, tell) if target.corpus else None
    return Pairs(table, corpus=corpus, on_progress=progress)


def _documents(paths: Sequence[Path], tell: Callable[[Path, int], None]) -> pa.Table:
    """Return the documents, or else the texts, of files in one column `document`."""
    import pyarrow as pa

    from gnomonic.training.data.tables import open_tables

    tables = []
    for path in paths:
        table = open_tables([str(path)], Path(), need=(), on_progress=tell)
        column = next((name for name in ("document", "text") if name in table.column_names), None)
        if column is None:
            raise InputError(f"--corpus {path} has neither `document` nor `text`; it has {table.column_names}")
        tables.append(table.select([column]).rename_columns(["document"]).replace_schema_metadata(None))
    return pa.concat_tables(tables)
