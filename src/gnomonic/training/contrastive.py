"""The contrastive stage: pairs of texts, one encoder, in-batch InfoNCE over Matryoshka prefixes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from gnomonic.catalog import ModelSpec
from gnomonic.checkpoints.huggingface import save
from gnomonic.errors import CheckpointError
from gnomonic.models.config import NomicBertConfig
from gnomonic.models.nomic_bert import NomicBert
from gnomonic.models.pooling import mean_pool
from gnomonic.training.config import ContrastiveConfig, ModelConfig
from gnomonic.training.data.pairs import Schedule, load_sources
from gnomonic.training.losses import matryoshka_info_nce
from gnomonic.types import TaskType

__all__ = ["ContrastiveStage", "Packed", "build_model", "false_negatives", "save_model"]

# Characters kept per token allowed, before tokenising: no vocabulary here averages more, so nothing is lost that
# truncation would have kept, and a whole article is not tokenised for its first sentence.
_CHARS_PER_TOKEN = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Packed:
    """Queries, then documents, laid end to end."""

    input_ids: Tensor
    """[total] int64."""
    lengths: list[int]
    """[2 × pairs] tokens per text."""
    ignore: Tensor
    """[pairs, pairs] bool: another pair's document that equals this query's own, or this query itself."""


def build_model(config: ModelConfig, vocab_size: int, folder: Path) -> NomicBert:
    """Make the encoder of a recipe, its vocabulary padded to a multiple of 64.

    Args:
        config: the shape; with `init`, the weights that run ended with are taken over, and layers it lacks stay fresh.
        vocab_size: entries of the tokenizer.
        folder: what `init` is relative to.

    Raises:
        CheckpointError: `init` holds no run, or one of another shape.
    """
    shape = NomicBertConfig(
        vocab_size=-(-vocab_size // 64) * 64,
        hidden_size=config.hidden_size,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        intermediate_size=config.intermediate_size,
        max_positions=config.max_positions,
        max_trained_positions=config.max_positions,
    )
    model = NomicBert(shape)
    if config.init:
        _take_over(model, folder / config.init / "state.safetensors")
    return model


def _take_over(model: NomicBert, state: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        saved = load_file(state)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"model.init: {state} cannot be read: {error}; train that stage first") from error
    weights = {name.removeprefix("model."): value for name, value in saved.items() if name.startswith("model.")}
    try:
        model.load_state_dict({**model.state_dict(), **weights}, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"model.init: {state} holds a model of another shape: {error}") from error


class ContrastiveStage:
    """Data, model and loss of one contrastive run."""

    def __init__(self, config: ContrastiveConfig, folder: Path) -> None:
        torch.manual_seed(config.loop.seed)
        self.config = config
        self.tokenizer = Tokenizer.from_file(str(folder / config.model.tokenizer / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.model = build_model(config.model, self.tokenizer.get_vocab_size(), folder)
        self.schedule = Schedule(
            load_sources(config.data, folder, config.sources),
            batch_size=config.batch_size,
            steps=config.loop.max_steps,
            exponent=config.size_exponent,
            seed=config.loop.seed,
        )

    def parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Return the encoder's parameters."""
        return self.model.named_parameters()

    def batch(self, step: int) -> Packed:
        """Tokenise the pairs of a step."""
        pairs = self.schedule.batch(step)
        queries = self._tokenise(pairs.queries, self.config.query_tokens)
        documents = self._tokenise(pairs.documents, self.config.document_tokens)
        ids = [*queries, *documents]
        return Packed(
            input_ids=torch.tensor([token for text in ids for token in text], dtype=torch.int64),
            lengths=[len(text) for text in ids],
            ignore=false_negatives(pairs.queries, pairs.documents),
        )

    def loss(self, batch: Packed) -> Tensor:
        """Return the Matryoshka InfoNCE loss."""
        pooled = mean_pool(self.model(batch.input_ids, batch.lengths), batch.lengths)
        queries, documents = pooled.chunk(2)
        with torch.autocast(pooled.device.type, enabled=False):
            return matryoshka_info_nce(
                queries, documents, self.config.temperature, self.config.dims, ignore=batch.ignore
            )

    def tokens(self, batch: Packed) -> int:
        """Return the tokens of the batch."""
        return len(batch.input_ids)

    def _tokenise(self, texts: Sequence[str], limit: int) -> list[list[int]]:
        self.tokenizer.enable_truncation(limit)
        return [item.ids for item in self.tokenizer.encode_batch_fast([t[: limit * _CHARS_PER_TOKEN] for t in texts])]


def false_negatives(queries: Sequence[str], documents: Sequence[str]) -> Tensor:
    """Mark documents that would be right answers of another query: equal documents, or documents of equal queries."""
    same = torch.zeros(len(queries), len(queries), dtype=torch.bool)
    for texts in (queries, documents):
        codes: dict[str, int] = {}
        ids = torch.tensor([codes.setdefault(text, len(codes)) for text in texts])
        same |= ids[:, None] == ids[None, :]
    return same.fill_diagonal_(False)


def save_model(stage: ContrastiveStage, recipe_folder: Path, out: Path, *, dtype: str = "fp16") -> None:
    """Write the trained encoder as a model folder that gnomonic, transformers and sentence-transformers open.

    Args:
        stage: a stage whose run has ended.
        recipe_folder: where the recipe lies; its tokenizer path is relative to it.
        out: the model folder; its name becomes the model's.
        dtype: what the weights are stored in.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    config = stage.config
    spec = ModelSpec(
        name=out.name,
        hidden_size=config.model.hidden_size,
        max_tokens=config.model.max_positions,
        dims=config.dims,
        layer_norm=True,
        prefixes={str(task): f"{task}: " for task in TaskType},
    )
    save(stage.model, spec, recipe_folder / config.model.tokenizer, out, dtype=dtype)
