"""Known models as data: what a name means, where its files come from and how its vectors are finished."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from gnomonic.errors import UnknownModelError

__all__ = ["DEFAULT_TEXT_MODEL", "DEFAULT_VISION_MODEL", "ModelSpec", "find", "known_models"]

DEFAULT_TEXT_MODEL = "gnomonic-embed-text-mini"
DEFAULT_VISION_MODEL = "nomic-embed-vision-v1.5"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """Everything about a model that is not in its weights."""

    name: str
    kind: str = "text"
    """"text" or "vision"."""
    hidden_size: int
    max_tokens: int = 8192
    """Longest sequence, prefix and special tokens included."""
    dims: tuple[int, ...] = ()
    """Matryoshka sizes the model was trained for, largest first; empty: only the full width is meant."""
    layer_norm: bool = False
    """The v1.5 family: layer norm without affine over the full width, before truncation."""
    prefixes: Mapping[str, str] = field(default_factory=dict)
    """task type -> text put before the input, such as "search_query: "."""
    repo: str = ""
    """Hub repository; empty for bundled models and folders."""
    revision: str = ""
    """Full commit hash the files are taken from."""
    files: Mapping[str, str] = field(default_factory=dict)
    """file name -> sha256 in hex, empty where the published digest is not known."""
    bundled: bool = False
    license: str = ""
    parameters: int = 0
    description: str = ""
    golden: tuple[Mapping[str, Any], ...] = ()
    """Stored probes: {"text", "values": first raw pooled values, "tolerance", "source"}."""

    @property
    def min_dim(self) -> int:
        """Smallest size the model was trained for; smaller ones work and warn."""
        return min(self.dims, default=self.hidden_size)


@cache
def known_models() -> Mapping[str, ModelSpec]:
    """Return every model of the catalog by name."""
    raw = tomllib.loads((Path(__file__).parent / "catalog.toml").read_text(encoding="utf-8"))
    prefixes = {task: f"{task}: " for task in ("search_query", "search_document", "classification", "clustering")}
    models = {}
    for name, entry in raw.items():
        entry = dict(entry)
        entry["dims"] = tuple(entry.get("dims", ()))
        entry["golden"] = tuple(entry.get("golden", ()))
        entry.setdefault("prefixes", prefixes if entry.get("kind", "text") == "text" else {})
        models[name] = ModelSpec(name=name, **entry)
    return models


def find(name: str) -> ModelSpec:
    """Return the spec of a catalog name; `nomic-ai/NAME` works as well.

    Raises:
        UnknownModelError: the catalog has no such name; the message lists close ones.
    """
    models = known_models()
    short = name.removeprefix("nomic-ai/")
    if short in models:
        return models[short]
    import difflib

    near = difflib.get_close_matches(short, models, n=1, cutoff=0.5)
    meant = f"did you mean {near[0]!r}? " if near else ""
    raise UnknownModelError(
        f"model {name!r} is neither in the catalog nor a folder; {meant}known models: {', '.join(models)}"
    )
