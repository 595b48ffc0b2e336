"""`gnomonic curate`: better training pairs from the pairs there are."""

from __future__ import annotations

from typing import Annotated

import typer

from gnomonic.catalog import DEFAULT_TEXT_MODEL
from gnomonic.cli.curate_dedup import dedup
from gnomonic.cli.curate_mine import mine
from gnomonic.cli.curate_options import (
    Cache,
    Device,
    Dim,
    DocumentTask,
    Files,
    MaxTokens,
    ModelName,
    Output,
    Overwrite,
    Precision,
    QueryTask,
    ReportOnly,
    Seed,
    Threads,
)

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Clean training pairs, and find hard negatives for them.")
app.command()(dedup)

_TOP_K = "A pair stays if its document is among this many best for its query."
_BLOCK = "Rows compared with each other, of one source. More is stricter and slower."


@app.command("filter")
def filter_pairs(
    files: Files,
    *,
    output: Output,
    model: ModelName = DEFAULT_TEXT_MODEL,
    top_k: Annotated[int, typer.Option(min=1, help=_TOP_K)] = 2,
    block_rows: Annotated[int, typer.Option(min=2, help=_BLOCK)] = 1_000_000,
    query_task: QueryTask = "search_query",
    document_task: DocumentTask = "search_document",
    dim: Dim = None,
    max_tokens: MaxTokens = 512,
    precision: Precision = "auto",
    device: Device = None,
    threads: Threads = None,
    cache: Cache = None,
    seed: Seed = 0,
    report_only: ReportOnly = False,
    overwrite: Overwrite = False,
) -> None:
    """Keep the pairs whose document a model finds for the query; killed, the same command goes on where it was."""
    from gnomonic.cli.curation import Encoding, Target, curate_with, search_device

    target = Target(files=tuple(files), output=output, cache=cache, report_only=report_only, overwrite=overwrite)
    target.check()
    from gnomonic.training.curation.filter import FilterConfig, consistency_ranks, filter_report

    config = FilterConfig(
        top_k=top_k,
        block_rows=block_rows,
        query_task=query_task,
        document_task=document_task,
        seed=seed,
        device=search_device(device),
    )
    encoding = Encoding(
        model=model, dim=dim, max_tokens=max_tokens, precision=precision, device=device, threads=threads
    )
    with curate_with(target, encoding) as work:
        ranks = consistency_ranks(work.pairs, work.store, config, keep_vectors=cache is not None)
        work.finish(filter_report(work.pairs, ranks, config), ranks <= top_k)


app.command()(mine)
