"""Finished work on disk: chunks of vectors in OUTPUT.partial/, so that a killed run can go on.

```
OUTPUT.partial/
  lock             held while a process works here; the system lets go of it when the process dies
  manifest.json    what the run is: input digest, settings, fingerprint of the model's numbers
  published        an empty file, there once the output is complete: all that is left to do is to tidy up
  00000000.f32     [rows, dim] float32, little-endian; rows that failed are NaN
  00000000.json    rows, digest of the vectors, failures; written last: with it the chunk is finished
```

A chunk is a fixed range of input rows, and its vectors depend on those rows and the settings alone. So a
resumed run computes, byte for byte, what the killed run would have computed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gnomonic.cli.rows import Row
from gnomonic.errors import GnomonicError, InputError

__all__ = ["CHUNK_CHARS", "Chunk", "ChunkStore", "plan_chunks", "write_atomically", "writing"]

logger = logging.getLogger(__name__)

CHUNK_CHARS = 1 << 20
"""A chunk ends before this many characters of text, however few rows that is; a longer text is a chunk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """What is known of a finished chunk, besides its vectors."""

    rows: int
    sha256: str
    tokens: int
    truncated: int
    """How many texts were cut to fit the model or --max-tokens."""
    failed: list[dict[str, object]] = field(default_factory=list)
    """One {"row", "line", "reason"} for each row without a vector, ascending; no line for Parquet input."""


def plan_chunks(rows: Iterable[Row], chunk_rows: int) -> Iterator[list[Row]]:
    """Cut rows into consecutive chunks; the cuts depend on the rows and `chunk_rows` alone."""
    chunk: list[Row] = []
    chars = 0
    for row in rows:
        if chunk and (len(chunk) == chunk_rows or chars + len(row.text) > CHUNK_CHARS):
            yield chunk
            chunk, chars = [], 0
        chunk.append(row)
        chars += len(row.text)
    if chunk:
        yield chunk


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failed write below `path` into an error that says what to do.

    Raises:
        GnomonicError: the disk is full, or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise GnomonicError(
            f"cannot write {error.filename or path}: {error.strerror or error}",
            hint=f"finished work is kept in {path}; make room or fix access, then run again with --resume",
        ) from error


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut."""
    draft = path.with_name(path.name + ".tmp")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


class ChunkStore:
    """The folder of finished chunks of one run; work in it `with store.locked()`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def manifest(self) -> Mapping[str, object] | None:
        """Return what an earlier run noted about itself; None when nothing was begun.

        Raises:
            InputError: the manifest is not readable.
        """
        path = self.folder / "manifest.json"
        if not path.exists():
            return None
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path} is damaged: {error}", hint="start again with --overwrite") from error
        return manifest if isinstance(manifest, dict) else {}

    def begin(self, manifest: Mapping[str, object]) -> None:
        """Start afresh: delete what is there, note what the run is, for later runs to check."""
        (self.folder / "published").unlink(missing_ok=True)
        self._clear()
        write_atomically(self.folder / "manifest.json", _json(manifest))

    def finished(self, index: int, rows: int) -> Chunk | None:
        """Return chunk `index` if it is complete and undamaged, else None."""
        try:
            chunk = Chunk(**json.loads(self._path(index, "json").read_text(encoding="utf-8")))
            with self._path(index, "f32").open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except (OSError, ValueError, TypeError):
            return None
        return chunk if (chunk.rows, chunk.sha256) == (rows, digest) else None

    def write(self, index: int, vectors: NDArray[np.float32], **about: object) -> Chunk:
        """Publish a finished chunk.

        Args:
            index: place of the chunk, from 0.
            vectors: [rows, dim] float32, NaN rows where there is no vector.
            about: the remaining fields of `Chunk`.
        """
        data = vectors.astype("<f4", copy=False).tobytes()
        chunk = Chunk(rows=len(vectors), sha256=hashlib.sha256(data).hexdigest(), **about)  # type: ignore[arg-type]
        write_atomically(self._path(index, "f32"), data)
        write_atomically(self._path(index, "json"), _json(asdict(chunk)))
        return chunk

    def vectors(self, index: int, chunk: Chunk) -> NDArray[np.float32]:
        """Read the vectors of a finished chunk, [rows, dim] float32."""
        return np.fromfile(self._path(index, "f32"), dtype="<f4").reshape(chunk.rows, -1)

    def _path(self, index: int, ending: str) -> Path:
        return self.folder / f"{index:08d}.{ending}"

    @property
    def is_published(self) -> bool:
        """Whether the run this folder is of has put its output in place."""
        return (self.folder / "published").exists()

    def mark_published(self) -> None:
        """Note that the output is in place."""
        (self.folder / "published").touch()

    def remove(self) -> None:
        """Delete the folder and everything in it."""
        self._clear()
        (self.folder / "lock").unlink()
        self.folder.rmdir()

    def _clear(self) -> None:
        """Delete all but the lock; what says how far the run is goes last, so that a kill here loses no knowledge."""
        last = ("manifest.json", "published", "lock")
        kept = [self.folder / name for name in last[:2]]
        for path in [*(path for path in self.folder.iterdir() if path.name not in last), *kept]:
            path.unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's lock, making the folder; the system lets go of it however the process ends.

        Raises:
            InputError: another process holds it.
        """
        self.folder.mkdir(exist_ok=True)
        with (self.folder / "lock").open("wb") as file:
            try:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except ImportError:
                logger.debug("no file locks on this system; two runs on one output would not be noticed")
            except BlockingIOError as error:
                raise InputError(f"another process works in {self.folder}; wait for it to end") from error
            yield


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=True, default=dict) + "\n").encode()
