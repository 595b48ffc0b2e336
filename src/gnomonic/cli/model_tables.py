"""Tables and the download bar of `gnomonic models`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich import box
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import TransferSpeedColumn as SpeedColumn
from rich.table import Table

from gnomonic.catalog import ModelSpec

if TYPE_CHECKING:
    from gnomonic.checkpoints.model_cache import FileCheck
    from gnomonic.inference.probes import ProbeResult

__all__ = ["DownloadProgress", "describe", "files_table", "info_table", "list_table", "probes_table", "show"]


def show(table: Table) -> None:
    """Print a table; nothing is cut where the output is not a terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200
    console.print(table)


def _table(*columns: str) -> Table:
    return Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)


def describe(spec: ModelSpec, folder: Path | None = None) -> dict[str, Any]:
    """Return what is known of a model, for a table or as JSON."""
    from gnomonic.checkpoints.model_cache import folder_of, read_lock
    from gnomonic.settings import read_settings

    settings = read_settings()
    folder = folder or (None if spec.bundled else folder_of(spec, settings))
    lock = read_lock(spec, settings) if spec.repo else None
    here = spec.bundled or (folder is not None and folder.is_dir())
    return {
        "name": spec.name,
        "kind": spec.kind,
        "description": spec.description,
        "hidden_size": spec.hidden_size,
        "dims": list(spec.dims) or [spec.hidden_size],
        "max_tokens": spec.max_tokens,
        "layer_norm": spec.layer_norm,
        "prefixes": dict(spec.prefixes),
        "parameters": spec.parameters,
        "license": spec.license,
        "repo": spec.repo,
        "revision": spec.revision or (lock.commit if lock else ""),
        "pinned_files": len(spec.files) or (len(lock.files) if lock else 0),
        "probes": len(spec.golden),
        "state": "bundled" if spec.bundled else "here" if here else "not here",
        "folder": str(folder or ""),
    }


def list_table(models: Sequence[dict[str, Any]]) -> Table:
    """Return one row per model."""
    table = _table("name", "embeds", "sizes", "tokens", "state", "licence", "description")
    for model in models:
        sizes = " ".join(map(str, model["dims"]))
        tokens = str(model["max_tokens"]) if model["kind"] == "text" else "-"
        table.add_row(
            model["name"],
            model["kind"],
            sizes,
            tokens,
            model["state"],
            model["license"],
            model["description"],
        )
    return table


def info_table(details: dict[str, Any]) -> Table:
    """Return one row per fact; facts that are not known are left out."""
    table = _table("", "")
    table.show_header = False
    for name, value in details.items():
        if isinstance(value, dict):
            value = "\n".join(f"{key} → {text!r}" for key, text in value.items())
        elif isinstance(value, list):
            value = " ".join(map(str, value))
        elif isinstance(value, int) and not isinstance(value, bool) and value > 9999:
            value = f"{value:,}"
        if value not in ("", 0):
            table.add_row(name.replace("_", " "), str(value))
    return table


def files_table(checks: Sequence[FileCheck]) -> Table:
    """Return one row per file with what pins it and whether it is the pinned one."""
    table = _table("file", "sha256", "pinned by", "")
    for check in checks:
        verdict = "right" if check.ok and check.expected else "not pinned" if check.ok else "CHANGED"
        table.add_row(
            check.name,
            check.actual[:16] or "-",
            check.pinned_by or "-",
            verdict if check.actual else "MISSING",
        )
    return table


def probes_table(results: Sequence[ProbeResult]) -> Table:
    """Return one row per probe with its distance from the stored vector."""
    table = _table("text", "as", "values", "largest difference", "allowed", "", "source")
    for result in results:
        text = result.text if len(result.text) <= 40 else f"{result.text[:39]}…"
        table.add_row(
            text,
            result.task_type or "bare, pooled",
            str(result.values),
            f"{result.max_difference:.2e}",
            f"{result.tolerance:.0e}",
            "right" if result.ok else "WRONG",
            result.source,
        )
    return table


class DownloadProgress:
    """A bar per file on a terminal, a line per finished file elsewhere; on stderr."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), SpeedColumn())
        self._progress = Progress(*columns, TimeRemainingColumn(), console=self._console)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def update(self, file: str, done_bytes: int, total_bytes: int) -> None:
        """Take note of a file's progress."""
        if not self._console.is_terminal:
            if done_bytes == total_bytes:
                self._console.print(f"{file}: {total_bytes / 1e6:,.1f} MB", soft_wrap=True)
            return
        if file not in self._tasks:
            self._tasks[file] = self._progress.add_task(file, total=total_bytes)
        self._progress.update(self._tasks[file], completed=done_bytes)
