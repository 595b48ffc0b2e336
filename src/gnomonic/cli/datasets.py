"""`gnomonic datasets`: what is on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="List, look at, delete and export datasets and their maps.")

_DataDir = Annotated[Path | None, typer.Option(help="Data folder; else GNOMONIC_DATA.")]
_Name = Annotated[str, typer.Argument(help="Name of the dataset.")]


@app.command("list")
def list_datasets(*, data_dir: _DataDir = None) -> None:
    """List the datasets with their rows and maps."""
    from rich.console import Console
    from rich.table import Table

    from gnomonic.client.datasets import LocalDataset

    table = Table("dataset", "rows", "maps", "made", "description", box=None)
    for home in LocalDataset.all(data_dir):
        one = LocalDataset(f"{home.record.organization}/{home.record.slug}", root=data_dir, create=False)
        table.add_row(
            one.identifier,
            f"{one.total_datums:,}",
            str(len(one.maps)),
            f"{one.created_timestamp:%Y-%m-%d}",
            one.description,
        )
    Console(highlight=False, markup=False).print(
        table if table.row_count else "no datasets yet; make one with gnomonic map"
    )


@app.command()
def info(name: _Name, *, data_dir: _DataDir = None) -> None:
    """Show a dataset's columns, and its maps with their settings and quality."""
    from rich.console import Console

    from gnomonic.client.datasets import LocalDataset

    one = LocalDataset(name, root=data_dir, create=False)
    console = Console(highlight=False, markup=False)
    console.print(f"{one.identifier}: {one.total_datums:,} rows, made {one.created_timestamp:%Y-%m-%d %H:%M}")
    console.print(f"folder: {one.home.folder}", soft_wrap=True)
    console.print("columns: " + ", ".join(f"{field.name} ({field.type})" for field in one.schema))
    for made in one.maps:
        record = made.record
        console.print(
            f"\nmap {made.name!r}, {record.rows:,} rows × {record.dim}, made {record.created[:16]}, id {made.id}"
        )
        console.print(f"  of: {record.indexed_field or 'given vectors'}, model: {record.model or 'none'}")
        if record.grown_rows:
            console.print(f"  {record.grown_rows:,} rows were placed by their neighbours since it was built")
        for key, value in made.quality.items():
            console.print(
                f"  {key.replace('_', ' ')}: {value:.4g}" if isinstance(value, float) else f"  {key}: {value}"
            )


@app.command()
def delete(
    name: _Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    data_dir: _DataDir = None,
) -> None:
    """Delete a dataset with all its maps."""
    from gnomonic.client.datasets import LocalDataset

    one = LocalDataset(name, root=data_dir, create=False)
    if not yes:
        typer.confirm(f"delete {one.identifier} with {one.total_datums:,} rows and {len(one.maps)} maps?", abort=True)
    one.delete()
    typer.echo(f"deleted {one.identifier}")


@app.command()
def export(
    name: _Name,
    output: Annotated[Path, typer.Option("--output", "-o", help="A .parquet file.")],
    *,
    data_dir: _DataDir = None,
) -> None:
    """Write rows, and positions, topics and duplicates of the current map, to a parquet file."""
    from gnomonic.client.datasets import LocalDataset

    one = LocalDataset(name, root=data_dir, create=False)
    written = one.get_map().to_parquet(output) if one.maps else one.to_parquet(output)
    typer.echo(f"wrote {written}")
