"""Options that the commands of `gnomonic curate` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Cache",
    "Device",
    "Dim",
    "DocumentTask",
    "Files",
    "MaxTokens",
    "ModelName",
    "Output",
    "Overwrite",
    "Precision",
    "QueryTask",
    "ReportOnly",
    "Seed",
    "Threads",
]

_TASKS = "search_query, search_document, classification or clustering."
_CACHE = "Keep the vectors here, for runs with other settings; else they lie in OUTPUT.partial until the end."

Files = Annotated[
    list[Path],
    typer.Argument(help="Pairs with `query` and `document`: .parquet, .jsonl, .csv or .tsv, also .gz, .zst."),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="A .parquet file; reports are written beside it.")]
ModelName = Annotated[str, typer.Option(help="Model that judges: a name or folder. A better one judges better.")]
QueryTask = Annotated[str, typer.Option(help=f"Prefix of queries: {_TASKS}")]
DocumentTask = Annotated[str, typer.Option(help=f"Prefix of documents: {_TASKS}")]
Dim = Annotated[int | None, typer.Option(help="Size of the vectors; else the full width. Less disk, faster search.")]
MaxTokens = Annotated[int, typer.Option(min=1, help="Longer texts are cut, within the model's limit.")]
Precision = Annotated[str, typer.Option(help="auto, fp32, int8, bf16 or fp16.")]
Device = Annotated[str | None, typer.Option(help="cpu, torch-cpu, cuda or mps; else cpu. The search runs there too.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; else the CPU quota.")]
Cache = Annotated[Path | None, typer.Option(help=_CACHE)]
Seed = Annotated[int, typer.Option(help="Of every random choice; the same seed gives the same file.")]
ReportOnly = Annotated[bool, typer.Option("--report-only", help="Write the reports and no pairs.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that is there.")]
