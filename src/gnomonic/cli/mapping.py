"""What `gnomonic map` does around the build: load the rows, guess the time, show the result."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gnomonic.atlas.atlas_map import AtlasMap
    from gnomonic.cli.map_progress import MapProgress

__all__ = ["load_rows", "show_estimate", "show_map"]

_SAMPLE = 32
"""Texts from which the time to embed them all is guessed."""
_SHOWN = ("neighbor_recall", "neighborhood_preservation", "trustworthiness", "triplet_accuracy", "noise_share")
_TOPIC_LINES = 40


def load_rows(dataset: Any, table: Any, vectors: Any, path: Path, progress: MapProgress) -> None:
    """Add the rows, unless an earlier call that was killed has."""
    from gnomonic.errors import InputError

    there = dataset.total_datums
    if there == table.num_rows and dataset.description == f"made from {path.name}" and _has_rows(dataset, table):
        progress.console.print(
            f"{dataset.identifier} has these {there:,} rows already; going on with them", markup=False
        )
        return
    if there:
        raise InputError(
            f"dataset {dataset.identifier} has {there:,} rows, others than the {table.num_rows:,} of {path.name}",
            hint="choose another --name, or delete it with --replace",
        )
    dataset.add_data(table, vectors, update_maps=False)
    progress.console.print(f"{path.name}: {table.num_rows:,} rows, {len(table.column_names)} columns", markup=False)


def _has_rows(dataset: Any, table: Any) -> bool:
    """Whether a dataset has the rows of a table, in order."""
    from gnomonic.atlas.rows import to_table

    given = to_table(table)
    if not set(given.column_names) <= set(dataset.dataset_fields):
        return False
    done = 0
    for batch in dataset.store.scan(given.column_names):
        for name, column in zip(given.column_names, batch.columns, strict=True):
            # As lists, since NaN is a value like any other here and dictionaries differ from batch to batch.
            if repr(column.to_pylist()) != repr(given[name].slice(done, batch.num_rows).to_pylist()):
                return False
        done += batch.num_rows
    return bool(done == given.num_rows)


def show_estimate(progress: MapProgress, table: Any, vectors: Any, field: str | None, model: str | None) -> None:
    """Say what is to come, from the speed at which a few of the texts are embedded."""
    from gnomonic.atlas.estimate import estimate
    from gnomonic.atlas.options import EmbedOptions
    from gnomonic.cli.progress import duration
    from gnomonic.client.datasets import LocalEncoders

    rows = table.num_rows
    if field is None:
        found = estimate(rows, vectors.shape[1])
    else:
        texts = [str(value or "") for value in table[field].take(list(range(0, rows, -(-rows // _SAMPLE)))).to_pylist()]
        encode = LocalEncoders().open("text", EmbedOptions(model=model))
        encode(texts[:1])  # the model is opened now
        began = time.perf_counter()
        dim = encode(texts).vectors.shape[1]
        found = estimate(rows, dim, embed_rate=len(texts) / (time.perf_counter() - began))
    text = f"about {duration(found.total_seconds)} and {found.peak_bytes / 1e9:.1f} GB of memory"
    if "embeddings" in found.seconds:
        text += f", {duration(found.seconds['embeddings'])} of it for embedding"
    progress.console.print(text, markup=False)


def show_map(made: AtlasMap, seconds: float, *, to_open: bool = True) -> None:
    """Print the topics, the duplicates and the quality of a map; with `to_open`, how its page is opened."""
    from rich.console import Console

    from gnomonic.cli.progress import duration

    console = Console(highlight=False, markup=False)
    console.print(f"\nmap {made.name!r} of {made.record.rows:,} rows in {duration(seconds)}")
    if made.record.options["topics"]["build_topic_model"]:
        console.print("\n".join(made.topics.tree().splitlines()[:_TOPIC_LINES]))
    if made.record.options["duplicates"]["tag_duplicates"]:
        console.print(f"\n{len(made.duplicates.deletion_candidates()):,} duplicates that could go")
    shown = {name: made.quality.get(name) for name in _SHOWN}
    quality = ", ".join(f"{k.replace('_', ' ')} {v:.2f}" for k, v in shown.items() if v is not None)
    console.print(f"quality: {quality}")
    if to_open:
        console.print(f"look at it: gnomonic view {made.dataset.slug}")
    console.print(f"search it: gnomonic search {made.dataset.slug} 'what you are looking for'")
