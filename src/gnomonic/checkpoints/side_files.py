"""What a checkpoint folder says beside its weights: pooling, prompts, lengths, post-processing.

Two sources: `gnomonic.json`, which says everything, and the files of sentence-transformers (`modules.json`
and what it names). Both are written on saving, so that sentence-transformers gives the vectors that we give.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gnomonic.catalog import ModelSpec
from gnomonic.checkpoints.safetensors_file import SafetensorsFile, write_safetensors
from gnomonic.errors import CheckpointError, ConfigError
from gnomonic.types import TaskType

__all__ = [
    "SPEC_FILE",
    "apply_sentence_transformers",
    "apply_spec_file",
    "read_json",
    "write_json",
    "write_side_files",
]

SPEC_FILE = "gnomonic.json"

# The keys of gnomonic.json, each with the type of its value.
_SPEC_KEYS: dict[str, type] = {
    "name": str,
    "kind": str,
    "hidden_size": int,
    "max_tokens": int,
    "dims": list,
    "layer_norm": bool,
    "prefixes": dict,
    "license": str,
    "parameters": int,
    "description": str,
}
# What sentence-transformers calls the two sides of a search.
_ALIASES = {TaskType.SEARCH_QUERY: "query", TaskType.SEARCH_DOCUMENT: "document"}
_MODULE = "sentence_transformers.models."


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None when there is no such file.

    Raises:
        CheckpointError: the file cannot be read or is not a JSON object.
    """
    try:
        raw = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: is not valid JSON; the file is damaged ({error})") from error
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path}: holds {type(raw).__name__} instead of a JSON object")
    return raw


