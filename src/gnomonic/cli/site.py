"""The folder of web pages that `gnomonic datasets export --site` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

__all__ = ["write_site"]


def write_site(dataset: Any, folder: Path, *, columns: list[str] | None, images: bool) -> None:
    """Write a dataset's current map as web pages, with progress, and say what became of it."""
    from gnomonic.cli.map_progress import MapProgress

    with MapProgress() as progress:
        written = dataset.get_map().export(folder, columns=columns, images=images, on_progress=progress)
    size = sum(path.stat().st_size for path in written.rglob("*") if path.is_file())
    typer.echo(f"wrote {written} ({size / 1e6:.1f} MB)")
    typer.echo(f"copy it to a file host, or look at it here: python -m http.server --directory {written}")
