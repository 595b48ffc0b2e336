"""Dynamic mode: whether this machine or the server is predicted to answer first. Pure arithmetic.

A call on either side is predicted to take `open_s + call_s + tokens / tokens_per_s`. The numbers start from a prior and
are corrected by what each call took; what was measured long ago fades back to the prior, so that a side that once was
slow is tried again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

__all__ = ["PRIOR_REMOTE", "Choice", "Speed", "Work", "choose", "fade", "learn", "prior_local"]

# Only comparisons matter, and speeds are measured in the same unit: a rough count is as good as an exact one.
_CHARACTERS_PER_TOKEN = 4
_TOKENS_PER_TEXT = 8  # prefix and special tokens

# What a CPU of the last years does in a small matrix product, floating-point operations per second and CPU.
_CPU_FLOPS = 1e11
_BYTES_PER_PARAMETER = 4
_READ_BYTES_PER_S = 5e8
_DOWNLOAD_BYTES_PER_S = 1e7

# The share of a new measurement in the average; the first ones count fully, then by their number.
_SHARE = 0.25


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What a call has to embed."""

    texts: int
    tokens: float
    """Estimated, prefixes and special tokens included."""

    @classmethod
    def of(cls, texts: Sequence[str], max_tokens_per_text: int) -> Self:
        """Estimate the work from the number of characters; what is cut off costs nothing."""
        longest = max_tokens_per_text * _CHARACTERS_PER_TOKEN
        characters = sum(min(len(text), longest) for text in texts)
        return cls(texts=len(texts), tokens=characters / _CHARACTERS_PER_TOKEN + _TOKENS_PER_TEXT * len(texts))


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """How fast one side is."""

    call_s: float
    """Seconds of any call, however small: the round trip to a server, the overhead of a local call."""
    tokens_per_s: float
    open_s: float = 0.0
    """Seconds until the model is ready; 0 where it is, and for a server."""
    calls: int = 0
    """Number of measurements."""
    measured_at: float = 0.0
    """Time of the last one, in seconds since 1970."""

    def seconds(self, work: Work) -> float:
        """Return how long a call is predicted to take."""
        return self.open_s + self.call_s + work.tokens / self.tokens_per_s


PRIOR_REMOTE = Speed(call_s=0.05, tokens_per_s=20_000)
"""A server that was never asked: a 50 ms round trip and a busy GPU's share."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Where a call is made, and why."""

    mode: Literal["local", "remote"]
    predicted_local_s: float | None
    """None when the model cannot be had here."""
    predicted_remote_s: float | None
    """None when there is no server, or none that answers."""


def choose(work: Work, local: Speed | None, remote: Speed | None) -> Choice:
    """Choose the side that is predicted to finish first; this machine when they are equal or there is neither.

    Args:
        work: what the call has to embed.
        local: this machine with this model; None when the model cannot be had here.
        remote: the server; None when there is none, or none that answers.
    """
    local_s = None if local is None else local.seconds(work)
    remote_s = None if remote is None else remote.seconds(work)
    is_remote = remote_s is not None and (local_s is None or remote_s < local_s)
    return Choice(mode="remote" if is_remote else "local", predicted_local_s=local_s, predicted_remote_s=remote_s)


def prior_local(parameters: int, cpus: int, *, download: bool = False) -> Speed:
    """Return the guess for a model that was never run here: two operations for each parameter and token.

    Args:
        parameters: number of weights of the model.
        cpus: CPUs this process may use.
        download: whether the files have to be fetched first.
    """
    size_bytes = parameters * _BYTES_PER_PARAMETER
    open_s = 0.5 + size_bytes / _READ_BYTES_PER_S + (size_bytes / _DOWNLOAD_BYTES_PER_S if download else 0)
    return Speed(call_s=0.005, tokens_per_s=_CPU_FLOPS * cpus / (2 * parameters), open_s=open_s)


def learn(speed: Speed, work: Work, seconds: float, *, now: float) -> Speed:
    """Return the speed corrected by one call, an exponential average of the logarithms.

    A call that took longer than predicted may have had a longer way or a slower engine. The larger share of the
    prediction is corrected in full and the other in proportion, so that small calls teach the one and large calls the
    other.

    Args:
        speed: what was believed.
        work: what the call embedded.
        seconds: what it took, without opening the model.
        now: seconds since 1970.
    """
    predicted = speed.call_s + work.tokens / speed.tokens_per_s
    ratio = max(seconds, 1e-6) / predicted
    share = speed.call_s / predicted
    weight = max(1 / (speed.calls + 1), _SHARE) / max(share, 1 - share)
    return replace(
        speed,
        call_s=_bounded(speed.call_s * ratio ** (weight * share)),
        tokens_per_s=_bounded(speed.tokens_per_s / ratio ** (weight * (1 - share))),
        calls=speed.calls + 1,
        measured_at=now,
    )


def fade(speed: Speed, prior: Speed, *, now: float, half_life_s: float) -> Speed:
    """Return the speed between measurement and prior: half-way, in logarithms, after a half-life."""
    kept = 0.5 ** (max(now - speed.measured_at, 0) / half_life_s)
    return replace(
        speed,
        call_s=speed.call_s**kept * prior.call_s ** (1 - kept),
        tokens_per_s=speed.tokens_per_s**kept * prior.tokens_per_s ** (1 - kept),
    )


def _bounded(value: float) -> float:
    """Keep a clock's jump from leaving a number that never recovers."""
    return min(max(value, 1e-6), 1e9)
