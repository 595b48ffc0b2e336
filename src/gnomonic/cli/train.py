"""`gnomonic train`: make a vocabulary, train an encoder stage by stage, write the finished model folder."""

from __future__ import annotations

import typer

from gnomonic.cli.train_distill import distill
from gnomonic.cli.train_pairs import finetune, pretrain
from gnomonic.cli.train_texts import mlm, vocabulary

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Train a model from plain files, from a recipe or from options.")
for _command in (finetune, pretrain, mlm, distill, vocabulary):
    app.command()(_command)
