"""What is worth keeping in memory, up to so many bytes: the things used last."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

__all__ = ["ByteCache"]

T = TypeVar("T")


class ByteCache:
    """Keeps what was made, by key; safe for threads. What several ask for at once is made once."""

    def __init__(self, limit: int) -> None:
        """Keep at most `limit` bytes; one thing that is larger alone is made every time."""
        self._limit = limit
        self._lock = threading.Lock()
        self._held: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        """How much is kept, in bytes."""
        return self._bytes

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is kept under a key, making it where there is nothing.

        Args:
            key: says everything that the result depends on.
            make: gives an array, bytes, or a tuple or dataclass of such.
        """
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                kept: T = self._held[key][0]
                return kept
            gate = self._making.setdefault(key, threading.Lock())
        with gate:
            with self._lock:
                if key in self._held:
                    kept = self._held[key][0]
                    return kept
            try:
                made = make()
                self._keep(key, made)
            finally:
                with self._lock:
                    self._making.pop(key, None)
        return made

    def _keep(self, key: Hashable, made: Any) -> None:
        size = _bytes_of(made)
        if size > self._limit:
            return
        with self._lock:
            # After a failure two may have made it side by side.
            self._bytes -= self._held.pop(key, (None, 0))[1]
            self._held[key] = (made, size)
            self._bytes += size
            while self._bytes > self._limit:
                self._bytes -= self._held.popitem(last=False)[1][1]


def _bytes_of(value: Any) -> int:
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, tuple | list):
        return sum(map(_bytes_of, value))
    if is_dataclass(value) and not hasattr(value, "nbytes"):
        return sum(_bytes_of(getattr(value, item.name)) for item in fields(value))
    return int(getattr(value, "nbytes", 64))
