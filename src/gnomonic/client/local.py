"""Inference in this process: opened models are kept for the next call."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from gnomonic.catalog import known_models

if TYPE_CHECKING:
    from gnomonic.inference.encoder import TextEncoder

__all__ = ["free", "text_encoder"]

_KEPT_MODELS = 2

_Key = tuple[str, str, str, str]


class _Shelf:
    """The most recently used encoders, opened once however many threads ask."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.encoders: OrderedDict[_Key, TextEncoder] = OrderedDict()


_shelf = _Shelf()
_left_by_parent: list[_Shelf] = []


def _start_anew() -> None:
    """Forget the parent's encoders in a forked child, where their threads do not exist.

    They are kept referenced, because freeing a runtime waits for its threads.
    """
    global _shelf
    _left_by_parent.append(_shelf)
    _shelf = _Shelf()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


def text_encoder(
    model: str | os.PathLike[str], *, device: str | None = None, precision: str | None = None
) -> TextEncoder:
    """Return the opened model, opening it on the first call.

    The two used last are kept. One that is dropped stays usable where it is in use.

    Raises:
        GnomonicError: whatever `gnomonic.load` raises.
    """
    from gnomonic.inference.load import load

    key = (*_identity(model), str(device), str(precision))
    with _shelf.lock:
        encoder = _shelf.encoders.get(key)
        if encoder is None:
            encoder = _shelf.encoders[key] = load(model, device=device, precision=precision)
            while len(_shelf.encoders) > _KEPT_MODELS:
                _shelf.encoders.popitem(last=False)
        _shelf.encoders.move_to_end(key)
        return encoder


def _identity(model: str | os.PathLike[str]) -> tuple[str, str]:
    """Return what tells two models apart: the name, or the path with the folder it is relative to."""
    if not isinstance(model, os.PathLike):
        name = str(model)
        return (name, "") if name.removeprefix("nomic-ai/") in known_models() else (name, str(Path.cwd()))
    return os.fspath(model), str(Path.cwd())


def free() -> None:
    """Drop every kept model; its memory is free once no call uses it."""
    with _shelf.lock:
        _shelf.encoders.clear()
