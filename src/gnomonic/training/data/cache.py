"""Files made once from other files: where they lie, what they are named after, and how they appear whole."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gnomonic.errors import InputError
from gnomonic.settings import read_settings

__all__ = ["appearing", "cache_folder", "fingerprint", "remove"]

logger = logging.getLogger(__name__)

_LAYOUT = b"gnomonic-data-1"
"""Changed whenever the same file would be converted to something else."""
_SAMPLE = 1 << 16


def cache_folder(chosen: Path | None) -> Path:
    """Return the folder a caller chose; without one, `data` in GNOMONIC_CACHE."""
    return chosen or read_settings().cache_dir / "data"


def fingerprint(path: Path) -> str:
    """Return 16 hex digits that change with a file's content: from its size, its time and samples of its bytes.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            stat = os.fstat(stream.fileno())
            digest = hashlib.sha256(_LAYOUT + f"{stat.st_size} {stat.st_mtime_ns}".encode())
            for start in (0, stat.st_size // 2, max(0, stat.st_size - _SAMPLE)):
                stream.seek(start)
                digest.update(stream.read(_SAMPLE))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()[:16]


@contextmanager
def appearing(target: Path) -> Iterator[Path | None]:
    """Give a fresh folder whose content becomes `target` when the block ends without an error.

    Processes that want the same target wait for the one that makes it, where the system has file locks; elsewhere each
    makes its own and the first counts. What a killed process left behind is removed.

    Args:
        target: the folder that is to appear.

    Yields:
        The folder to fill, or None when another process has just made the target.

    Raises:
        InputError: writing failed; an OSError of the block counts as that.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target.with_name(f".{target.name}.lock")) as is_alone:
            if is_alone:
                for stale in target.parent.glob(f"{target.name}.*.part"):
                    remove(stale)
            if target.is_dir():
                yield None
                return
            fresh = Path(tempfile.mkdtemp(prefix=f"{target.name}.", suffix=".part", dir=target.parent))
            try:
                yield fresh
                for path in fresh.iterdir():
                    _flush(path)
                _publish(fresh, target)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"the data cache {target.parent} cannot be written: {error.strerror or error}; "
            "free space there, or set GNOMONIC_CACHE to another folder"
        ) from error


@contextmanager
def _alone(lock: Path) -> Iterator[bool]:
    """Hold a lock that ends with the process; False where the system has none."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield False
        return
    with lock.open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield True


def _flush(path: Path) -> None:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def _publish(fresh: Path, target: Path) -> None:
    try:
        fresh.rename(target)
    except OSError:
        # Another process was first, and what it made is the same.
        if not target.is_dir():
            raise


def remove(path: Path) -> None:
    """Delete a file or a folder if that can be done now; a process that has it mapped keeps it."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        logger.info("%s could not be removed: %s", path, error)
