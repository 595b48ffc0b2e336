"""`gnomonic map`: from a file to a searchable, labelled, deduplicated map."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["map"]


def map(
    input: Annotated[Path, typer.Argument(help="A .parquet, .csv, .jsonl, .feather, .txt, or a folder of texts.")],
    *,
    field: Annotated[str | None, typer.Option(help="Text column to map; else the likely one.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the dataset; else the file's.")] = None,
    id_field: Annotated[str | None, typer.Option(help="Column of unique ids; else they are made.")] = None,
    vectors: Annotated[Path | None, typer.Option(help="A .npy file of the rows' vectors, instead of a field.")] = None,
    model: Annotated[str | None, typer.Option(help="Model name or folder; else the bundled one.")] = None,
    neighbors: Annotated[int, typer.Option(min=2, max=256, help="Neighbours that pull at a point.")] = 15,
    min_dist: Annotated[float, typer.Option(min=0, help="How close points may come.")] = 0.1,
    epochs: Annotated[int | None, typer.Option(min=1, help="Rounds of the layout; else by size.")] = None,
    topics: Annotated[bool, typer.Option(help="Find and name regions.")] = True,
    topic_field: Annotated[str | None, typer.Option(help="Column whose words name topics.")] = None,
    duplicates: Annotated[bool, typer.Option(help="Find duplicates.")] = True,
    duplicate_cutoff: Annotated[float, typer.Option(min=0, max=2, help="How near a duplicate is.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Of every random choice.")] = 0,
    replace: Annotated[bool, typer.Option("--replace", help="Delete a dataset of this name first.")] = False,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Serve the map's page when it is made.")] = False,
    data_dir: Annotated[Path | None, typer.Option(help="Data folder; else GNOMONIC_DATA.")] = None,
) -> None:
    """Embed a column, lay it out as a map, find topics and duplicates. Killed at any moment, the same call goes on.

    It stays on disk: gnomonic view shows it, gnomonic search finds rows in it, gnomonic.AtlasDataset(name) reads it.
    """
    from gnomonic.cli.map_input import check_rows, choose_field, read_table, read_vectors
    from gnomonic.cli.map_progress import MapProgress
    from gnomonic.cli.mapping import load_rows, show_estimate, show_map
    from gnomonic.cli.viewing import check_server, show
    from gnomonic.client.datasets import LocalDataset
    from gnomonic.errors import DatasetNotFoundError

    if open_:
        check_server("gnomonic map --open")
    table = read_table(input)
    given = None if vectors is None else read_vectors(vectors)
    column = None if given is not None and field is None else choose_field(table, field)
    check_rows(table, given, id_field, input)
    # "." and ".." have no name of their own.
    name = name or input.resolve().name.lstrip(".").split(".")[0]
    if replace:
        with contextlib.suppress(DatasetNotFoundError):
            LocalDataset(name, root=data_dir, create=False).delete()
    dataset = LocalDataset(name, f"made from {input.name}", id_field, root=data_dir)
    began = time.perf_counter()
    with MapProgress() as progress:
        load_rows(dataset, table, given, input, progress)
        show_estimate(progress, table, given, column, model)
        made = dataset.create_index(
            indexed_field=column,
            projection={"n_neighbors": neighbors, "min_dist": min_dist, "n_epochs": epochs},
            neighbors={"k": neighbors},
            topic_model={"topic_label_field": topic_field} if topics else False,
            duplicate_detection={"duplicate_cutoff": duplicate_cutoff} if duplicates else False,
            embedding_model=model,
            seed=seed,
            on_progress=progress,
        )
    show_map(made, time.perf_counter() - began, to_open=not open_)
    if open_:
        show(dataset.slug, data_dir=data_dir)
