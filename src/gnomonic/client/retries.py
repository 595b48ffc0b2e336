"""When a failed request is tried again, and after how long. No network, no clock of its own."""

from __future__ import annotations

import email.utils
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from enum import Enum

from gnomonic.errors import GnomonicError

__all__ = ["Attempts", "Failure", "Patience", "Tries", "retry_after_s", "tries_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long a remote call waits and tries."""

    attempts: int = 5
    """Requests sent for one part of a call, the first included."""
    connect_attempts: int = 5
    """The same where no connection comes about."""
    backoff_s: float = 0.5
    """Bound of the first pause; it doubles with each one."""
    max_backoff_s: float = 20.0
    max_retry_after_s: float = 60.0
    """The longest pause a server is granted."""
    connect_s: float = 10.0
    read_s: float = 120.0
    """Longest silence of the server; also for sending."""
    deadline_s: float = 3600.0
    """For the whole call."""
    in_flight: int = 8
    """Requests at once."""


class Tries(Enum):
    """How often a kind of failure is worth another try."""

    NEVER = "never"
    ONCE = "once"
    CONNECT = "connect"
    OFTEN = "often"


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A request that did not bring vectors."""

    error: GnomonicError
    tries: Tries
    retry_after_s: float | None = None
    """What the server asks for."""


class Attempts:
    """The tries of one request so far.

    Args:
        patience: the bounds.
        jitter: returns a number from 0 to 1.
    """

    def __init__(self, patience: Patience, jitter: Callable[[], float]) -> None:
        self._patience = patience
        self._jitter = jitter
        self._made = 0
        self._of: dict[Tries, int] = {}

    def pause_s(self, failure: Failure, left_s: float) -> float | None:
        """Return the seconds to wait before the next try; None when there is none.

        The pause is drawn between nothing and the exponential bound ("full jitter"), so that clients that failed
        together do not come back together; it comes on top of what the server asks for.

        Args:
            failure: what just happened.
            left_s: time until the call's deadline.
        """
        self._made += 1
        self._of[failure.tries] = self._of.get(failure.tries, 0) + 1
        allowed = {
            Tries.NEVER: 1,
            Tries.ONCE: 2,
            Tries.CONNECT: self._patience.connect_attempts,
            Tries.OFTEN: self._patience.attempts,
        }[failure.tries]
        if self._of[failure.tries] >= allowed or self._made >= self._patience.attempts:
            return None
        bound = min(self._patience.backoff_s * 2 ** (self._made - 1), self._patience.max_backoff_s)
        asked = min(failure.retry_after_s or 0.0, self._patience.max_retry_after_s)
        pause = asked + self._jitter() * bound
        return pause if pause < left_s else None


def tries_of(status: int) -> Tries:
    """Return how often an HTTP status is worth another try."""
    if status in (408, 429, 502, 503, 504):
        return Tries.OFTEN
    return Tries.ONCE if status == 500 else Tries.NEVER


def retry_after_s(value: str | None, *, now: float) -> float | None:
    """Read a Retry-After header: seconds, or an HTTP date.

    Args:
        value: the header; None where there is none.
        now: seconds since 1970.

    Returns:
        Seconds from now, never negative; None where the header says nothing usable.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = email.utils.parsedate_to_datetime(value)
        except (ValueError, TypeError, IndexError):
            return None
        seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
    return max(seconds, 0.0) if math.isfinite(seconds) else None
