"""Opening a model by name or folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gnomonic.catalog import ModelSpec
from gnomonic.errors import CheckpointError, InputError
from gnomonic.inference.encoder import TextEncoder
from gnomonic.inference.engines.select import choose_engine, open_engine
from gnomonic.inference.threads import usable_cpus
from gnomonic.inference.tokenizer import Tokenizer
from gnomonic.settings import Settings, read_settings

if TYPE_CHECKING:
    from gnomonic.models.config import NomicBertConfig

__all__ = ["ModelFiles", "load", "open_files"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFiles:
    """A model without its engine: enough to tokenize for it."""

    spec: ModelSpec
    folder: Path
    config: NomicBertConfig
    tokenizer: Tokenizer


def open_files(model: str | os.PathLike[str], settings: Settings) -> ModelFiles:
    """Find a model and read all of it but its weights.

    Raises:
        UnknownModelError: the model is neither in the catalog nor a folder.
        ConfigError: config.json holds a value that is not implemented.
        CheckpointError: a file is absent, damaged or does not fit.
    """
    from gnomonic.checkpoints.hub import find_model
    from gnomonic.checkpoints.huggingface import read_config

    spec, folder = find_model(model, settings)
    config = read_config(folder)
    if config.hidden_size != spec.hidden_size:
        raise CheckpointError(
            f"{folder}: config.json says hidden_size {config.hidden_size}, but {spec.name} has "
            f"{spec.hidden_size}; the folder holds another model's files"
        )
    tokenizer = Tokenizer.open(folder, vocab_size=config.vocab_size)
    return ModelFiles(spec=spec, folder=folder, config=config, tokenizer=tokenizer)


def load(
    model: str | os.PathLike[str],
    *,
    device: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
) -> TextEncoder:
    """Open a model, ready to embed.

    A published model is downloaded on its first use, unless GNOMONIC_OFFLINE is set.

    Args:
        model: a name of the catalog, or a folder with config.json, weights and tokenizer; a `Path` is always a
            folder.
        device: "cpu" (the default), "torch-cpu", "cuda", "cuda:N" or "mps".
        precision: "auto" (the default), "fp32", "int8" on the CPU, "bf16" or "fp16" through torch.
        threads: CPU threads; None for GNOMONIC_THREADS, else what the process may use.

    Raises:
        UnknownModelError: the model is neither in the catalog nor a folder.
        InputError: the device, the precision or the thread count is not usable.
        ConfigError: config.json or the environment holds a value that is not implemented.
        CheckpointError: a file is absent, damaged or does not fit.
        MissingExtraError: the device needs torch, which is not installed.
        EngineError: the runtime could not start.
    """
    if not isinstance(model, str | os.PathLike):
        raise InputError(f"model is of type {type(model).__name__}; pass a name or the path of a folder")
    if threads is not None and threads < 1:
        raise InputError(f"threads {threads!r} is no number of threads; choose 1 or more")
    choose_engine(device, precision)  # a typing mistake should not cost a download first
    settings = read_settings()
    files = open_files(model, settings)
    engine = open_engine(
        files.folder,
        files.config,
        device=device,
        precision=precision,
        threads=threads or settings.threads or usable_cpus(),
        cache_dir=settings.cache_dir,
    )
    return TextEncoder(files.spec, files.tokenizer, engine)
