"""`gnomonic search`: find rows of a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["search"]

_SHOWN = 100


def search(
    dataset: Annotated[str, typer.Argument(help="Name of the dataset.")],
    query: Annotated[str | None, typer.Argument(help="What to look for.")] = None,
    *,
    id: Annotated[str | None, typer.Option(help="Find what is like the row with this id, instead of a query.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many rows.")] = 10,
    mode: Annotated[str, typer.Option(help="semantic (by meaning), words (BM25) or hybrid.")] = "semantic",
    where: Annotated[str | None, typer.Option(help='Condition over columns, such as "year > 2000".')] = None,
    topic: Annotated[list[str] | None, typer.Option(help="Only rows of this topic; may be repeated.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only rows with this tag; may be repeated.")] = None,
    columns: Annotated[str | None, typer.Option(help="Columns to show, comma-separated; else all.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
    data_dir: Annotated[Path | None, typer.Option(help="Data folder; else GNOMONIC_DATA.")] = None,
) -> None:
    """Find rows by meaning, by words, or by likeness to a row."""
    from rich.console import Console

    from gnomonic.client.datasets import LocalDataset

    opened = LocalDataset(dataset, root=data_dir, create=False)
    found = opened.get_map().search(
        query,
        id=_id(opened, id),
        k=k,
        mode=mode,
        where=where,
        topics=topic or None,
        tags=tag or None,
        columns=columns.split(",") if columns else None,
    )
    console = Console(highlight=False, markup=False)
    if json:
        import json as encoder

        for row in found.to_pylist():
            console.print(encoder.dumps(row, ensure_ascii=False, default=str), soft_wrap=True)
        return
    for row in found.to_pylist():
        # Scores come last; they are called otherwise where the user has a column of that name.
        score = row.pop(found.column_names[-1])
        values = " · ".join(_short(value) for value in row.values() if value is not None)
        console.print(f"{score:7.3f}  {values}", soft_wrap=True)
    if not found.num_rows:
        console.print("nothing found")


def _id(dataset: Any, given: str | None) -> Any:
    """Return an id as its column holds it."""
    kind = str(dataset.schema.field(dataset.unique_id_field).type)
    if given is None or "int" not in kind:
        return given
    if not given.lstrip("-").isdigit():
        from gnomonic.errors import InputError

        raise InputError(f"--id {given!r} is no whole number, and the ids of {dataset.identifier} are")
    return int(given)


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
