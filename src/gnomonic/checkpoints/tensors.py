"""The weights of a checkpoint folder under one set of names, whichever layout they were saved in.

Canonical names are those of the published checkpoints (`encoder.layers.0.attn.Wqkv.weight`). Read as well:
native transformers names (`layers.0.self_attn.q_proj.weight`, also behind `nomic_bert.` or `model.`), masked
language model checkpoints (`bert.` and a `cls.` head) and training checkpoints (`trunk.`). No torch is
needed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.checkpoints.safetensors_file import SafetensorsFile
from gnomonic.errors import CheckpointError
from gnomonic.models.config import NomicBertConfig

__all__ = ["expected_tensors", "read_tensors"]

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_WORD_TABLE = "embeddings.word_embeddings.weight"
_PREFIXES = ("", "bert.", "trunk.", "nomic_bert.", "model.")
_HEAD = "cls.predictions."
_TIED = f"{_HEAD}decoder.weight"
# Biases of the native masked-language-model head, which the published head does not have.
_HEAD_BIASES = (f"{_HEAD}bias", f"{_HEAD}decoder.bias", f"{_HEAD}transform.dense.bias")

# native transformers name -> canonical name, inside a layer
_NATIVE_PARTS = {
    "self_attn.o_proj": "attn.out_proj",
    "post_attention_layernorm": "norm1",
    "post_mlp_layernorm": "norm2",
    "mlp.up_proj": "mlp.fc11",
    "mlp.gate_proj": "mlp.fc12",
    "mlp.down_proj": "mlp.fc2",
}
_NATIVE_LAYER = re.compile(r"layers\.(\d+)\.(.+)\.(weight|bias)")
_NATIVE_QKV = re.compile(r"layers\.(\d+)\.self_attn\.([qkv])_proj\.weight")


def expected_tensors(config: NomicBertConfig, *, head: bool = False) -> dict[str, tuple[int, ...]]:
    """Return the canonical name and shape of every tensor, in the order of the model.

    Args:
        config: the model's shape.
        head: the masked-language-model checkpoint: the encoder behind `bert.`, with the `cls.` head.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    norm = {"weight": (hidden,), "bias": (hidden,)}
    names: dict[str, tuple[int, ...]] = {
        _WORD_TABLE: (config.vocab_size, hidden),
        "embeddings.token_type_embeddings.weight": (config.type_vocab_size, hidden),
    }
    names |= {f"emb_ln.{part}": shape for part, shape in norm.items()}
    for layer in range(config.num_layers):
        base = f"encoder.layers.{layer}"
        names[f"{base}.attn.Wqkv.weight"] = (3 * hidden, hidden)
        names[f"{base}.attn.out_proj.weight"] = (hidden, hidden)
        names |= {f"{base}.norm1.{part}": shape for part, shape in norm.items()}
        names[f"{base}.mlp.fc11.weight"] = (inner, hidden)
        names[f"{base}.mlp.fc12.weight"] = (inner, hidden)
        names[f"{base}.mlp.fc2.weight"] = (hidden, inner)
        names |= {f"{base}.norm2.{part}": shape for part, shape in norm.items()}
    if head:
        names = {f"bert.{name}": shape for name, shape in names.items()}
        names[f"{_HEAD}transform.dense.weight"] = (hidden, hidden)
        names |= {f"{_HEAD}transform.layer_norm.{part}": shape for part, shape in norm.items()}
        names[_TIED] = (config.vocab_size, hidden)
    return names


def read_tensors(folder: Path, config: NomicBertConfig, *, head: bool = False) -> dict[str, NDArray[Any]]:
    """Read a checkpoint's weights under their canonical names.

    Args:
        folder: holds model.safetensors, or its shards and model.safetensors.index.json.
        config: the shape the weights must have.
        head: read the masked-language-model head too, and name the encoder's tensors behind `bert.`;
            without it a head in the checkpoint is left out.

    Returns:
        name -> values, exactly the names and shapes of `expected_tensors`, read-only. float32 and float16 are
        views of the mapped files where the layout allows it; bfloat16 is widened to float32.

    Raises:
        CheckpointError: files are absent, cut off or damaged; tensors are missing, unexpected or mis-shaped
            (one error lists all); a value is not finite.
    """
    files = _open(Path(folder))
    where = {name: file for file in files for name in file.entries}
    expected = expected_tensors(config, head=head)
    found = _match(where, expected, head=head)
    problems = found.problems(expected)
    if problems:
        raise CheckpointError(
            f"{folder}: the weights do not fit the configuration ({config.num_layers} layers × "
            f"{config.hidden_size}, vocabulary {config.vocab_size}); " + "; ".join(problems),
            hint="check that config.json and the safetensors files belong to the same NomicBERT text model",
        )
    for file in files:
        file.check_digest()
    tensors = {}
    for name in expected:
        sources = found.sources(name)
        parts = [where[source].read(source) for source in sources]
        values = parts[0] if len(parts) == 1 else np.concatenate(parts)
        _check_finite(values, sources, where[sources[0]].path)
        values.flags.writeable = False
        tensors[name] = values
    if head:
        _check_head(tensors, where, Path(folder))
    return tensors


