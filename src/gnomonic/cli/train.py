"""`gnomonic train`: make a vocabulary, train an encoder from a recipe, write the finished model folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Train a model from plain files, one recipe a stage.")


def _need_torch() -> None:
    from importlib.util import find_spec

    from gnomonic.errors import MissingExtraError

    if find_spec("torch") is None or find_spec("pyarrow") is None:
        raise MissingExtraError("train", needed_for="training")


@app.command()
def vocabulary(
    data: Annotated[list[Path], typer.Argument(help="Parquet files with `query` and `document` columns.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="Folder for tokenizer.json and vocab.txt.")],
    size: Annotated[int, typer.Option(help="Entries, special tokens included.")] = 10240,
    max_tokens: Annotated[int, typer.Option(help="Longest text the tokenizer declares.")] = 8192,
) -> None:
    """Learn a WordPiece vocabulary (lower-case, accents stripped) from the texts of pairs."""
    _need_torch()
    from gnomonic.training.data.pairs import iter_texts
    from gnomonic.training.vocabulary import train_vocabulary

    train_vocabulary(iter_texts(data), out, size=size, max_tokens=max_tokens)
    typer.echo(f"wrote {out}/tokenizer.json")


@app.command()
def contrastive(
    recipe: Annotated[Path, typer.Argument(help="A .toml file; see recipes/.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="Folder for checkpoints, metrics.jsonl and the model.")],
    name: Annotated[str, typer.Option(help="Name of the finished model and of its folder in OUTPUT.")] = "model",
    dtype: Annotated[str, typer.Option(help="What the weights are stored in: fp32, fp16 or bf16.")] = "fp16",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 takes torch's own choice.")] = 0,
) -> None:
    """Train on pairs with in-batch negatives. Stop it at any time; the same command goes on from the checkpoint."""
    _need_torch()
    # Read by torch's OpenMP when it is loaded: threads that wait without spinning do not slow each other down where
    # other work shares the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from gnomonic.training import loop
    from gnomonic.training.config import read_recipe
    from gnomonic.training.contrastive import ContrastiveStage, save_model

    if threads:
        torch.set_num_threads(threads)
    config = read_recipe(recipe)
    stage = ContrastiveStage(config, recipe.parent)

    def show(metrics: loop.Metrics) -> None:
        left = (config.loop.max_steps - metrics.step) * metrics.elapsed_s / metrics.step
        typer.echo(
            f"step {metrics.step}/{config.loop.max_steps}  loss {metrics.loss:.4f}  "
            f"{metrics.tokens_per_s:,.0f} tokens/s  {left / 60:.1f} min left"
        )

    loop.run(stage, config.loop, out, on_log=show)
    save_model(stage, recipe.parent, out / name, dtype=dtype)
    typer.echo(f"wrote {out / name}; try: gnomonic embed texts.txt -o vectors.npy --model {out / name}")
