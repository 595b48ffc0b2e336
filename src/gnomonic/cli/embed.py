"""`gnomonic embed`: embed a file of texts."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gnomonic.catalog import DEFAULT_TEXT_MODEL

if TYPE_CHECKING:
    from gnomonic.cli.embed_file import Job
    from gnomonic.inference.encoder import TextEncoder

__all__ = ["embed"]

_TASKS = "search_document, search_query, classification or clustering."


def embed(
    input: Annotated[Path, typer.Argument(help="A .txt (a text a line), .csv, .tsv, .jsonl or .parquet.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="A .parquet or .npy file.")],
    field: Annotated[str | None, typer.Option(help="Column to embed; else the likely one.")] = None,
    column: Annotated[str, typer.Option(help="New column in a .parquet output.")] = "embedding",
    model: Annotated[str, typer.Option(help="Model name or folder.")] = DEFAULT_TEXT_MODEL,
    task_type: Annotated[str, typer.Option(help=_TASKS)] = "search_document",
    dimensionality: Annotated[int | None, typer.Option(help="Size of the vectors; else the full width.")] = None,
    long_text_mode: Annotated[str, typer.Option(help="Texts too long: truncate, mean or error.")] = "truncate",
    max_tokens: Annotated[int, typer.Option(help="Longest text in tokens, within the model's limit.")] = 8192,
    precision: Annotated[str, typer.Option(help="auto, fp32, int8, bf16 or fp16.")] = "auto",
    device: Annotated[str | None, typer.Option(help="cpu, torch-cpu, cuda or mps; else cpu.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; else the CPU quota.")] = None,
    chunk_rows: Annotated[int, typer.Option(min=1, help="Rows between two saves of finished work.")] = 1024,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Write nothing if any row fails.")] = False,
) -> None:
    """Embed every row of a file; killed at any moment, --resume goes on where it was."""
    from gnomonic.cli.embed_file import Job

    job = Job(
        input=input,
        output=output,
        field=field,
        column=column,
        overwrite=overwrite,
        resume=resume,
        strict=strict,
        model=model,
        device=device,
        precision=precision,
        threads=threads,
        task_type=task_type,
        dim=dimensionality,
        long_text_mode=long_text_mode,
        max_tokens=max_tokens,
        chunk_rows=chunk_rows,
    )
    _run(job)


def _run(job: Job) -> None:
    from gnomonic.cli.embed_file import embed_file
    from gnomonic.cli.progress import EmbedProgress, describe

    warnings.showwarning = lambda message, *_args, **_kwargs: typer.echo(f"warning: {message}", err=True)

    def load() -> TextEncoder:
        from gnomonic.inference.load import load as load_encoder

        return load_encoder(job.model, device=job.device, precision=job.precision, threads=job.threads)

    with EmbedProgress() as progress:
        try:
            summary = embed_file(job, load, progress)
        except KeyboardInterrupt:
            typer.echo(f"{progress.rows:,} rows are finished and kept; --resume goes on from there", err=True)
            raise
        seconds = progress.elapsed_s
    for line in describe(job, summary, seconds):
        typer.echo(line)
