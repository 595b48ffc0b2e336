"""`embed.text`: texts in, one dictionary out; the calling convention of the official client."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from gnomonic.catalog import DEFAULT_TEXT_MODEL
from gnomonic.client import local
from gnomonic.errors import ConfigError, InputError
from gnomonic.settings import read_settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TextResult", "free", "text"]

_MODES = ("dynamic", "local", "remote")


class TextResult(TypedDict):
    """What `text` returns."""

    embeddings: NDArray[np.float32]
    usage: dict[str, int]
    model: str
    inference_mode: str
    truncated: list[int]


def text(
    texts: Iterable[str],
    *,
    model: str | os.PathLike[str] = DEFAULT_TEXT_MODEL,
    task_type: str = "search_document",
    dimensionality: int | None = None,
    long_text_mode: str = "truncate",
    max_tokens_per_text: int = 8192,
    inference_mode: str = "dynamic",
    device: str | None = None,
) -> TextResult:
    """Embed texts, in order.

    Args:
        texts: a list of strings; empty lists and empty strings are fine.
        model: a name of the catalog, or a checkpoint folder. The default is in the package and works offline.
        task_type: "search_query", "search_document", "classification" or "clustering".
        dimensionality: size of the vectors, 1 to the model's width; None for the full width.
        long_text_mode: what becomes of a text that does not fit: "truncate" cuts it, "mean" averages its
            chunks, "error" refuses it.
        max_tokens_per_text: the longest sequence the model sees, prefix and special tokens included; the
            model's own limit applies as well.
        inference_mode: "local", "remote" or "dynamic"; this release runs "dynamic" locally.
        device: "cpu" (the default), "torch-cpu", "cuda", "cuda:N" or "mps".

    Returns:
        embeddings: [n, dimensionality] float32, rows of unit length.
        usage: prompt_tokens and total_tokens, the body tokens that were embedded.
        model: the model's name.
        inference_mode: how it was done, "local".
        truncated: indices of the texts that were cut, ascending.

    Raises:
        InputError: a text or an option is not usable.
        UnknownModelError: the model is neither in the catalog nor a folder.
        ConfigError: remote inference was asked for, or a setting or config.json holds an unusable value.
        CheckpointError: the model's files are absent or damaged.
        MissingExtraError: the device needs torch, which is not installed.
        EngineError: the runtime failed.
    """
    _check_mode(inference_mode)
    result = local.text_encoder(model, device=device).encode(
        texts,
        task_type=task_type,
        dim=dimensionality,
        long_text_mode=long_text_mode,
        max_tokens_per_text=max_tokens_per_text,
    )
    return {
        "embeddings": result.vectors,
        "usage": {"prompt_tokens": result.usage.prompt_tokens, "total_tokens": result.usage.total_tokens},
        "model": result.model,
        "inference_mode": "local",
        "truncated": list(result.truncated),
    }


def free() -> None:
    """Free the models that earlier calls opened."""
    local.free()


def _check_mode(inference_mode: str) -> None:
    if inference_mode not in _MODES:
        raise InputError(f"inference_mode {inference_mode!r} is unknown; choose one of {', '.join(_MODES)}")
    if inference_mode == "remote":
        if read_settings().api_url is None:
            raise ConfigError(
                "inference_mode 'remote' has no server to ask: GNOMONIC_API_URL is not set; "
                "use inference_mode 'local' or 'dynamic'"
            )
        raise ConfigError(
            "inference_mode 'remote' comes with a later release, whatever GNOMONIC_API_URL says; "
            "use inference_mode 'local' or 'dynamic'"
        )
