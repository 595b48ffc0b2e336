"""Checkpoint folders in the layout of the model hub: describe, load into torch, save."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnomonic import catalog
from gnomonic.catalog import ModelSpec
from gnomonic.checkpoints.safetensors_file import write_safetensors
from gnomonic.checkpoints.side_files import (
    SPEC_FILE,
    apply_sentence_transformers,
    apply_spec_file,
    read_json,
    write_json,
    write_side_files,
)
from gnomonic.checkpoints.tensors import expected_tensors, read_tensors
from gnomonic.errors import CheckpointError, InputError, MissingExtraError
from gnomonic.models.config import NomicBertConfig
from gnomonic.types import TaskType

if TYPE_CHECKING:
    import torch

    from gnomonic.models.nomic_bert import NomicBert, NomicBertForMaskedLM

__all__ = ["describe", "load_masked_lm", "load_text", "read_config", "save"]

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")
_DTYPES = {"fp32": ("float32", "F32"), "fp16": ("float16", "F16"), "bf16": ("bfloat16", "BF16")}
_HUB_CACHE = re.compile(r"models--[^/]+?--(?P<name>[^/]+)")


def read_config(folder: Path) -> NomicBertConfig:
    """Read config.json of a checkpoint folder.

    Raises:
        CheckpointError: the file is absent or damaged.
        ConfigError: it holds a value that is not implemented.
    """
    path = Path(folder) / "config.json"
    raw = read_json(path)
    if raw is None:
        raise CheckpointError(
            f"{folder}: holds no config.json, so it is not a model folder",
            hint="a model is a folder with config.json, a tokenizer and safetensors",
        )
    return NomicBertConfig.from_hf(raw, where=str(path))


def describe(folder: Path) -> ModelSpec:
    """Describe the text model in a folder.

    In order of authority: gnomonic.json; the catalog, when the folder is named like a known model and has its
    width; the sentence-transformers files. A folder with none of these is mean-pooled and scaled to unit
    length, with the four task prefixes.

    Raises:
        CheckpointError: config.json is absent, or a file is damaged.
        ConfigError: a value is not implemented.
    """
    folder = Path(folder)
    config = read_config(folder)
    bare = ModelSpec(
        name=folder.resolve().name,
        hidden_size=config.hidden_size,
        max_tokens=config.max_positions,
        prefixes={task.value: f"{task}: " for task in TaskType},
    )
    spec = apply_spec_file(bare, folder)
    if spec is not None:
        return spec
    known = _known(folder, config)
    if known is not None:
        max_tokens = min(known.max_tokens, config.max_positions)
        return replace(
            bare, dims=known.dims, layer_norm=known.layer_norm, prefixes=known.prefixes, max_tokens=max_tokens
        )
    return apply_sentence_transformers(bare, folder)


def _known(folder: Path, config: NomicBertConfig) -> ModelSpec | None:
    """Return the catalog's model of the folder's name, or of the hub cache around it."""
    resolved = folder.absolute()
    cached = [match["name"] for part in resolved.parts if (match := _HUB_CACHE.fullmatch(part))]
    for name in (resolved.name, *cached):
        spec = catalog.known_models().get(name)
        if spec is not None and spec.kind == "text" and spec.hidden_size == config.hidden_size:
            return spec
    return None


def _import_torch(needed_for: str) -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("train", needed_for=needed_for) from error
    return torch


def _check_dtype(dtype: str) -> None:
    if dtype not in _DTYPES:
        raise InputError(f"dtype {dtype!r} is unknown; choose one of {', '.join(_DTYPES)}")


def load_text(folder: Path, *, dtype: str = "fp32", config: NomicBertConfig | None = None) -> NomicBert:
    """Load an encoder into torch on the CPU, in eval mode.

    Args:
        folder: a checkpoint in any layout that `read_tensors` reads.
        dtype: "fp32", "fp16" or "bf16": what the weights are converted to, whatever they are stored in.
        config: instead of the folder's own, such as one with a rotary_scaling_factor.

    Raises:
        InputError: the dtype is unknown.
        ConfigError: config.json holds a value that is not implemented.
        CheckpointError: the weights are absent, damaged or do not fit config.json.
        MissingExtraError: torch is not installed.
    """
    _check_dtype(dtype)
    torch = _import_torch("loading a model into torch")
    from gnomonic.models.nomic_bert import NomicBert

    config = config or read_config(folder)
    with torch.device("meta"):
        model = NomicBert(config)
    _fill(model, folder, config, dtype, head=False)
    return model.eval()


def load_masked_lm(folder: Path, *, dtype: str = "fp32") -> NomicBertForMaskedLM:
    """Load an encoder with its masked-language-model head; arguments and errors as in `load_text`."""
    _check_dtype(dtype)
    torch = _import_torch("loading a model into torch")
    from gnomonic.models.nomic_bert import NomicBertForMaskedLM

    config = read_config(folder)
    with torch.device("meta"):
        model = NomicBertForMaskedLM(config)
    _fill(model, folder, config, dtype, head=True)
    # Filling replaced both parameters by one tensor each.
    model.cls.predictions.decoder.weight = model.bert.embeddings.word_embeddings.weight
    return model.eval()


def _fill(model: torch.nn.Module, folder: Path, config: NomicBertConfig, dtype: str, *, head: bool) -> None:
    """Put the folder's weights into a model on the meta device, which spares drawing random ones."""
    import torch

    target = getattr(torch, _DTYPES[dtype][0])
    arrays = read_tensors(Path(folder), config, head=head)
    # torch.tensor copies, so that the model does not depend on the file any longer.
    state = {name: torch.tensor(array, dtype=target) for name, array in arrays.items()}
    model.load_state_dict(state, strict=True, assign=True)


