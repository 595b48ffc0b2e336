"""Results of long work on disk, so that a run that was killed goes on where it was.

```
FOLDER/
  lock                 held while a process works here; the system lets go of it when the process dies
  KEY.rows             rows of one size and type, appended chunk by chunk
  KEY.log              "rows crc32" per finished chunk
  KEY.npy              a finished result, see `Workplace.result`, or the latest of one under way, see `Workplace.put`
```

KEY is a digest of all that decides the content: a file with the right name has the right content.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gnomonic.errors import GnomonicError, InputError

__all__ = ["Progress", "Workplace", "digest_of", "writing"]

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done and how much there is."""

_CHUNK_ROWS = 2048


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


class Workplace:
    """A folder for what is worked out once. Use it as `with place.locked():`."""

    def __init__(self, folder: Path, *, on_progress: Progress | None = None) -> None:
        """Name the folder.

        Args:
            folder: made when it is first used.
            on_progress: hears of every finished chunk.
        """
        self.folder = folder
        self.on_progress = on_progress

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

    def rows(
        self,
        key: str,
        shape: tuple[int, int],
        dtype: DTypeLike,
        make: Callable[[int, int], NDArray[np.generic]],
        *,
        what: str,
    ) -> NDArray[np.generic]:
        """Return rows that are made chunk by chunk; those that are there undamaged are not made again.

        Args:
            key: what decides the rows, and nothing else.
            shape: how many rows, and how many values each has.
            dtype: of the values.
            make: `make(begin, end)` works out a part, [end - begin, values] or one value a row.
            what: what is being made, for the progress display.

        Returns:
            [rows, values], mapped from disk.

        Raises:
            GnomonicError: the folder cannot be written.
        """
        kind, total, path = np.dtype(dtype), shape[0], self.folder / f"{key}.rows"
        with writing(self.folder):
            done = self._intact(path, shape[1] * kind.itemsize)
            with path.open("ab") as rows, path.with_suffix(".log").open("a", encoding="ascii") as log:
                while done < total:
                    self.tell(what, done, total)
                    end = min(done + _CHUNK_ROWS, total)
                    data = np.ascontiguousarray(make(done, end), kind).tobytes()
                    rows.write(data)
                    rows.flush()
                    os.fsync(rows.fileno())
                    log.write(f"{end - done} {zlib.crc32(data)}\n")
                    log.flush()
                    done = end
        self.tell(what, done, total)
        return np.memmap(path, kind, "r", shape=shape) if total else np.empty(shape, kind)

    def drop(self, key: str) -> None:
        """Delete rows; what was made of them is kept."""
        path = self.folder / f"{key}.rows"
        path.with_suffix(".log").unlink(missing_ok=True)
        path.unlink(missing_ok=True)

    def result(self, key: str, make: Callable[[], NDArray[np.generic]]) -> NDArray[np.generic]:
        """Return the array kept under a key; it is made, and kept, when it is not there."""
        array = self.get(key)
        if array is None:
            array = make()
            self.put(key, array)
        return array

    def get(self, key: str) -> NDArray[np.generic] | None:
        """Return the array kept under a key, or None where there is none, or a damaged one."""
        try:
            array: NDArray[np.generic] = np.load(self.folder / f"{key}.npy", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return array

    def put(self, key: str, array: NDArray[np.generic]) -> None:
        """Keep an array under a key, in place of the one there."""
        with writing(self.folder):
            _save(self.folder / f"{key}.npy", array)

    def remove(self) -> None:
        """Delete the folder and all in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def tell(self, what: str, done: int, total: int) -> None:
        """Pass on how far something is."""
        if self.on_progress is not None:
            self.on_progress(what, done, total)

    def _intact(self, path: Path, size: int) -> int:
        """Cut a file of rows of `size` bytes after its last undamaged chunk; return the rows up to there."""
        log = path.with_suffix(".log")
        if not (path.exists() and log.exists()):
            log.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            return 0
        rows, good = 0, []
        with path.open("rb") as stream:
            for line in log.read_text(encoding="ascii", errors="replace").splitlines():
                try:
                    count, crc = map(int, line.split())
                except ValueError:
                    break
                data = stream.read(count * size)
                if len(data) < count * size or zlib.crc32(data) != crc:
                    break
                rows += count
                good.append(f"{line}\n")
        os.truncate(path, rows * size)
        _publish(log, "".join(good).encode("ascii"))
        return rows


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
