"""How long work tells where it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["OnProgress", "Progress", "no_progress"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """One report from a stage of a build."""

    stage: str
    """Name of the stage: "embeddings", "neighbors", "projection", …"""
    done: float
    total: float
    unit: str = "rows"
    """What `done` and `total` count."""


OnProgress = Callable[[Progress], None]
"""Called now and then from the thread that builds. An exception from it cancels the build; nothing is published."""


def no_progress(_: Progress) -> None:
    """Tell nobody."""
