"""Vectors of many texts on disk, so that a run that was killed goes on where it was.

```
FOLDER/
  lock                 held while a process works here; the system lets go of it when the process dies
  probe-TASK.npy       vectors of a few fixed texts: whether the model is still the same one
  KEY.f16              [texts, dim] float16, little-endian, appended chunk by chunk
  KEY.log              "rows crc32" per finished chunk
  KEY.npy              a finished result, see `VectorStore.result`
```

KEY is a digest of the texts and of all that decides their vectors: a file with the right name has the right content.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gnomonic.errors import GnomonicError, InputError
from gnomonic.types import Embedder, TaskType

__all__ = ["Progress", "VectorStore", "digest_of", "writing"]

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done and how much there is."""

_CHUNK_TEXTS = 2048
_PROBES = ("a red fox", "How is bread made?", "The river runs from the mountain to the sea. " * 20)
_SAME = 5e-3
"""Two models whose probes differ by less in every value are one: threads and machines change the last bits."""


def digest_of(*parts: object) -> str:
    """Return 24 hex digits of a digest of arrays, text and numbers."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.tobytes() if isinstance(part, np.ndarray) else str(part).encode()
        digest.update(f"{len(data)}:".encode() + data)
    return digest.hexdigest()[:24]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failed write at or below `path` into an error that says what to do.

    Raises:
        GnomonicError: the disk is full, or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise GnomonicError(
            f"cannot write {error.filename or path}: {error.strerror or error}",
            hint="finished work is kept; make room or fix access, then run the same command again",
        ) from error


class VectorStore:
    """Embeds texts into a folder, and finds there what is already embedded. Use it as `with store.locked():`.

    Attributes:
        folder: where the files are.
        embedded: how many texts were embedded by this object, not found.
        truncated: how many of them were longer than the model takes, and were cut.
    """

    def __init__(
        self,
        folder: Path,
        embedder: Embedder,
        *,
        dim: int | None = None,
        label: str = "",
        on_progress: Progress | None = None,
    ) -> None:
        """Keep the vectors of one embedder.

        Args:
            folder: made when it is first used.
            embedder: any encoder.
            dim: size of the vectors; None for the full width.
            label: whatever else decides the vectors, such as the longest text that is not cut.
            on_progress: hears of every finished chunk.
        """
        self.folder = folder
        self.embedded = self.truncated = 0
        self._embedder = embedder
        self._dim = dim
        self._label = label
        self.on_progress = on_progress
        self._widths: dict[TaskType, int] = {}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder, making it.

        Raises:
            InputError: another process holds it.
            GnomonicError: it cannot be made.
        """
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            stream = (self.folder / "lock").open("wb")
        with stream:
            try:
                import fcntl

                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except ImportError:
                logger.debug("no file locks on this system; two runs in one folder would not be noticed")
            except BlockingIOError as error:
                raise InputError(f"another process works in {self.folder}; wait for it to end") from error
            yield

    def key(self, keys: NDArray[np.uint64], task: TaskType) -> str:
        """Return the name under which the vectors of these texts are kept.

        Args:
            keys: [n] uint64, one per text (`words.text_key`).
            task: the prefix.
        """
        return digest_of(keys, task, self._dim, self._label, self._width(task))

    def embed(
        self, keys: NDArray[np.uint64], texts: Callable[[int, int], Sequence[str]], task: TaskType, *, what: str
    ) -> NDArray[np.float16]:
        """Return the vectors of texts, embedding those that are not there yet.

        Args:
            keys: [n] uint64, one per text.
            texts: `texts(begin, end)` reads a part of them.
            task: the prefix.
            what: what the texts are, for the progress display.

        Returns:
            [n, dim] float16, mapped from disk.

        Raises:
            InputError: the folder holds vectors of another model.
            GnomonicError: the folder cannot be written.
            EngineError: the embedder failed.
        """
        width = self._width(task)
        path = self.folder / f"{self.key(keys, task)}.f16"
        with writing(self.folder):
            done = self._intact(path, width)
            with path.open("ab") as vectors, path.with_suffix(".log").open("a", encoding="ascii") as log:
                while done < len(keys):
                    self._tell(what, done, len(keys))
                    end = min(done + _CHUNK_TEXTS, len(keys))
                    data = self._encode(texts(done, end), task).astype("<f2").tobytes()
                    vectors.write(data)
                    vectors.flush()
                    os.fsync(vectors.fileno())
                    log.write(f"{end - done} {zlib.crc32(data)}\n")
                    log.flush()
                    done = end
        self._tell(what, done, len(keys))
        return np.memmap(path, "<f2", "r", shape=(len(keys), width))

    def drop(self, keys: NDArray[np.uint64], task: TaskType) -> None:
        """Delete the vectors of these texts; what was made of them is kept."""
        path = self.folder / f"{self.key(keys, task)}.f16"
        path.with_suffix(".log").unlink(missing_ok=True)
        path.unlink(missing_ok=True)

    def result(self, key: str, make: Callable[[], NDArray[np.generic]]) -> NDArray[np.generic]:
        """Return the array kept under a key; it is made, and kept, when it is not there."""
        path = self.folder / f"{key}.npy"
        try:
            return _loaded(path)
        except (OSError, ValueError, EOFError):
            array = make()
        with writing(self.folder):
            _save(path, array)
        return array

    def remove(self) -> None:
        """Delete the folder and all in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _tell(self, what: str, done: int, total: int) -> None:
        if self.on_progress is not None:
            self.on_progress(what, done, total)

    def _encode(self, texts: Sequence[str], task: TaskType) -> NDArray[np.float32]:
        found = self._embedder.encode(texts, task_type=task, dim=self._dim)
        self.embedded += len(texts)
        self.truncated += len(found.truncated)
        return found.vectors

    def _width(self, task: TaskType) -> int:
        """Return the size of the vectors, after a look whether the folder's are of the same model."""
        if task in self._widths:
            return self._widths[task]
        found = self._embedder.encode(_PROBES, task_type=task, dim=self._dim).vectors
        path = self.folder / f"probe-{task}-{self._dim or 'full'}.npy"
        try:
            known = _loaded(path).astype(np.float32)
        except (OSError, ValueError, EOFError):
            with writing(self.folder):
                _save(path, found)
            known = found
        if known.shape != found.shape or float(np.abs(known - found).max()) > _SAME:
            raise InputError(
                f"{self.folder} holds vectors of another model, or of another precision; delete that folder, or give "
                "another one with --cache"
            )
        self._widths[task] = width = int(found.shape[1])
        return width

    def _intact(self, path: Path, width: int) -> int:
        """Cut a file of vectors after its last undamaged chunk; return the rows up to there."""
        log = path.with_suffix(".log")
        if not (path.exists() and log.exists()):
            log.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            return 0
        rows, good = 0, []
        with path.open("rb") as vectors:
            for line in log.read_text(encoding="ascii", errors="replace").splitlines():
                try:
                    count, crc = map(int, line.split())
                except ValueError:
                    break
                data = vectors.read(count * width * 2)
                if len(data) < count * width * 2 or zlib.crc32(data) != crc:
                    break
                rows += count
                good.append(f"{line}\n")
        os.truncate(path, rows * width * 2)
        _publish(log, "".join(good).encode("ascii"))
        return rows


def _loaded(path: Path) -> NDArray[np.generic]:
    array: NDArray[np.generic] = np.load(path, allow_pickle=False)
    return array


def _save(path: Path, array: NDArray[np.generic]) -> None:
    import io

    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    _publish(path, buffer.getvalue())


def _publish(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    draft = path.with_name(f"{path.name}.tmp")
    with draft.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)
