"""One writer at a time: a lock on a file, held by one thread of one process.

Whoever wants it stands at a second lock first, so that one that frees it and wants it again at once comes after those
that wait.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from gnomonic.errors import DatasetError

__all__ = ["BUILD_LOCK", "held_since", "hold", "try_hold"]

BUILD_LOCK = "build.lock"
"""File of a dataset's folder whose lock is held while a map is built."""

_RETRY_S = 0.02
_MAX_RETRY_S = 0.05
_NOTE_AT = 1
"""Where the note on the holder begins: Windows forbids reading locked bytes, so the lock is on the byte before it."""


@contextlib.contextmanager
def hold(path: Path, *, wait_s: float = 30.0, busy: str = "another process is writing") -> Iterator[bool]:
    """Hold the lock of a file while the block runs. The system frees it when the process ends, however it ends.

    Args:
        path: the file, made where there is none; it is never removed.
        wait_s: how long to wait for it, in seconds.
        busy: the error's first words when it is not free by then.

    Raises:
        DatasetError: it was not free in time, or the file cannot be opened; says who holds it.
    """
    with _opened(path) as descriptor:
        if not _wait(descriptor, path, wait_s):
            raise DatasetError(
                f"{busy}; waited {wait_s:g} s for {path}, held by {_holder(descriptor)}",
                hint="try again when it has finished",
            )
        with _signed(descriptor):
            yield True


@contextlib.contextmanager
def try_hold(path: Path, *, wait_s: float) -> Iterator[bool]:
    """Hold the lock of a file while the block runs, as `hold` does, or run the block without it; yields which.

    Raises:
        DatasetError: the file cannot be opened.
    """
    with _opened(path) as descriptor:
        if not _wait(descriptor, path, wait_s):
            yield False
            return
        with _signed(descriptor):
            yield True


def held_since(path: Path) -> float | None:
    """Return when the one who holds the lock of a file took it, in seconds since 1970; None where nobody holds it."""
    if not path.is_file():
        return None
    with _opened(path) as descriptor:
        if _try_lock(descriptor):
            _unlock(descriptor)
            return None
        return os.fstat(descriptor).st_mtime


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise DatasetError(f"{path} cannot be opened for locking: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _signed(descriptor: int) -> Iterator[None]:
    _sign(descriptor)
    try:
        yield
    finally:
        _unlock(descriptor)


def _wait(descriptor: int, path: Path, wait_s: float) -> bool:
    """Lock the file; False where it was not free in time."""
    until = time.monotonic() + wait_s
    with _opened(path.with_name(f"{path.name}.next")) as turn:
        if not _retry(turn, until):
            return False
        try:
            return _retry(descriptor, until)
        finally:
            _unlock(turn)


def _retry(descriptor: int, until: float) -> bool:
    pause = _RETRY_S
    while not _try_lock(descriptor):
        left = until - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, _MAX_RETRY_S)
    return True


def _sign(descriptor: int) -> None:
    """Write who holds the lock, for the message to those who wait; a full disk must not stop them."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, f"\nprocess {os.getpid()} on {socket.gethostname()}\n".encode())


def _holder(descriptor: int) -> str:
    try:
        os.lseek(descriptor, _NOTE_AT, os.SEEK_SET)
        return os.read(descriptor, 200).decode("utf-8", "replace").strip() or "an unknown process"
    except OSError:
        return "an unknown process"


if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        # flock belongs to the open file, not to the process, so that two threads exclude each other as well.
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