def write_json(path: Path, value: object) -> None:
    """Write JSON as people read it; the caller makes the file appear atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def apply_spec_file(spec: ModelSpec, folder: Path) -> ModelSpec | None:
    """Return the spec with everything gnomonic.json says; None when the folder has none.

    Raises:
        CheckpointError: the file is damaged.
        ConfigError: it holds an unknown key, a value of the wrong type, or contradicts config.json.
    """
    path = folder / SPEC_FILE
    raw = read_json(path)
    if raw is None:
        return None
    for key, value in raw.items():
        kind = _SPEC_KEYS.get(key)
        if kind is None:
            raise ConfigError(f"{path}: {key}: unknown setting; known: {', '.join(_SPEC_KEYS)}")
        if type(value) is not kind:
            raise ConfigError(f"{path}: {key} is {value!r}; it must be of type {kind.__name__}")
    dims = tuple(raw.get("dims", ()))
    if any(type(dim) is not int or not 0 < dim <= spec.hidden_size for dim in dims):
        raise ConfigError(f"{path}: dims is {list(dims)}; it must hold whole numbers from 1 to {spec.hidden_size}")
    prefixes = raw.get("prefixes", spec.prefixes)
    if not all(isinstance(text, str) for text in prefixes.values()) or not set(prefixes) <= set(TaskType):
        raise ConfigError(f"{path}: prefixes must map {', '.join(TaskType)} to text; it is {prefixes!r}")
    if raw.get("hidden_size", spec.hidden_size) != spec.hidden_size:
        raise ConfigError(f"{path}: hidden_size is {raw['hidden_size']}, but config.json says {spec.hidden_size}")
    if not 0 < raw.get("max_tokens", spec.max_tokens) <= spec.max_tokens:
        raise ConfigError(f"{path}: max_tokens is {raw['max_tokens']}; config.json allows 1 to {spec.max_tokens}")
    if raw.get("kind", "text") != "text":
        raise ConfigError(f"{path}: kind is {raw['kind']!r}; supported: 'text'")
    values = {**raw, "dims": tuple(sorted(dims, reverse=True)), "prefixes": dict(prefixes)}
    return replace(spec, **values)


def apply_sentence_transformers(spec: ModelSpec, folder: Path) -> ModelSpec:
    """Return the spec with what the sentence-transformers files say.

    The v1 family ends in Normalize and the v1.5 family in Pooling, so a folder with modules.json but without
    Normalize is finished with the v1.5 layer norm; one with a LayerNorm module says so itself.

    Raises:
        CheckpointError: a file is damaged.
        ConfigError: the files ask for a pooling or a module that is not implemented.
    """
    path = folder / "modules.json"
    layer_norm = spec.layer_norm
    if path.is_file():
        modules = _read_modules(path)
        unknown = sorted(set(modules) - {"Transformer", "Pooling", "LayerNorm", "Normalize"})
        if unknown:
            raise ConfigError(f"{path}: the module {', '.join(unknown)} is not implemented")
        _check_pooling(folder / modules.get("Pooling", "1_Pooling") / "config.json")
        if "LayerNorm" in modules:
            _check_layer_norm(folder / modules["LayerNorm"] / "model.safetensors")
        layer_norm = "LayerNorm" in modules or "Normalize" not in modules
    max_tokens = spec.max_tokens
    lengths = read_json(folder / "sentence_bert_config.json") or {}
    limit = lengths.get("max_seq_length")
    if limit is None and path.is_file():
        # Since its release 6, sentence-transformers keeps the limit with the tokenizer.
        limit = (read_json(folder / "tokenizer_config.json") or {}).get("model_max_length")
    if isinstance(limit, int) and limit > 0:
        max_tokens = min(limit, max_tokens)
    prompts = (read_json(folder / "config_sentence_transformers.json") or {}).get("prompts")
    if not isinstance(prompts, dict):
        prompts = {}
    named = {task.value: prompts.get(task.value) or prompts.get(_ALIASES.get(task, "")) for task in TaskType}
    prefixes = {task: text for task, text in named.items() if isinstance(text, str) and text}
    return replace(spec, layer_norm=layer_norm, max_tokens=max_tokens, prefixes={**spec.prefixes, **prefixes})


def _read_modules(path: Path) -> dict[str, str]:
    """Return the class names of modules.json in order, each with the folder of its files."""
    try:
        modules = json.loads(path.read_bytes())
        if not isinstance(modules, list):
            raise TypeError(f"it holds {type(modules).__name__}")
        return {str(module["type"]).rpartition(".")[2]: str(module["path"]) for module in modules}
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: is not a list of modules; the file is damaged ({error})") from error


def _check_pooling(path: Path) -> None:
    pooling = read_json(path) or {}
    mode = pooling.get("pooling_mode", "mean")
    wrong = [key for key, value in pooling.items() if key.startswith("pooling_mode_") and value is True]
    if mode not in ("mean", ["mean"]) or wrong not in ([], ["pooling_mode_mean_tokens"]):
        raise ConfigError(f"{path}: {', '.join(wrong) or mode} is not implemented; supported: mean pooling")
    if pooling.get("include_prompt", True) is not True:
        raise ConfigError(f"{path}: include_prompt=false is not implemented; prefixes are part of the mean")


def _check_layer_norm(path: Path) -> None:
    file = SafetensorsFile(path)
    for name, value in (("norm.weight", 1.0), ("norm.bias", 0.0)):
        if name not in file.entries or not bool((file.read(name) == value).all()):
            raise ConfigError(f"{path}: a layer norm with weights of its own ({name}) is not implemented")


def write_side_files(spec: ModelSpec, folder: Path) -> None:
    """Write gnomonic.json and the sentence-transformers files.

    sentence-transformers gets the whole post-processing as modules, so that its `encode` gives our vectors:
    pooling, for the v1.5 family a layer norm whose weights are one and zero, and the scaling to unit length.
    """
    stored: Mapping[str, Any] = {key: getattr(spec, key) for key in _SPEC_KEYS}
    write_json(folder / SPEC_FILE, {**stored, "dims": list(spec.dims), "prefixes": dict(spec.prefixes)})
    steps = ["Transformer", "Pooling", *(["LayerNorm"] if spec.layer_norm else []), "Normalize"]
    modules: list[dict[str, Any]] = []
    for index, step in enumerate(steps):
        place = "" if index == 0 else f"{index}_{step}"
        modules.append({"idx": index, "name": str(index), "path": place, "type": _MODULE + step})
    write_json(folder / "modules.json", modules)
    # Empty, but git and wheels keep no empty folders.
    write_json(folder / modules[-1]["path"] / "config.json", {})
    pooling = {
        "word_embedding_dimension": spec.hidden_size,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
        "include_prompt": True,
    }
    write_json(folder / "1_Pooling" / "config.json", pooling)
    if spec.layer_norm:
        write_json(folder / "2_LayerNorm" / "config.json", {"dimension": spec.hidden_size})
        one, zero = np.ones(spec.hidden_size, np.float32), np.zeros(spec.hidden_size, np.float32)
        weights = {"norm.weight": ("F32", one), "norm.bias": ("F32", zero)}
        write_safetensors(folder / "2_LayerNorm" / "model.safetensors", weights)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": spec.max_tokens, "do_lower_case": False})
    prompts = dict(spec.prefixes)
    prompts |= {alias: prompts[task] for task, alias in _ALIASES.items() if task in prompts}
    settings = {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    write_json(folder / "config_sentence_transformers.json", settings)
