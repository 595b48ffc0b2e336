"""Settings of a map's stages, named as the official client names them where it has them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from gnomonic.errors import InputError

__all__ = ["DuplicateOptions", "EmbedOptions", "NeighborOptions", "ProjectionOptions", "TopicOptions"]


class _Options:
    """Reads options from what a caller gave: an object, a mapping, True or None for the defaults."""

    @classmethod
    def read(cls, given: Self | Mapping[str, Any] | bool | None) -> Self:
        """Return the options.

        Args:
            given: options, a mapping of some of them (None means the default), or True or None for the defaults.

        Raises:
            InputError: a name is unknown or a value is outside its range.
        """
        if isinstance(given, cls):
            return given
        if given is None or given is True:
            return cls()
        if not isinstance(given, Mapping):
            raise InputError(f"{cls.__name__} cannot be read from a {type(given).__name__}; give a mapping of options")
        names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        for name in given:
            if name not in names:
                near = difflib.get_close_matches(str(name), names, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; the options are {', '.join(names)}"
                raise InputError(f"{cls.__name__} has no option {name!r}{hint}")
        return cls(**{name: value for name, value in given.items() if value is not None})


def _check(options: object, name: str, low: float, high: float, *, whole: bool = False) -> None:
    value = getattr(options, name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not math.isfinite(value):
        raise InputError(f"{name} {value!r} is not a {'whole ' if whole else ''}number")
    if not low <= value <= high:
        raise InputError(f"{name} {value} is out of range; choose {low} to {high}")


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name} {value!r} is unknown; choose one of {', '.join(choices)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class NeighborOptions(_Options):
    """How the graph of nearest neighbours is made."""

    k: int = 15
    """Neighbours a row, the row itself not counted."""
    metric: str = "cosine"
    """"cosine" or "euclidean"; vectors of up to three dimensions are positions and always euclidean."""
    exact_below: int = 20_000
    """Below this many rows every pair is compared."""

    def __post_init__(self) -> None:
        _check(self, "k", 1, 256, whole=True)
        _check(self, "exact_below", 0, 10_000_000, whole=True)
        _check_choice("metric", self.metric, ("cosine", "euclidean"))


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectionOptions(_Options):
    """How the plane is made; None leaves a value to the size of the data."""

    model: str = "umap"
    """The algorithm; the hosted service's names "nomic-project-v1" and "nomic-project-v2" mean ours too."""
    n_neighbors: int | None = None
    """Neighbours that pull, at most those of the graph; default all of them."""
    n_epochs: int | None = None
    min_dist: float = 0.1
    spread: float = 1.0
    local_neighborhood_size: int | None = None
    """Of the neighbours, how many nearest count fully before weights fall off; default 1, as in UMAP."""
    rho: float | None = None
    """Share of the pull that stays inside a neighbourhood, 0 to 1; accepted for the official client's sake."""

    def __post_init__(self) -> None:
        _check_choice("model", self.model, ("umap", "nomic-project-v1", "nomic-project-v2"))
        _check(self, "n_neighbors", 2, 256, whole=True)
        _check(self, "n_epochs", 1, 10_000, whole=True)
        _check(self, "min_dist", 0.0, 100.0)
        _check(self, "spread", 0.01, 100.0)
        _check(self, "local_neighborhood_size", 1, 256, whole=True)
        _check(self, "rho", 0.0, 1.0)
        if self.min_dist > self.spread:
            raise InputError(f"min_dist {self.min_dist} is larger than spread {self.spread}; choose a smaller one")


@dataclass(frozen=True, kw_only=True, slots=True)
class TopicOptions(_Options):
    """How regions are found and named."""

    build_topic_model: bool = True
    topic_label_field: str | None = None
    """The column whose words name the topics; default the indexed one."""
    cluster_method: str = "fast"
    enforce_topic_hierarchy: bool = False
    """Accepted; every topic here has a parent at the depth above."""
    labels: tuple[str, ...] | None = None
    """Topic labels of the user's own; each region takes the nearest by meaning."""
    naming_url: str | None = None
    """An OpenAI-compatible endpoint that words the names, such as http://127.0.0.1:11434/v1; None for no endpoint."""
    naming_model: str | None = None

    def __post_init__(self) -> None:
        _check_choice("cluster_method", self.cluster_method, ("fast",))


@dataclass(frozen=True, kw_only=True, slots=True)
class DuplicateOptions(_Options):
    """What counts as a duplicate."""

    tag_duplicates: bool = True
    duplicate_cutoff: float = 0.1
    """How near duplicates are: the angle between their vectors as a share of half a turn, 0 to 1 (0.1 is a cosine of
    0.95); or, on maps by euclidean distance, that distance."""

    def __post_init__(self) -> None:
        _check(self, "duplicate_cutoff", 0.0, 2.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbedOptions(_Options):
    """With what, and how, an indexed field is embedded."""

    model: str | None = None
    """Name or folder of a model; default the bundled one."""
    task_type: str = "search_document"
    dimensionality: int | None = None
