"""`gnomonic curate mine`: hard negatives for pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gnomonic.catalog import DEFAULT_TEXT_MODEL
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

__all__ = ["mine"]

_POOL = "Negatives are taken from this many of the best-scoring candidates."
_MARGIN = "A candidate scores below this share of the pair's own score; what is closer may be an answer too."
_ALIKE = "A document with this cosine to the pair's own is that one in other words, and no negative."
_CORPUS = "More documents, in a column `document` or `text`; several times. All sources are searched then."


def mine(
    files: Files,
    *,
    output: Output,
    model: ModelName = DEFAULT_TEXT_MODEL,
    negatives: Annotated[int, typer.Option(min=1, help="How many are added to a row, at most.")] = 7,
    pool: Annotated[int, typer.Option(min=1, help=_POOL)] = 20,
    margin: Annotated[float, typer.Option(help=_MARGIN)] = 0.95,
    duplicate_similarity: Annotated[float, typer.Option(help=_ALIKE)] = 0.95,
    sampling: Annotated[str, typer.Option(help="From the pool: random, or hardest.")] = "random",
    across_sources: Annotated[
        bool, typer.Option("--across-sources", help="Search all sources, not the row's own.")
    ] = False,
    corpus: Annotated[list[Path] | None, typer.Option(help=_CORPUS)] = None,
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
    """Add hard negatives: close documents that are no answers; killed, the same command goes on where it was."""
    from gnomonic.cli.curation import Encoding, Target, curate_with, search_device

    more = tuple(corpus or ())
    target = Target(
        files=tuple(files), output=output, cache=cache, report_only=report_only, overwrite=overwrite, corpus=more
    )
    target.check()
    from gnomonic.training.curation import mine as mining

    config = mining.MineConfig(
        negatives=negatives,
        pool=pool,
        margin=margin,
        duplicate_similarity=duplicate_similarity,
        sampling=sampling,
        across_sources=across_sources,
        query_task=query_task,
        document_task=document_task,
        seed=seed,
        device=search_device(device),
    )
    encoding = Encoding(
        model=model, dim=dim, max_tokens=max_tokens, precision=precision, device=device, threads=threads
    )
    with curate_with(target, encoding) as work:
        mined = mining.mine(work.pairs, work.store, config, keep_vectors=cache is not None)
        report = mining.mine_report(work.pairs, mined, config)
        work.finish(report, negatives=mining.negatives_of(work.pairs, mined))
