"""What every text stage shares: the encoder it starts from, texts as packed tokens, and the finished model folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gnomonic import catalog
from gnomonic.catalog import ModelSpec
from gnomonic.checkpoints.hub import find_model
from gnomonic.checkpoints.huggingface import load_masked_lm, load_text, read_config, save
from gnomonic.checkpoints.tensors import expected_tensors
from gnomonic.errors import CheckpointError, ConfigError
from gnomonic.inference.tokenizer import Tokenizer
from gnomonic.models.config import NomicBertConfig
from gnomonic.models.nomic_bert import NomicBert, NomicBertForMaskedLM
from gnomonic.settings import read_settings
from gnomonic.training.config import ModelConfig
from gnomonic.types import TaskType

__all__ = [
    "Packed",
    "TrainedEncoder",
    "TrainedMaskedLM",
    "build_masked_lm",
    "build_model",
    "compile_blocks",
    "matryoshka_dims",
    "pack",
    "save_model",
    "split_by_length",
    "tokenise",
    "training_device",
]

STATE_FILE = "state.safetensors"
"""The loop's checkpoint in a run's folder; weights are behind `model.`."""

# Characters read per token allowed: hardly any text has more, so an article is not tokenised for its first sentence.
_CHARS_PER_TOKEN = 12
_FRESH_SHAPE = {
    "hidden_size": 384,
    "num_layers": 6,
    "num_heads": 6,
    "intermediate_size": 1024,
    "max_positions": 2048,
}
_USUAL_DIMS = (512, 256, 128, 64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Packed:
    """Texts as tokens laid end to end, without padding."""

    input_ids: Tensor
    """[T] int64."""
    lengths: list[int]
    """Tokens per text, each at least 1; they sum to T."""

    def to(self, device: torch.device) -> Packed:
        """Return the same tokens on a device."""
        return replace(self, input_ids=self.input_ids.to(device, non_blocking=True))


def tokenise(
    tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int
) -> tuple[list[NDArray[np.int32]], NDArray[np.bool_]]:
    """Turn texts into the very tokens that inference would see. Safe from several threads at once.

    Args:
        tokenizer: of the model.
        texts: prefixes already in front.
        max_tokens: longest sequence, prefix and special tokens included.

    Returns:
        One [tokens] int32 per text, special tokens included; and [texts] bool: whether the text was cut.

    Raises:
        InputError: max_tokens leaves no room for a text.
    """
    heads = [_head(text, max_tokens * _CHARS_PER_TOKEN) for text in texts]
    first = tokenizer.encode(heads, max_tokens=max_tokens)
    sequences, cut = list(first.sequences), np.zeros(len(texts), dtype=np.bool_)
    cut[first.truncated] = True
    # A head that fits whole was too short a look, as of a text full of blanks.
    again = [i for i, (text, head) in enumerate(zip(texts, heads, strict=True)) if len(head) < len(text) and not cut[i]]
    if again:
        whole = tokenizer.encode([texts[i] for i in again], max_tokens=max_tokens)
        for i, sequence in zip(again, whole.sequences, strict=True):
            sequences[i] = sequence
        cut[[again[i] for i in whole.truncated]] = True
    return sequences, cut


def _head(text: str, length: int) -> str:
    """Return about the first `length` characters, whole words only."""
    if len(text) <= length:
        return text
    end = text.rfind(" ", 0, length)
    return text[:end] if end > 0 else text


def pack(sequences: Sequence[NDArray[np.int32]]) -> Packed:
    """Lay sequences end to end.

    Args:
        sequences: at least one [tokens] array.
    """
    ids = torch.from_numpy(np.concatenate(sequences).astype(np.int64))
    return Packed(input_ids=ids, lengths=[len(sequence) for sequence in sequences])


def split_by_length(lengths: Sequence[int], max_tokens: int) -> list[NDArray[np.int64]]:
    """Divide sequences into chunks of similar lengths, so that attention runs over full groups.

    Args:
        lengths: tokens per sequence.
        max_tokens: the most a chunk holds; a longer sequence is a chunk of its own. 0: one chunk of all.

    Returns:
        Indices into `lengths`, shortest first; together a permutation.
    """
    order = np.argsort(np.asarray(lengths, dtype=np.int64), kind="stable")
    if not max_tokens:
        return [order] if len(order) else []
    chunks: list[NDArray[np.int64]] = []
    begin = tokens = 0
    for at, index in enumerate(order):
        if at > begin and tokens + lengths[index] > max_tokens:
            chunks.append(order[begin:at])
            begin, tokens = at, 0
        tokens += lengths[index]
    if begin < len(order):
        chunks.append(order[begin:])
    return chunks


def training_device() -> torch.device:
    """Return this process's GPU, or the CPU where there is none."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def compile_blocks(model: NomicBert, *, backend: str = "inductor") -> None:
    """Have torch.compile make the kernels of the MLPs, in place; names and weights stay.

    Only these: their shapes differ in one number, the tokens of a batch, so one kernel serves every batch, while
    attention depends on how the tokens are divided into texts, and would be compiled anew for each.

    Args:
        model: changed in place.
        backend: torch.compile's.
    """
    for block in model.encoder.layers:
        block.mlp.compile(dynamic=True, backend=backend)  # type: ignore[union-attr]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedEncoder:
    """An encoder under training with what it needs to become a model folder."""

    model: NomicBert
    tokenizer: Tokenizer
    tokenizer_folder: Path
    spec: ModelSpec
    """What the model it started from says of itself; for a fresh one the four task prefixes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedMaskedLM:
    """An encoder with its masked-language-model head under training."""

    model: NomicBertForMaskedLM
    encoder: TrainedEncoder
    """Shares the weights."""


def build_model(config: ModelConfig, folder: Path) -> TrainedEncoder:
    """Make the encoder that a run starts from, in float32 on the CPU.

    `init` may be empty (fresh weights from torch's global generator, the vocabulary padded to a multiple of 64), a
    model of the catalog, a model folder, or the folder of an earlier run. Layers that the start lacks stay fresh;
    layers beyond `num_layers` are left out.

    Args:
        config: start, tokenizer and shape.
        folder: what relative paths start at.

    Raises:
        ConfigError: the settings contradict the start, or name no tokenizer.
        CheckpointError: the start or the tokenizer cannot be read, or has another shape.
        UnknownModelError: `init` is neither a model nor a folder.
    """
    spec, source, shape = _resolve(config, folder)
    tokenizer_folder, tokenizer = _tokenizer(config, folder, source, shape)
    shape = shape or _fresh_shape(config, tokenizer.vocab_size)
    model = NomicBert(shape)
    if source is not None and (source / "config.json").is_file():
        _take_over(model, dict(load_text(source).state_dict()), source)
    elif source is not None:
        _take_over(model, _encoder_weights(_read_state(source)), source)
    spec = replace(spec, hidden_size=shape.hidden_size, max_tokens=min(spec.max_tokens, shape.max_positions))
    return TrainedEncoder(model=model.train(), tokenizer=tokenizer, tokenizer_folder=tokenizer_folder, spec=spec)


def build_masked_lm(config: ModelConfig, folder: Path) -> TrainedMaskedLM:
    """Make an encoder with the masked-language-model head; arguments and errors as in `build_model`.

    The head is taken over too where the start has one, an earlier `mlm` run or a published checkpoint with `cls.`
    tensors; it starts fresh over the encoder's own word table elsewhere.
    """
    encoder = build_model(config, folder)
    with torch.random.fork_rng(devices=[]):  # the encoder's draw is the same with and without a head
        model = NomicBertForMaskedLM(encoder.model.config)
    model.bert = encoder.model
    model.cls.predictions.decoder.weight = model.bert.embeddings.word_embeddings.weight
    _, source, _ = _resolve(config, folder)
    head = _head_weights(source) if source is not None else {}
    if head:
        _take_over(model.cls, {**head, "predictions.decoder.weight": model.cls.predictions.decoder.weight}, source)
    return TrainedMaskedLM(model=model.train(), encoder=encoder)


def _resolve(config: ModelConfig, folder: Path) -> tuple[ModelSpec, Path | None, NomicBertConfig | None]:
    """Find what `init` means: its description, its folder, and its shape where the folder knows it."""
    prefixes = {str(task): f"{task}: " for task in TaskType}
    bare = ModelSpec(name="", hidden_size=config.hidden_size or 0, max_tokens=1 << 30, prefixes=prefixes)
    if not config.init:
        return bare, None, None
    source = (folder / config.init).expanduser()
    known = config.init.removeprefix("nomic-ai/") in catalog.known_models()
    if not known and (source / STATE_FILE).is_file():
        return bare, source, None
    if not known and source.is_dir() and not (source / "config.json").is_file():
        raise CheckpointError(
            f"model.init: {source} holds neither a finished model (config.json) nor a run ({STATE_FILE}); "
            "train that stage first"
        )
    spec, source = find_model(config.init if known or not source.exists() else source, read_settings())
    own = read_config(source)
    for name in ("hidden_size", "num_heads", "intermediate_size"):
        wanted = getattr(config, name)
        if wanted is not None and wanted != getattr(own, name):
            raise ConfigError(
                f"model.{name}: {wanted} is not the {getattr(own, name)} of {config.init}; leave it out to take that"
            )
    own = replace(own, num_layers=own.num_layers if config.num_layers is None else config.num_layers)
    if config.max_positions is not None:
        own = replace(own, max_positions=config.max_positions, max_trained_positions=config.max_positions)
        spec = replace(spec, max_tokens=config.max_positions)
    return spec, source, own


def _tokenizer(
    config: ModelConfig, folder: Path, source: Path | None, shape: NomicBertConfig | None
) -> tuple[Path, Tokenizer]:
    if config.tokenizer:
        where = (folder / config.tokenizer).expanduser()
    elif source is not None and shape is not None:
        where = source
    else:
        raise ConfigError(
            "model.tokenizer: this setting must be given unless model.init is a finished model; "
            "`gnomonic train vocabulary` makes one"
        )
    return where, Tokenizer.open(where, vocab_size=None if shape is None else shape.vocab_size)


def _fresh_shape(config: ModelConfig, vocab_size: int) -> NomicBertConfig:
    shape = {
        name: usual if getattr(config, name) is None else getattr(config, name) for name, usual in _FRESH_SHAPE.items()
    }
    return NomicBertConfig(vocab_size=-(-vocab_size // 64) * 64, max_trained_positions=shape["max_positions"], **shape)


def _read_state(source: Path) -> dict[str, Tensor]:
    """Return the weights of a run's checkpoint, without `model.`."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        saved = load_file(source / STATE_FILE)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"model.init: {source / STATE_FILE} cannot be read: {error}") from error
    return {name.removeprefix("model."): value for name, value in saved.items() if name.startswith("model.")}


def _encoder_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("bert."): value for name, value in state.items() if not name.startswith("cls.")}


