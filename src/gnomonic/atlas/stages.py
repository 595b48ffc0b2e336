"""Stages of a build, kept on disk by the digest of what they were made from."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic import __version__
from gnomonic.errors import DatasetError

__all__ = ["Stage", "StageCache", "digest_array", "digest_of"]

log = logging.getLogger(__name__)

_FORMAT = 1
"""Raised when a stage's artefacts change, so that old ones are made again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A finished stage."""

    name: str
    folder: Path
    digest: str
    """Of its inputs and settings; an input of the stages after it."""
    seconds: float
    reused: bool
    """Whether it was found on disk."""


class StageCache:
    """A folder of finished stages; a stage that was killed leaves nothing that counts as one."""

    def __init__(self, folder: Path) -> None:
        """Use a folder, making it where there is none.

        Raises:
            DatasetError: it cannot be made.
        """
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise DatasetError(f"{folder} cannot be made: {error.strerror}; was the dataset deleted?") from error
        self.folder = folder

    def run(
        self,
        name: str,
        *,
        settings: Mapping[str, Any],
        inputs: Sequence[str],
        compute: Callable[[Path], None],
    ) -> Stage:
        """Return a stage, computing it unless it is there.

        Args:
            name: the stage's name, the first part of its folder's.
            settings: what it depends on besides its inputs, as JSON can hold it.
            inputs: digests of what it is made from.
            compute: writes the artefacts into the empty folder it is given.

        Raises:
            DatasetError: a file cannot be written.
        """
        digest = digest_of([name, _FORMAT, dict(settings), list(inputs)])
        done = self.folder / f"{name}-{digest}"
        if (known := _read(done / "stage.json")) is not None:
            return Stage(name=name, folder=done, digest=digest, seconds=known["seconds"], reused=True)
        working = self.folder / f".{name}-{digest}.partial"
        shutil.rmtree(working, ignore_errors=True)
        told = {"stage": name, "digest": digest, "settings": dict(settings), "inputs": list(inputs)}
        try:
            seconds = _make(working, compute, told)
            shutil.rmtree(done, ignore_errors=True)
            working.rename(done)
        except OSError as error:
            if isinstance(error, ConnectionError | TimeoutError):
                raise  # of whoever is told of progress, or of a model elsewhere
            reason = error.strerror or str(error)
            raise DatasetError(
                f"stage {name} of the map cannot be written to {working}: {reason}",
                hint="make room if the disk is full; the next build goes on with this stage",
            ) from error
        return Stage(name=name, folder=done, digest=digest, seconds=seconds, reused=False)

    def workshop(self, name: str, *, settings: Mapping[str, Any]) -> Path:
        """Return a folder for what a stage has done so far, the same for the same settings; `keep_only` removes it.

        Raises:
            DatasetError: it cannot be made.
        """
        folder = self.folder / f".{name}-{digest_of([name, _FORMAT, dict(settings)])}.parts"
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise DatasetError(f"{folder} cannot be made: {error.strerror}") from error
        return folder

    def keep_only(self, stages: Sequence[Stage]) -> None:
        """Remove all but these, and what killed builds left."""
        kept = {stage.folder.name for stage in stages}
        for folder in self.folder.iterdir():
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)


def _make(working: Path, compute: Callable[[Path], None], told: dict[str, Any]) -> float:
    """Fill the folder of a stage, its record last; return the seconds it took."""
    working.mkdir(exist_ok=True)
    began = time.perf_counter()
    compute(working)
    seconds = time.perf_counter() - began
    told |= {
        "seconds": round(seconds, 3),
        "peak_rss_mb": round(_peak_rss() / 1e6, 1),
        "versions": {"gnomonic": __version__, "numpy": np.__version__, "python": platform.python_version()},
    }
    (working / "stage.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    _sync(working)
    return seconds


def digest_of(value: Any) -> str:
    """Return the digest of a JSON value, 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def digest_array(array: NDArray[Any], *, block_rows: int = 65_536) -> str:
    """Return the digest of an array's shape, type and values, 16 hexadecimal digits; reads a memory map in blocks."""
    found = hashlib.blake2b(repr((array.shape, array.dtype.str)).encode(), digest_size=8)
    for begin in range(0, len(array), block_rows):
        found.update(np.ascontiguousarray(array[begin : begin + block_rows]).view(np.uint8).data)
    return found.hexdigest()


def _read(path: Path) -> dict[str, Any] | None:
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return told


def _peak_rss() -> int:
    """Return the most memory the process has held, in bytes; 0 on Windows, which does not say it this way."""
    try:
        import resource
    except ImportError:  # pragma: no cover
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _sync(folder: Path) -> None:
    """Have the files of a folder reach the disk before its name does."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
