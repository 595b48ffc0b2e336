"""What calls took on this machine and on servers, kept in CACHE/speeds.json; and which servers are left alone for now.

One entry per model, precision, device, CPU, number of threads and package version for this machine; one per address
and model for a server. No texts, no keys. A file that is damaged, missing or not writable costs a few guesses.
"""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

from gnomonic import __version__
from gnomonic.client.choose import Speed, Work, fade, learn

__all__ = ["Speeds", "local_key", "remote_key", "speeds_in"]

logger = logging.getLogger(__name__)

_FILE = "speeds.json"
_VERSION = 1
_MAX_ENTRIES = 500
# A machine stays what it is; a network and the load of a server do not.
_HALF_LIFE_S = {"local": 7 * 24 * 3600.0, "remote": 3600.0}
# A process killed in between forgets this much.
_WRITE_EVERY_S = 5.0


class Speeds:
    """Measured speeds by key. Safe to use from several threads; several processes share the file.

    Args:
        path: the file; its folder is made when there is something to keep.
        clock: seconds since 1970.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._speeds = _read(path)
        self._fresh: set[str] = set()
        self._written_at = -math.inf
        self._shunned: dict[str, tuple[float, float]] = {}

    def speed(self, key: str, prior: Speed) -> Speed:
        """Return what is known of a key, faded towards the prior with time; the prior when nothing is."""
        with self._lock:
            known = self._speeds.get(key)
        if known is None:
            return prior
        return fade(known, prior, now=self._clock(), half_life_s=_HALF_LIFE_S[key.partition("|")[0]])

    def learn(self, key: str, prior: Speed, work: Work, seconds: float, *, open_s: float | None = None) -> None:
        """Take in what a call took.

        Args:
            key: of `local_key` or `remote_key`.
            prior: what is believed of a key that was never measured.
            work: what the call embedded; nothing is learnt from a call without texts.
            seconds: what it took, without opening the model.
            open_s: what opening took, where it was done.
        """
        if not work.texts:
            return
        now = self._clock()
        believed = self.speed(key, prior)
        learnt = learn(believed, work, seconds, now=now)
        if open_s is not None:
            learnt = replace(learnt, open_s=open_s if not believed.calls else (believed.open_s + open_s) / 2)
        with self._lock:
            self._speeds[key] = learnt
            self._fresh.add(key)
            # A clock that was set back must not stop the writing.
            if not 0 <= now - self._written_at < _WRITE_EVERY_S:
                self._written_at = now
                self._write()

    def shun(self, key: str, seconds: float) -> None:
        """Leave a server alone for so long; kept in memory only."""
        with self._lock:
            self._shunned[key] = self._clock(), seconds

    def is_shunned(self, key: str) -> bool:
        """Tell whether a server is left alone."""
        with self._lock:
            since, seconds = self._shunned.get(key, (0.0, 0.0))
            return 0 <= self._clock() - since < seconds

    def _write(self) -> None:
        """Put this process's measurements into the file, by one rename; the others' stay."""
        merged = {**_read(self._path), **{key: self._speeds[key] for key in self._fresh}}
        newest = sorted(merged, key=lambda key: merged[key].measured_at)[-_MAX_ENTRIES:]
        entries = {key: asdict(merged[key]) for key in newest}
        draft = self._path.with_name(f"{_FILE}.{os.getpid()}.{threading.get_ident()}.tmp")
        try:
            draft.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps({"version": _VERSION, "speeds": entries}, indent=1), encoding="utf-8")
            draft.replace(self._path)
        except OSError as error:
            logger.debug("%s cannot be written: %s", self._path, error)
            with suppress(OSError):
                draft.unlink()


def local_key(model: str, device: str | None, threads: int) -> str:
    """Return the key of a model on this machine."""
    return f"local|{model}|auto|{device or 'cpu'}|{_cpu()}|{threads} threads|{__version__}"


def remote_key(url: str, model: str) -> str:
    """Return the key of a model on a server."""
    return f"remote|{url}|{model}"


@cache
def _cpu() -> str:
    """Return the name of this machine's CPU."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _read(path: Path) -> dict[str, Speed]:
    """Return the entries of the file that make sense."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        entries = raw["speeds"].items() if raw["version"] == _VERSION else ()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
    return {key: speed for key, fields in entries if (speed := _sane(fields)) is not None}


def _sane(fields: Any) -> Speed | None:
    try:
        speed = Speed(**fields)
        numbers = (speed.call_s, speed.tokens_per_s, speed.open_s, speed.measured_at, speed.calls)
        is_sane = all(math.isfinite(number) for number in numbers) and type(speed.calls) is int
        is_sane = is_sane and speed.call_s > 0 and speed.tokens_per_s > 0 and speed.open_s >= 0 and speed.calls >= 0
    except TypeError:
        return None
    return speed if is_sane else None


_known: dict[Path, Speeds] = {}


def speeds_in(cache_dir: Path) -> Speeds:
    """Return the speeds kept in a cache folder, the same object for every call of this process."""
    path = cache_dir / _FILE
    # setdefault: of two threads that come first, both get the one that stays.
    return _known.get(path) or _known.setdefault(path, Speeds(path))


# A lock may be held by another thread of the parent; what it had not written is learnt again.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_known.clear)
