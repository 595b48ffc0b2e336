"""`gnomonic train pretrain` and `gnomonic train finetune`: contrastive training on pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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

__all__ = ["finetune", "pretrain"]

_ADAM = {"weight_decay": 0.01, "beta2": 0.999, "max_grad_norm": 1.0}
_USUAL = {"epochs": 1, "warmup_share": 0.06}
_PRETRAIN: dict[str, Any] = {
    **_USUAL, "loop": {"learning_rate": 2e-4, "schedule": "inverse_sqrt", **_ADAM},
    "batch_size": 2048, "query_tokens": 64, "document_tokens": 256, "model": {},
}  # fmt: skip
_FINETUNE: dict[str, Any] = {
    **_USUAL, "loop": {"learning_rate": 2e-5, "schedule": "linear", **_ADAM},
    "batch_size": 256, "query_tokens": 128, "document_tokens": 512, "negatives_per_query": 7,
    "model": {"init": DEFAULT_TEXT_MODEL},
}  # fmt: skip


def pretrain(
    recipe: opt.Recipe = None, *, output: opt.Output, pairs: opt.Pairs = None, model: opt.Model = None,
    tokenizer: opt.TokenizerFolder = None, batch_size: opt.BatchSize = None, epochs: opt.Epochs = None,
    steps: opt.Steps = None, learning_rate: opt.LearningRate = None, dims: opt.Dims = None,
    negatives: opt.Negatives = None, query_tokens: opt.QueryTokens = None, document_tokens: opt.DocumentTokens = None,
    query_task: opt.QueryTask = None, document_task: opt.DocumentTask = None, temperature: opt.Temperature = None,
    chunk_tokens: opt.ChunkTokens = None, precision: opt.Precision = None, seed: opt.Seed = None,
    name: opt.Name = "model", dtype: opt.Dtype = "fp16", threads: opt.Threads = 0, dry_run: opt.Plan = False,
) -> None:  # fmt: skip
    """Train on many pairs in large steps: each query learns its document from all other documents of the step.

    Stop it at any time; the same command goes on from the last checkpoint. Settings: docs/reference/recipes.md.
    """
    _train(locals(), _PRETRAIN)


def finetune(
    recipe: opt.Recipe = None, *, output: opt.Output, pairs: opt.Pairs = None, model: opt.Model = None,
    tokenizer: opt.TokenizerFolder = None, batch_size: opt.BatchSize = None, epochs: opt.Epochs = None,
    steps: opt.Steps = None, learning_rate: opt.LearningRate = None, dims: opt.Dims = None,
    negatives: opt.Negatives = None, query_tokens: opt.QueryTokens = None, document_tokens: opt.DocumentTokens = None,
    query_task: opt.QueryTask = None, document_task: opt.DocumentTask = None, temperature: opt.Temperature = None,
    chunk_tokens: opt.ChunkTokens = None, precision: opt.Precision = None, seed: opt.Seed = None,
    name: opt.Name = "model", dtype: opt.Dtype = "fp16", threads: opt.Threads = 0, dry_run: opt.Plan = False,
) -> None:  # fmt: skip
    """Fine-tune a model on your own pairs, with hard negatives if they have some.

    gnomonic train finetune --pairs my.csv --model nomic-embed-text-v1.5 -o out/   is all it takes.
    """
    _train(locals(), _FINETUNE)


def _train(said: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Train with what was said on the command line; see `read_settings_of` for what counts where it is silent."""
    need_torch()
    from gnomonic.training.contrastive import ContrastiveConfig, ContrastiveStage

    tasks = {task: said[task] for task in ("query_task", "document_task") if said[task] is not None}
    options = {
        "loop": {"max_steps": said["steps"], "learning_rate": said["learning_rate"], "autocast": said["precision"],
                 "seed": said["seed"]},
        "model": {"init": start_of(said["model"]), "tokenizer": absolute(said["tokenizer"])},
        "data": absolutes(said["pairs"]),
        "dims": whole_numbers("--dims", said["dims"]),
        "negatives_per_query": said["negatives"],
        "sources": [{"match": ["*"], **tasks}] if tasks else None,
        **{name: said[name] for name in
           ("batch_size", "epochs", "query_tokens", "document_tokens", "temperature", "chunk_tokens")},
    }  # fmt: skip
    config, folder = read_settings_of(ContrastiveConfig, said["recipe"], defaults, options)
    carry_out(
        lambda world: ContrastiveStage(config, folder, world),
        RunOptions(**{name: said[name] for name in ("output", "name", "dtype", "threads", "dry_run")}),
    )