def _open(folder: Path) -> list[SafetensorsFile]:
    """Open the weights of a folder: the single file, else the shards its index names."""
    if (folder / _SINGLE).exists():
        return [SafetensorsFile(folder / _SINGLE)]
    if not (folder / _INDEX).exists():
        pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
        hint = f"{', '.join(pickled)}: pickled weights are never read; convert them to safetensors" if pickled else ""
        raise CheckpointError(f"{folder}: holds neither {_SINGLE} nor {_INDEX}", hint=hint)
    weight_map = _read_index(folder / _INDEX)
    names = sorted(set(weight_map.values()))
    absent = [name for name in names if not (folder / name).is_file()]
    if absent:
        raise CheckpointError(f"{folder}: {_INDEX} names shards that are absent: {', '.join(absent)}")
    files = [SafetensorsFile(folder / name) for name in names]
    found = {(name, file.path.name) for file in files for name in file.entries}
    astray = sorted({name for name, _ in found ^ set(weight_map.items())})
    if astray:
        raise CheckpointError(f"{folder}: {_INDEX} and the shards disagree about: {', '.join(astray)}")
    return files


def _read_index(path: Path) -> dict[str, str]:
    try:
        index = json.loads(path.read_bytes())
        weight_map = index["weight_map"]
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: is damaged: no weight_map in it ({error})") from error
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{path}: weight_map must be a map from tensor names to file names")
    for shard in weight_map.values():
        # A shard lies beside its index; anything else could read outside the folder.
        if not isinstance(shard, str) or Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise CheckpointError(f"{path}: {shard!r} is not the name of a safetensors file in the same folder")
    return weight_map


@dataclass(slots=True)
class _Match:
    """Which tensors of the files make up each canonical tensor, and what does not fit."""

    parts: dict[str, dict[str, str]] = field(default_factory=dict)
    """canonical name -> {"": name in the file}, or {"q": …, "k": …, "v": …}: thirds of a fused projection."""
    unexpected: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)

    def sources(self, target: str) -> list[str]:
        """Return the names in the file, in the order they are joined; empty when any is missing."""
        parts = self.parts.get(target, {})
        if len(parts) == 3:
            return [parts[third] for third in "qkv"]
        return [parts[""]] if "" in parts else []

    def problems(self, expected: Mapping[str, tuple[int, ...]]) -> list[str]:
        """Return one line per kind of problem; empty when just the expected tensors were found."""
        missing = [
            f"{target} ({' and '.join(third for third in 'qkv' if third not in parts)})" if parts else target
            for target in expected
            if not self.sources(target)
            for parts in [self.parts.get(target)]
        ]
        kinds = {"missing": missing, "unexpected": self.unexpected, "mis-shaped": self.misshapen}
        return [f"{len(names)} {kind}: {', '.join(names)}" for kind, names in kinds.items() if names]


def _match(where: Mapping[str, SafetensorsFile], expected: Mapping[str, tuple[int, ...]], *, head: bool) -> _Match:
    """Sort the files' tensors into the expected ones."""
    prefix = next((p for p in _PREFIXES if p + _WORD_TABLE in where), "")
    found = _Match()
    for name in sorted(where):
        # Rotary frequencies are recomputed; the biases of a head are checked to be zero later.
        if name.endswith("inv_freq") or (name.startswith(_HEAD) and (not head or name in _HEAD_BIASES)):
            continue
        target, third = _canonical(name, prefix, head=head)
        taken = found.parts.get(target, {})
        twice = third in taken or (bool(taken) and "" in (third, *taken))
        if target not in expected or twice:
            found.unexpected.append(name)
            continue
        found.parts.setdefault(target, {})[third] = name
        rows, *columns = expected[target]
        wanted = [rows // 3 if third else rows, *columns]
        shape = list(where[name].entries[name].shape)
        if shape != wanted:
            found.misshapen.append(f"{name} {shape} instead of {wanted}")
    if head and _TIED not in found.parts and f"bert.{_WORD_TABLE}" in found.parts:
        found.parts[_TIED] = found.parts[f"bert.{_WORD_TABLE}"]
    return found


def _canonical(name: str, prefix: str, *, head: bool) -> tuple[str, str]:
    """Return a tensor's canonical name, and "q", "k" or "v" when it is that third of it, else ""."""
    if name.startswith(_HEAD):
        return name, ""
    if not name.startswith(prefix):
        return "", ""
    name = name.removeprefix(prefix)
    outer = "bert." if head else ""
    if match := _NATIVE_QKV.fullmatch(name):
        return f"{outer}encoder.layers.{match[1]}.attn.Wqkv.weight", match[2]
    if (match := _NATIVE_LAYER.fullmatch(name)) and match[2] in _NATIVE_PARTS:
        return f"{outer}encoder.layers.{match[1]}.{_NATIVE_PARTS[match[2]]}.{match[3]}", ""
    if name.startswith("embeddings.LayerNorm."):
        name = name.replace("embeddings.LayerNorm.", "emb_ln.")
    return outer + name, ""


def _check_finite(values: NDArray[Any], sources: list[str], path: Path) -> None:
    """Refuse NaN and infinity: they turn every vector into NaN."""
    if values.dtype == np.float16:
        # Bits, because numpy compares halves one by one: an exponent of all ones is not finite.
        good = int((values.view(np.uint16) & 0x7FFF).max(initial=0)) < 0x7C00
    else:
        good = bool(np.isfinite(values.min(initial=0.0)) and np.isfinite(values.max(initial=0.0)))
    if not good:
        raise CheckpointError(f"{path}: {', '.join(sources)} holds values that are not finite; the weights are damaged")


def _check_head(tensors: Mapping[str, NDArray[Any]], where: Mapping[str, SafetensorsFile], folder: Path) -> None:
    """Check what the published head takes for granted: tied tables, and no biases."""
    if not np.array_equal(tensors[_TIED], tensors[f"bert.{_WORD_TABLE}"]):
        raise CheckpointError(f"{folder}: {_TIED} differs from the word table; only tied heads are implemented")
    biases = [name for name in _HEAD_BIASES if name in where and bool(where[name].read(name).any())]
    if biases:
        raise CheckpointError(f"{folder}: {', '.join(biases)} is not zero; a head with biases is not implemented")
