"""`gnomonic train vocabulary` and `gnomonic train mlm`: what is learnt from texts alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gnomonic.cli import train_options as opt
from gnomonic.cli.train_run import RunOptions, absolute, absolutes, carry_out, need_torch, read_settings_of, start_of

__all__ = ["mlm", "vocabulary"]

_MLM: dict[str, Any] = {
    "loop": {
        "learning_rate": 1e-4, "schedule": "linear", "weight_decay": 1e-5, "beta2": 0.98, "max_grad_norm": 0.0,
    },
    "model": {},
    "batch_size": 64,
    "epochs": 1,
    "warmup_share": 0.06,
}  # fmt: skip
_TEXTS = "A .csv, .tsv, .jsonl or .parquet file with a column text, or query and document. Several: repeat it."


def vocabulary(
    data: Annotated[list[str], typer.Argument(help="Files with a column text, or with query and document.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for tokenizer.json and vocab.txt.")],
    size: Annotated[int, typer.Option(help="Entries, special tokens included; 30522 is BERT's.")] = 10240,
    max_tokens: Annotated[int, typer.Option(help="Longest text the tokenizer declares.")] = 8192,
    keep_from: Annotated[
        Path | None,
        typer.Option(help="Folder with a BERT tokenizer.json: keep those of its tokens that the texts use most."),
    ] = None,
) -> None:
    """Learn a WordPiece vocabulary (lower-case, accents stripped) from texts, or shorten a known one to them."""
    need_torch()
    from gnomonic.training.data.texts import iter_texts
    from gnomonic.training.vocabulary import shrink_vocabulary, train_vocabulary

    texts = iter_texts(data, Path.cwd(), max_chars=600)
    if keep_from is None:
        train_vocabulary(texts, output, size=size, max_tokens=max_tokens)
    else:
        shrink_vocabulary(texts, keep_from, output, size=size, max_tokens=max_tokens)
    typer.echo(f"wrote {output}/tokenizer.json")


def mlm(
    recipe: opt.Recipe = None,
    *,
    output: opt.Output,
    texts: Annotated[list[str] | None, typer.Option("--texts", help=_TEXTS)] = None,
    model: opt.Model = None,
    tokenizer: opt.TokenizerFolder = None,
    window_tokens: Annotated[int | None, typer.Option(help="Tokens per sequence; texts are joined and cut.")] = None,
    mask_share: Annotated[float | None, typer.Option(help="Part of the tokens to be guessed.")] = None,
    batch_size: opt.BatchSize = None,
    epochs: opt.Epochs = None,
    steps: opt.Steps = None,
    learning_rate: opt.LearningRate = None,
    precision: opt.Precision = None,
    seed: opt.Seed = None,
    name: opt.Name = "model",
    dtype: opt.Dtype = "fp16",
    threads: opt.Threads = 0,
    dry_run: opt.Plan = False,
) -> None:
    """Teach a model a language or a field: guess masked tokens of plain texts, from scratch or from any model."""
    need_torch()
    from gnomonic.training.mlm import MlmConfig, MlmStage

    loop = {"max_steps": steps, "learning_rate": learning_rate, "autocast": precision, "seed": seed}
    options = {
        "loop": loop,
        "model": {"init": start_of(model), "tokenizer": absolute(tokenizer)},
        "data": absolutes(texts),
        "window_tokens": window_tokens,
        "mask_share": mask_share,
        "batch_size": batch_size,
        "epochs": epochs,
    }
    config, folder = read_settings_of(MlmConfig, recipe, _MLM, options)
    carry_out(
        lambda world: MlmStage(config, folder, world),
        RunOptions(output=output, name=name, dtype=dtype, threads=threads, dry_run=dry_run),
    )