def _head_weights(source: Path) -> dict[str, Tensor]:
    """Return the tensors of a head, without `cls.` and without the tied decoder; empty where there is none."""
    if (source / "config.json").is_file():
        try:
            state = load_masked_lm(source).state_dict()
        except CheckpointError:  # an encoder without a head, which build_model has read already
            return {}
    else:
        state = _read_state(source)
    heads = {name.removeprefix("cls."): value for name, value in state.items() if name.startswith("cls.")}
    return {name: value for name, value in heads.items() if not name.endswith("decoder.weight")}


def _take_over(model: nn.Module, weights: Mapping[str, Tensor], source: Path | None) -> None:
    """Load what the start has of the model's tensors; it may lack some, and have more layers, but nothing else."""
    own = model.state_dict()
    kept = {name: value for name, value in weights.items() if name in own or not name.startswith("encoder.layers.")}
    try:
        model.load_state_dict({**own, **kept}, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"model.init: {source} holds a model of another shape: {error}") from error


def matryoshka_dims(wanted: Sequence[int], encoder: TrainedEncoder) -> tuple[int, ...]:
    """Return the sizes to train for, largest first: those wanted, the start's own, or the usual ones that fit.

    Raises:
        ConfigError: a size is not between 1 and the model's width.
    """
    width = encoder.model.config.hidden_size
    if wanted:
        for dim in wanted:
            if not 1 <= dim <= width:
                raise ConfigError(f"dims: {dim} is not between 1 and {width}, the width of the model")
        return tuple(sorted(set(wanted), reverse=True))
    return tuple(encoder.spec.dims) or (width, *(dim for dim in _USUAL_DIMS if dim < width))


def save_model(encoder: TrainedEncoder, out: Path, *, dims: Sequence[int], dtype: str = "fp16") -> None:
    """Write the encoder as a model folder that gnomonic, transformers and sentence-transformers open.

    Its vectors are finished as nomic-embed-text-v1.5's: layer norm over the full width, cut, unit length.

    Args:
        encoder: the trained weights, with tokenizer, prefixes and length.
        out: the model folder; its name becomes the model's.
        dims: sizes the model was trained for, largest first.
        dtype: what the weights are stored in: "fp32", "fp16" or "bf16".

    Raises:
        CheckpointError: the folder cannot be written, or a weight does not fit into fp16.
    """
    shape = encoder.model.config
    spec = ModelSpec(
        name=out.name,
        hidden_size=shape.hidden_size,
        max_tokens=min(encoder.spec.max_tokens, shape.max_positions),
        dims=tuple(dims),
        layer_norm=True,
        prefixes=dict(encoder.spec.prefixes),
        license=encoder.spec.license,
        parameters=sum(int(np.prod(shape_of)) for shape_of in expected_tensors(shape).values()),
    )
    save(encoder.model, spec, encoder.tokenizer_folder, out, dtype=dtype)
