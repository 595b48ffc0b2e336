"""Requests a minute of each API key, counted over all processes of one machine.

Every worker opens the same small file. It holds a fixed number of slots, each a token bucket: the id of a key, the
requests it may still send, and when that was. A request takes the file's lock, reads the few slots its id may be in,
and writes one back. The file is read and written rather than mapped: a mapped file that somebody truncates ends the
process with SIGBUS.

The bucket holds one minute's requests and fills at that rate, so a key that was idle may send them all at once.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import math
import os
import stat
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from gnomonic.errors import OverloadedError

__all__ = ["RateLimiter", "rates_path"]

logger = logging.getLogger(__name__)

_MAGIC = b"GNOMONIC-RATES-1"
_SLOT = struct.Struct("<16sdd")  # key id, requests left, seconds of the steady clock
_SLOTS = 4096
_WINDOW = 16
"""Slots an id may be in, next to each other. The one longest unused gives way when all are taken."""
_SIZE = len(_MAGIC) + (_SLOTS + _WINDOW) * _SLOT.size


def rates_path(keys_file: Path) -> Path:
    """Return where the counts of a file of keys belong: beside it, or in the system's folder for temporary files.

    The second is for keys on a read-only mount. What is lost with the file is a minute's counts.
    """
    if os.access(keys_file.parent, os.W_OK):
        return keys_file.with_name(f".{keys_file.name}.rates")
    digest = hashlib.sha256(str(keys_file.resolve()).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"gnomonic-{digest}.rates"


class RateLimiter:
    """Token buckets in a file that the processes of a machine share.

    Where the file cannot be used (a full disk, another user's file), requests pass uncounted and the log says so: a
    limit keeps keys fair to each other, and is no reason to serve nobody.

    Args:
        path: the file of counts; made when it is first needed.
        clock: seconds of a clock that all processes see alike. The default counts from the machine's start, so a
            change of the date neither fills nor empties a bucket.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock = clock
        self._file: FileIO | None = None
        self._threads = threading.Lock()
        self._told = False

    def take(self, key_id: str, per_minute: int | None) -> None:
        """Count one request.

        Args:
            key_id: of at most 16 ASCII characters.
            per_minute: requests a minute; None for no limit.

        Raises:
            OverloadedError: the key has used them up; `retry_after_s` says when the next one is free.
        """
        if per_minute is None:
            return
        try:
            left = self._count(key_id.encode(), float(per_minute))
        except OSError as error:
            if not self._told:
                logger.error("requests are not counted: %s cannot be used: %s", self.path, error.strerror or error)
            self._told = True
            return
        self._told = False
        if left < 1:
            wait_s = (1 - left) * 60 / per_minute
            raise OverloadedError(
                f"the API key {key_id} has used up its {per_minute} requests a minute; try again in {wait_s:.1f} s",
                retry_after_s=wait_s,
            )

    def close(self) -> None:
        """Close the file; the next request opens it again."""
        with self._threads:
            self._drop()

    def _count(self, key: bytes, full: float) -> float:
        """Take one request from a key's bucket if there is one; return what was there."""
        with self._locked() as file:
            place, left, then = self._find(file, key, full)
            now = self._clock()
            # After a restart of the machine the clock is behind what the file says: nothing is added then.
            left = min(full, left + max(0.0, now - then) * full / 60)
            file.seek(place)
            file.write(_SLOT.pack(key, left - 1 if left >= 1 else left, now))
        return left

    def _find(self, file: FileIO, key: bytes, full: float) -> tuple[int, float, float]:
        """Return a key's offset in the file, what it had left, and when; a new key has a full bucket."""
        first = int.from_bytes(hashlib.sha256(key).digest()[:4], "big") % _SLOTS
        begin = len(_MAGIC) + first * _SLOT.size
        file.seek(begin)
        slots = [
            (begin + at * _SLOT.size, name.rstrip(b"\0"), left, then)
            for at, (name, left, then) in enumerate(_SLOT.iter_unpack(file.read(_WINDOW * _SLOT.size)))
        ]
        for place, name, left, then in slots:
            # A damaged slot, NaN included, fails the comparison and begins anew.
            if name == key and 0 <= left < math.inf and abs(then) < math.inf:
                return place, left, then
        free = [place for place, name, _, _ in slots if name in (b"", key)]
        return free[0] if free else min(slots, key=lambda slot: slot[3])[0], full, self._clock()

    @contextmanager
    def _locked(self) -> Iterator[FileIO]:
        """Hold the file against the other threads and processes."""
        with self._threads:
            file = self._open()
            with _held(file):
                file.seek(0)
                if file.read(len(_MAGIC)) != _MAGIC or os.fstat(file.fileno()).st_size != _SIZE:
                    file.truncate(0)
                    file.truncate(_SIZE)
                    file.seek(0)
                    file.write(_MAGIC)
                yield file

    def _open(self) -> FileIO:
        if self._file is not None and os.fstat(self._file.fileno()).st_nlink == 0:  # deleted: the others use a new one
            self._drop()
        if self._file is None:
            # In a folder open to all, another user must not make us write elsewhere or read our counts.
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
            file = FileIO(os.open(self.path, flags, 0o600), "r+")
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or (hasattr(os, "geteuid") and status.st_uid != os.geteuid()):
                file.close()
                raise PermissionError(errno.EPERM, "it is not a plain file of this user")
            self._file = file
        return self._file

    def _drop(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


@contextmanager
def _held(file: FileIO) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    # lockf, not flock: its locks belong to the process, so workers that inherited the open file exclude each other.
    fcntl.lockf(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.lockf(file, fcntl.LOCK_UN)