def save(model: NomicBert, spec: ModelSpec, tokenizer_folder: Path, out: Path, *, dtype: str = "fp32") -> None:
    """Save an encoder in the published layout, for transformers and sentence-transformers without remote code.

    Written: model.safetensors, config.json, the tokenizer, the sentence-transformers files and gnomonic.json.
    The folder appears whole or not at all.

    Args:
        model: an encoder on any device and in any dtype.
        spec: what gnomonic.json and the prompts say; its hidden_size must be the model's.
        tokenizer_folder: where tokenizer.json or vocab.txt is.
        out: the folder to make. An earlier checkpoint saved here is replaced; any other content is left
            alone.
        dtype: "fp32", "fp16" or "bf16": what the weights are stored in.

    Raises:
        InputError: the dtype is unknown, spec and model disagree, or the model is more than an encoder.
        CheckpointError: out holds something else, the tokenizer is absent, a weight does not fit into fp16,
            or the disk refuses.
    """
    _check_dtype(dtype)
    if spec.hidden_size != model.config.hidden_size or spec.max_tokens > model.config.max_positions:
        raise InputError(
            f"spec {spec.name}: hidden_size {spec.hidden_size} and max_tokens {spec.max_tokens} do not fit "
            f"the model's {model.config.hidden_size} and {model.config.max_positions}"
        )
    out = Path(out).absolute()
    if out.exists() and not (out / SPEC_FILE).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(f"{out}: exists and is not a checkpoint saved by Gnomonic; choose another folder")
    tensors = _to_arrays(model, dtype)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
            new = Path(scratch) / "new"
            new.mkdir()
            # transformers takes its dtype from here: it widens stored halves and so computes as we do.
            write_json(new / "config.json", {**model.config.to_hf(), "dtype": "float32"})
            _copy_tokenizer(Path(tokenizer_folder), new, spec.max_tokens)
            write_side_files(spec, new)
            write_safetensors(new / "model.safetensors", tensors)
            _publish(new, out, Path(scratch) / "old")
    except OSError as error:
        raise CheckpointError(f"{out}: cannot be saved: {error.strerror or error}") from error


def _to_arrays(model: NomicBert, dtype: str) -> dict[str, Any]:
    """Return name -> (stored dtype, values), the bits of bfloat16 as uint16."""
    import torch

    if set(model.state_dict()) != set(expected_tensors(model.config)):
        raise InputError(f"{type(model).__name__} is not an encoder alone; save its encoder, such as model.bert")
    torch_name, stored = _DTYPES[dtype]
    arrays = {}
    for name, tensor in model.state_dict().items():
        narrow = tensor.detach().to(device="cpu", dtype=getattr(torch, torch_name)).contiguous()
        if not bool(torch.isfinite(narrow).all()):
            raise CheckpointError(f"{name} holds a value that is not finite in {dtype}; save as fp32 or bf16")
        arrays[name] = (stored, (narrow.view(torch.uint16) if dtype == "bf16" else narrow).numpy())
    return arrays


def _copy_tokenizer(source: Path, target: Path, max_tokens: int) -> None:
    """Copy the tokenizer and set its length, which transformers reads from tokenizer_config.json."""
    present = [name for name in _TOKENIZER_FILES if (source / name).is_file()]
    if "tokenizer.json" not in present and "vocab.txt" not in present:
        raise CheckpointError(f"{source}: holds no tokenizer; looked for tokenizer.json and vocab.txt")
    for name in present:
        shutil.copyfile(source / name, target / name)
    settings = read_json(target / "tokenizer_config.json") or {
        "tokenizer_class": "PreTrainedTokenizerFast" if "tokenizer.json" in present else "BertTokenizer",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
        "pad_token": "[PAD]",
        "sep_token": "[SEP]",
        "unk_token": "[UNK]",
    }
    write_json(target / "tokenizer_config.json", {**settings, "model_max_length": max_tokens})


def _publish(new: Path, out: Path, old: Path) -> None:
    """Flush a finished folder to the disk and give it its name; what had that name moves to `old`."""
    for path in [new, *new.rglob("*")]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    # A folder cannot replace one that is not empty in one step; between the two a crash leaves the old one in
    # the hidden folder beside `out`.
    if out.exists():
        out.rename(old)
    try:
        new.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
