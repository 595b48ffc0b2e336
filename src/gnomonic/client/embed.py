"""`embed.text`: texts in, one dictionary out; the calling convention of the official client."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from gnomonic.catalog import DEFAULT_TEXT_MODEL
from gnomonic.client import local
from gnomonic.client.route import Asked, find_route
from gnomonic.errors import GnomonicError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gnomonic.types import Embeddings

__all__ = ["TextResult", "atext", "free", "text"]


class TextResult(TypedDict):
    """What `text` and `atext` return."""

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
        inference_mode: "local" embeds in this process; "remote" asks the server at GNOMONIC_API_URL; "dynamic"
            does what is predicted to be done first, and is local where that is not set, the model is a folder
            or a device is named.
        device: "cpu" (the default), "torch-cpu", "cuda", "cuda:N" or "mps"; a server chooses its own.

    Returns:
        embeddings: [n, dimensionality] float32, rows of unit length.
        usage: prompt_tokens and total_tokens, the body tokens that were embedded.
        model: the model's name.
        inference_mode: how it was done, "local" or "remote".
        truncated: indices of the texts that were cut, ascending.

    Raises:
        InputError: a text or an option is not usable.
        UnknownModelError: the model is neither in the catalog nor a folder, or the server does not have it.
        ConfigError: a setting or config.json holds an unusable value, or "remote" has no server.
        CheckpointError: the model's files are absent or damaged.
        MissingExtraError: the device needs torch, which is not installed.
        EngineError: the runtime failed.
        RemoteError: the server failed, refused the key, or could not be reached in time; its kinds tell which.
        PartialFailureError: the server embedded some of the texts only; the error holds their vectors.

    Warns:
        UserWarning: "dynamic" falls back to this machine, because the server does not answer or lacks the model.
    """
    options = _options(task_type, dimensionality, long_text_mode, max_tokens_per_text)
    asked = Asked(texts=texts, model=model, device=device, options=options)
    route = find_route(asked, inference_mode)
    if route.mode == "remote":
        try:
            return _result(route.remote(), "remote")
        except GnomonicError as error:
            route.fall_back(error)
    return _result(route.local(), "local")


async def atext(
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
    """Embed texts without blocking the asyncio event loop: here in a thread, on a server through the loop.

    Cancelling drops the requests to a server; work of this machine goes on in its thread to the end of the call.

    Args:
        texts: as for `text`, and so are the others.
        model: a name or a folder.
        task_type: selects the prefix.
        dimensionality: size of the vectors.
        long_text_mode: what becomes of a text that does not fit.
        max_tokens_per_text: the longest sequence the model sees.
        inference_mode: "local", "remote" or "dynamic".
        device: where to embed locally.

    Returns:
        What `text` returns: embeddings [n, dimensionality] float32, rows of unit length, and the other keys.

    Raises:
        GnomonicError: as `text`.
    """
    options = _options(task_type, dimensionality, long_text_mode, max_tokens_per_text)
    asked = Asked(texts=texts, model=model, device=device, options=options)
    route = find_route(asked, inference_mode)
    if route.mode == "remote":
        try:
            return _result(await route.aremote(), "remote")
        except GnomonicError as error:
            route.fall_back(error)
    return _result(await asyncio.to_thread(route.local), "local")


def free() -> None:
    """Free the models that earlier calls opened."""
    local.free()


def _options(task_type: str, dim: int | None, long_text_mode: str, max_tokens_per_text: int) -> dict[str, Any]:
    """Return the keyword arguments of `TextEncoder.encode`."""
    return {
        "task_type": task_type,
        "dim": dim,
        "long_text_mode": long_text_mode,
        "max_tokens_per_text": max_tokens_per_text,
    }


def _result(found: Embeddings, mode: str) -> TextResult:
    return {
        "embeddings": found.vectors,
        "usage": {"prompt_tokens": found.usage.prompt_tokens, "total_tokens": found.usage.total_tokens},
        "model": found.model,
        "inference_mode": mode,
        "truncated": list(found.truncated),
    }
