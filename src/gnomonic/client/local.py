"""Inference in this process: opened models are kept for the next call."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnomonic.catalog import ModelSpec, known_models
from gnomonic.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gnomonic.inference.encoder import TextEncoder

__all__ = [
    "APPEARANCE",
    "Standing",
    "check_options",
    "check_texts",
    "encode_images",
    "free",
    "is_open",
    "standing",
    "text_encoder",
]

APPEARANCE = "appearance"
"""Stands for a model's name where images are described by colours and edges."""

_KEPT_MODELS = 2

_Key = tuple[str, str, str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What running a model here would take."""

    here: bool
    """Its files are on this machine; otherwise they have to be fetched."""
    parameters: int
    threads: int


class _Shelf:
    """The most recently used encoders, opened once however many threads ask."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.encoders: OrderedDict[_Key, TextEncoder] = OrderedDict()


_shelf = _Shelf()
# To look at the files and the CPU quota takes as long as embedding a short text.
_standings: dict[tuple[str, Settings], Standing] = {}
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


def encode_images(images: Sequence[bytes | None]) -> NDArray[np.float32]:
    """Return what `inference.appearance.encode_appearance` makes of images."""
    from gnomonic.inference.appearance import encode_appearance

    return encode_appearance(images)


def text_encoder(
    model: str | os.PathLike[str], *, device: str | None = None, precision: str | None = None
) -> TextEncoder:
    """Return the opened model, opening it on the first call.

    The two used last are kept. One that is dropped stays usable where it is in use.

    Raises:
        GnomonicError: whatever `gnomonic.load` raises.
    """
    from gnomonic.inference.load import load

    key = _key(model, device, precision)
    with _shelf.lock:
        encoder = _shelf.encoders.get(key)
        if encoder is None:
            encoder = _shelf.encoders[key] = load(model, device=device, precision=precision)
            while len(_shelf.encoders) > _KEPT_MODELS:
                _shelf.encoders.popitem(last=False)
        _shelf.encoders.move_to_end(key)
        return encoder


def is_open(model: str | os.PathLike[str], *, device: str | None = None) -> bool:
    """Tell whether a call would find the model opened."""
    return _key(model, device, None) in _shelf.encoders


def standing(model: str, settings: Settings) -> Standing | None:
    """Look at what running a model by its name would take; None when it cannot be run here."""
    from gnomonic.inference.presence import presence_of
    from gnomonic.inference.threads import usable_cpus

    known = _standings.get((model, settings))
    found = None if known else presence_of(model, settings)
    if found is None:
        return known
    standing = Standing(here=found.here, parameters=found.parameters, threads=settings.threads or usable_cpus())
    if found.here:  # what may yet be downloaded is looked for again
        _standings[model, settings] = standing
    return standing


def check_texts(texts: object) -> list[str]:
    """Return the texts as a list, each one embeddable.

    Raises:
        InputError: not a list of strings, or a string with a lone surrogate; names index and position.
    """
    from gnomonic.inference import encoder

    return encoder.check_texts(texts)


def check_options(spec: ModelSpec, options: Mapping[str, Any]) -> None:
    """Check the options of a call against a model.

    Raises:
        InputError: one of them is not usable.
    """
    from gnomonic.inference import encoder

    encoder.check_options(spec, **options)


def _key(model: str | os.PathLike[str], device: str | None, precision: str | None) -> _Key:
    return *_identity(model), str(device), str(precision)


def _identity(model: str | os.PathLike[str]) -> tuple[str, str]:
    """Return what tells two models apart: the name, or the path with the folder it is relative to."""
    if not isinstance(model, os.PathLike):
        name = str(model)
        return (name, "") if name.removeprefix("nomic-ai/") in known_models() else (name, str(Path.cwd()))
    return os.fspath(model), str(Path.cwd())


def free() -> None:
    """Drop every kept model; its memory is free once no call uses it."""
    _standings.clear()
    with _shelf.lock:
        _shelf.encoders.clear()
