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
    from gnomonic.cli.dataset_facts import show_facts
    from gnomonic.client.datasets import LocalDataset

    show_facts(LocalDataset(name, root=data_dir, create=False))


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
    *,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A .parquet file.")] = None,
    site: Annotated[Path | None, typer.Option(help="A folder that shows the map from any file host.")] = None,
    column: Annotated[list[str] | None, typer.Option(help="A column of --site; may be repeated; else all.")] = None,
    images: Annotated[bool, typer.Option(help="Write the rows' images into --site.")] = True,
    data_dir: _DataDir = None,
) -> None:
    """Write rows and the current map: to a parquet file, or as a folder of web pages that needs no server.

    The file has the rows with their positions, topics and duplicates. The folder has the map's page and all that it
    shows; whoever can read the folder can read the rows.
    """
    from gnomonic.client.datasets import LocalDataset
    from gnomonic.errors import InputError

    if (output is None) == (site is None):
        raise InputError("give either --output FILE.parquet or --site FOLDER")
    one = LocalDataset(name, root=data_dir, create=False)
    if output is not None:
        written = one.get_map().to_parquet(output) if one.maps else one.to_parquet(output)
        typer.echo(f"wrote {written}")
        return
    from gnomonic.cli.site import write_site

    assert site is not None
    write_site(one, site, columns=column, images=images)
