"""Recipes: TOML files read strictly into frozen dataclasses, one per component of a training run."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from gnomonic.errors import ConfigError

__all__ = ["ContrastiveConfig", "LoopConfig", "ModelConfig", "SourceConfig", "from_mapping", "read_recipe"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig:
    """The part of a recipe that every stage shares."""

    max_steps: int
    """Optimiser steps in the run."""
    learning_rate: float
    """Peak rate, reached after `warmup_steps`."""
    warmup_steps: int = 0
    schedule: str = "cosine"
    """Decay after the warm-up: "cosine", "linear" (both to zero) or "constant"."""
    weight_decay: float = 0.01
    """Applied to matrices only."""
    beta2: float = 0.98
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm, once per step, after accumulation."""
    autocast: str = "bf16"
    """Precision of the products: "bf16" or "fp32"; weights and optimiser state are always float32."""
    seed: int = 0
    log_every: int = 10
    """Steps between two lines of metrics.jsonl."""
    checkpoint_every: int = 200
    """Steps between two checkpoints; the last step always writes one."""

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ConfigError: a value is out of range.
        """
        if self.max_steps < 1 or self.warmup_steps < 0 or self.learning_rate <= 0:
            raise ConfigError("loop: max_steps and learning_rate must be positive, warmup_steps not negative")
        if self.schedule not in ("cosine", "linear", "constant"):
            raise ConfigError(f"loop.schedule: {self.schedule!r} is unknown; choose cosine, linear or constant")
        if self.autocast not in ("bf16", "fp32"):
            raise ConfigError(f"loop.autocast: {self.autocast!r} is unknown; choose bf16 or fp32")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Where the run starts: a fresh model of this shape, or the weights of `init`."""

    tokenizer: str
    """Folder with tokenizer.json."""
    init: str = ""
    """Folder whose weights the run starts from; layers that it lacks start fresh."""
    hidden_size: int = 384
    num_layers: int = 6
    num_heads: int = 6
    intermediate_size: int = 1024
    max_positions: int = 2048


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceConfig:
    """How rows whose `source` column matches are used."""

    match: tuple[str, ...]
    """Names of sources; a trailing * matches any ending."""
    query_task: str = "search_query"
    document_task: str = "search_document"
    weight: float = 1.0
    """Multiplies the source's share of the steps; 0 leaves it out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ContrastiveConfig:
    """A contrastive run on pairs."""

    loop: LoopConfig
    model: ModelConfig
    data: tuple[str, ...]
    """Files with `query`, `document` and `source` columns; paths are relative to the recipe, * is allowed."""
    batch_size: int
    """Pairs per step, all from one source."""
    query_tokens: int = 32
    """Longest query, prefix and special tokens included."""
    document_tokens: int = 96
    temperature: float = 0.05
    dims: tuple[int, ...] = (384, 256, 128, 64)
    """Matryoshka sizes; their losses are averaged."""
    size_exponent: float = 0.7
    """A source is drawn in proportion to (rows × weight) to this power."""
    sources: tuple[SourceConfig, ...] = ()
    """The first entry that matches a source counts; a source without one takes the defaults."""


def _check_leaf(kind: Any, value: Any, where: str) -> Any:
    """Return the value as the annotation wants it, or say what was wanted."""
    origin = get_origin(kind)
    if origin is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{where}: {value!r} is not a list")
        inner = get_args(kind)[0]
        return tuple(_check_leaf(inner, item, f"{where}[{i}]") for i, item in enumerate(value))
    if isinstance(kind, type) and is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: {value!r} is not a table")
        return from_mapping(kind, value, f"{where}.")
    allowed = get_args(kind) if origin is UnionType else (kind,)
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) not in allowed:
        names = " or ".join(getattr(item, "__name__", str(item)) for item in allowed)
        raise ConfigError(f"{where}: {value!r} is a {type(value).__name__}; it must be {names}")
    return value


def from_mapping(cls: type[T], data: Mapping[str, Any], where: str = "") -> T:
    """Build a settings dataclass from parsed TOML.

    Args:
        cls: the dataclass.
        data: its table.
        where: dotted prefix for messages, ending in a dot.

    Raises:
        ConfigError: an unknown key (with a suggestion), a missing key, or a value of the wrong type.
    """
    hints = get_type_hints(cls)
    for key in data:
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            raise ConfigError(f"{where}{key}: unknown setting" + (f"; did you mean {near[0]!r}?" if near else ""))
    values = {key: _check_leaf(hints[key], value, f"{where}{key}") for key, value in data.items()}
    for field in fields(cls):  # type: ignore[arg-type]
        if field.name not in values and field.default is MISSING:
            raise ConfigError(f"{where}{field.name}: this setting has no default and must be given")
    return cls(**values)


def read_recipe(path: Path) -> ContrastiveConfig:
    """Read a contrastive recipe.

    Raises:
        ConfigError: the file cannot be read or holds a wrong setting; the message names file and key.
    """
    try:
        return from_mapping(ContrastiveConfig, tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"recipe {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, ConfigError) as error:
        raise ConfigError(f"{path}: {error}") from error
