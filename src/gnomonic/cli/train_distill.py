"""`gnomonic train distill`: a small model learns from a large one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gnomonic.catalog import DEFAULT_TEXT_MODEL
from gnomonic.cli import train_options as opt
from gnomonic.cli.train_run import (
    RunOptions,
    absolute,
    absolutes,
    carry_out,
    need_torch,
    read_settings_of,
    start_of,
    whole_numbers,
)

__all__ = ["distill"]

_DISTILL: dict[str, Any] = {
    "loop": {"max_steps": 2000, "learning_rate": 2e-4, "warmup_steps": 100, "max_grad_norm": 1.0},
    "model": {}, "batch_size": 64, "size_exponent": 0.7,
}  # fmt: skip
_TEACHER = "What to learn from: a name of `gnomonic models list`, a folder of ours, or a sentence-transformers folder."


def distill(
    recipe: opt.Recipe = None,
    *,
    output: opt.Output,
    teacher: Annotated[str | None, typer.Option(help=_TEACHER)] = None,
    pairs: opt.Pairs = None,
    model: opt.Model = None,
    tokenizer: opt.TokenizerFolder = None,
    start_words: Annotated[
        bool | None, typer.Option("--start-words", help="Start the word table from the teacher's, a BERT's.")
    ] = None,
    batch_size: opt.BatchSize = None,
    steps: opt.Steps = None,
    learning_rate: opt.LearningRate = None,
    dims: opt.Dims = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest text in tokens; the rest of it is cut off.")] = None,
    chunk_tokens: opt.ChunkTokens = None,
    precision: opt.Precision = None,
    seed: opt.Seed = None,
    name: opt.Name = "model",
    dtype: opt.Dtype = "fp16",
    threads: opt.Threads = 0,
    dry_run: opt.Plan = False,
) -> None:
    """Train a model to see texts as a better one does.

    gnomonic train distill --teacher nomic-embed-text-v1.5 --pairs my.csv -o out/   is all it takes: the bundled model
    learns from the larger one. The same command goes on from the last checkpoint; the teacher reads each text once.
    """
    need_torch()
    from gnomonic.training.distill import DistillConfig, DistillStage

    start = model or (DEFAULT_TEXT_MODEL if recipe is None and tokenizer is None else None)
    options = {
        "loop": {"max_steps": steps, "learning_rate": learning_rate, "autocast": precision, "seed": seed},
        "model": {"init": start_of(start), "tokenizer": absolute(tokenizer)},
        "teacher": start_of(teacher),
        "data": absolutes(pairs),
        "cache": absolute(output / "teacher-vectors") if recipe is None else None,
        "start_words": start_words,
        "dims": whole_numbers("--dims", dims),
        "batch_size": batch_size,
        "max_tokens": max_tokens,
        "chunk_tokens": chunk_tokens,
    }
    config, folder = read_settings_of(DistillConfig, recipe, _DISTILL, options)
    carry_out(
        lambda world: DistillStage(config, folder, world),
        RunOptions(output=output, name=name, dtype=dtype, threads=threads, dry_run=dry_run),
    )
