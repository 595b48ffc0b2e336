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

__all__ = ["LoopConfig", "ModelConfig", "SourceConfig", "from_mapping", "read_recipe"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig:
    """The part of a recipe that every stage shares."""

    max_steps: int = 0
    """Optimiser steps in the run; 0 lets the stage's epochs decide."""
    learning_rate: float
    """Peak rate, reached after `warmup_steps`."""
    warmup_steps: int = 0
    """Optimiser steps over which the rate rises in a straight line."""
    schedule: str = "cosine"
    """Decay after the warm-up: "cosine", "linear" (both to zero), "inverse_sqrt" or "constant"."""
    weight_decay: float = 0.01
    """Applied to matrices only."""
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-6
    """AdamW's three constants: decay of the mean, of the mean square, and what is added to its root."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm, once per step, after accumulation; 0 leaves them as they are."""
    autocast: str = "bf16"
    """Precision of the products: "bf16" or "fp32"; weights and optimiser state are always float32."""
    compile: bool = False
    """Let torch.compile make the encoder's kernels: minutes at the start; what it gains has not been measured."""
    seed: int = 0
    log_every: int = 10
    """Steps between two lines of metrics.jsonl."""
    checkpoint_every: int = 200
    """Steps between two checkpoints; the last step always writes one."""
    workers: int = 1
    """Threads that make the next batches while the model trains; 0 makes each when it is needed."""
    tensorboard: bool = False
    """Also write the metrics where TensorBoard reads them: OUTPUT/tensorboard."""

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ConfigError: a value is out of range.
        """
        for name in ("max_steps", "warmup_steps", "weight_decay", "max_grad_norm", "workers", "seed"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"loop.{name}: {getattr(self, name)} is negative; give 0 or more")
        for name in ("learning_rate", "eps", "log_every", "checkpoint_every"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"loop.{name}: {getattr(self, name)} is not positive; give more than 0")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"loop.{name}: {getattr(self, name)} is out of range; give 0 or more, below 1")
        choices = {"schedule": ("cosine", "linear", "inverse_sqrt", "constant"), "autocast": ("bf16", "fp32")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                options = f"{', '.join(known[:-1])} or {known[-1]}"
                raise ConfigError(f"loop.{name}: {getattr(self, name)!r} is unknown; choose {options}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Where the run starts: a fresh model of this shape, or the weights of `init`."""

    init: str = ""
    """A model of the catalog, a model folder, or the folder of an earlier run, whose weights the run starts from;
    layers that it lacks start fresh. Empty: everything does."""
    tokenizer: str = ""
    """Folder with tokenizer.json; may be left out when `init` is a model, which brings its own."""
    hidden_size: int | None = None
    """Left out, as every size below: the one of `init`, else 384."""
    num_layers: int | None = None
    """Else 6. Fewer than `init` has takes its first ones."""
    num_heads: int | None = None
    """Else 6."""
    intermediate_size: int | None = None
    """Else 1024."""
    max_positions: int | None = None
    """Longest sequence the model is meant for; else 2048."""
    start_share: float = 0.0
    """How much of the finished model is the start: its weights are (1 - share) × trained + share × start, which keeps
    more of what the start could do (WiSE-FT, arXiv 2109.01903)."""

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ConfigError: a size is not positive (num_layers may be 0: word vectors alone), or `start_share` is no share
                or has no start.
        """
        if not 0.0 <= self.start_share < 1.0:
            raise ConfigError(f"model.start_share: {self.start_share} is not a share; choose 0 to below 1")
        if self.start_share and not self.init:
            raise ConfigError(f"model.start_share: {self.start_share} of what? model.init names no start")
        for name in ("hidden_size", "num_layers", "num_heads", "intermediate_size", "max_positions"):
            value = getattr(self, name)
            if value is not None and value < (name != "num_layers"):
                raise ConfigError(f"model.{name}: {value} is too small; leave it out or choose 1 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceConfig:
    """How rows whose `source` column matches are used."""

    match: tuple[str, ...]
    """Names of sources; a trailing * matches any ending."""
    query_task: str = "search_query"
    document_task: str = "search_document"
    """Tasks whose prefixes go in front of the texts; "" puts nothing there."""
    weight: float = 1.0
    """Multiplies the source's share of the steps; 0 leaves it out."""


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
        if field.name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError(f"{where}{field.name}: this setting has no default and must be given")
    return cls(**values)


def read_recipe(
    path: Path | None,
    cls: type[T],
    *,
    defaults: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> T:
    """Read a stage's settings from a recipe, from what a caller sets, or from both.

    Args:
        path: a TOML file; None when there is none.
        cls: the stage's settings, such as ContrastiveConfig.
        defaults: nested tables that count where the recipe is silent.
        overrides: nested tables that count whatever the recipe says.

    Raises:
        ConfigError: the file cannot be read or holds a wrong setting; the message names file and key.
    """
    try:
        recipe = tomllib.loads(path.read_text(encoding="utf-8-sig")) if path is not None else {}
        return from_mapping(cls, _merged(_merged(defaults or {}, recipe), overrides or {}))
    except OSError as error:
        raise ConfigError(f"recipe {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ConfigError) as error:
        raise ConfigError(f"{path}: {error}" if path is not None else str(error)) from error


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return base with the keys of `over` put on top, table by table."""
    both = {
        key: _merged(base[key], value) if isinstance(value, Mapping) and isinstance(base.get(key), Mapping) else value
        for key, value in over.items()
    }
    return {**base, **both}
