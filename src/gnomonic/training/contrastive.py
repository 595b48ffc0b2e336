"""The contrastive stage: pairs with or without hard negatives, one encoder, InfoNCE over Matryoshka prefixes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gnomonic.errors import ConfigError
from gnomonic.models.pooling import mean_pool
from gnomonic.training import grad_cache
from gnomonic.training.config import LoopConfig, ModelConfig, SourceConfig
from gnomonic.training.data.pairs import Schedule, load_sources
from gnomonic.training.distributed import ALONE, World, gather
from gnomonic.training.encoders import (
    Packed,
    build_model,
    compile_blocks,
    matryoshka_dims,
    pack,
    split_by_length,
    tokenise,
    training_device,
)
from gnomonic.training.losses import matryoshka_info_nce
from gnomonic.training.plan import Lengths, SourceUse, Survey

__all__ = [
    "Columns",
    "ContrastiveBatch",
    "ContrastiveConfig",
    "ContrastiveStage",
    "false_negatives",
    "lay_out",
    "sample_negatives",
]

_SURVEYED_STEPS = 16
_SURVEYED_PAIRS = 1024
_NEGATIVES_STREAM = 1
"""Keeps the draws of negatives apart from those of the schedule, which has the same seed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ContrastiveConfig:
    """A contrastive run on pairs: weakly supervised, or fine-tuning with hard negatives."""

    loop: LoopConfig
    model: ModelConfig
    data: tuple[str, ...]
    """Files with `query`, `document` and optionally `negatives` and `source`; relative to the recipe, * is allowed."""
    batch_size: int
    """Pairs per step over all processes, all from one source."""
    epochs: int = 0
    """Passes over every source; 0: `loop.max_steps` decides, and sources are drawn by their size."""
    warmup_share: float = 0.0
    """Part of the steps spent warming up; counts when `loop.warmup_steps` is 0."""
    query_tokens: int = 32
    """Longest query, prefix and special tokens included."""
    document_tokens: int = 96
    negatives_per_query: int = 0
    """Hard negatives drawn from each row's own, anew in every step; a row with fewer brings all it has."""
    chunk_tokens: int = 8192
    """Most tokens encoded at once; a step with more is done in chunks with the same gradient. 0: all at once."""
    temperature: float = 0.02
    """Cosines are divided by it."""
    dims: tuple[int, ...] = ()
    """Matryoshka sizes, their losses averaged; empty: the model's own, else its width, 512, 256, 128 and 64."""
    size_exponent: float = 1.0
    """Without epochs, a source is drawn in proportion to (rows × weight) to this power."""
    sources: tuple[SourceConfig, ...] = ()
    """The first entry that matches a source counts; a source without one takes the defaults."""

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ConfigError: a value is out of range.
        """
        if not self.data:
            raise ConfigError("data: names no file; give at least one file of pairs")
        if self.batch_size < 1:
            raise ConfigError(f"batch_size: {self.batch_size} is too small; a step needs 1 pair or more")
        if (self.epochs > 0) == (self.loop.max_steps > 0) or self.epochs < 0:
            raise ConfigError(
                f"epochs {self.epochs} and loop.max_steps {self.loop.max_steps}: set one of them above 0, not both"
            )
        if not 0.0 <= self.warmup_share < 1.0:
            raise ConfigError(f"warmup_share: {self.warmup_share} is not a share; choose 0 to below 1, such as 0.06")
        if self.temperature <= 0:
            raise ConfigError(f"temperature: {self.temperature} is not above 0; 0.01 to 0.1 is usual")
        if self.negatives_per_query < 0 or self.chunk_tokens < 0:
            raise ConfigError("negatives_per_query and chunk_tokens: must not be negative; 0 switches them off")


@dataclass(frozen=True, kw_only=True, slots=True)
class ContrastiveBatch:
    """This process's part of one step."""

    chunks: list[Packed]
    """Queries, documents and negatives, shortest first."""
    place: Tensor
    """[texts] int64: where each of queries ++ documents ++ negatives stands in the chunks laid end to end."""
    columns: Columns
    targets: Tensor
    """[pairs] int64: column of each query's own document."""
    share: float
    """Pairs of this process over pairs of the step."""
    source: str
    first_query: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """What every query of a step is compared with: the documents and negatives of all processes.

    Process by process, its documents and then its negatives. Equal texts have equal codes.
    """

    documents: Tensor
    """[columns] int64: code of the document or negative."""
    queries: Tensor
    """[columns] int64: code of the query whose document this is; -1 for a negative."""

    def to(self, device: torch.device) -> Columns:
        """Return the same columns on a device."""
        return Columns(documents=self.documents.to(device), queries=self.queries.to(device))


class ContrastiveStage:
    """Data, model and loss of one contrastive run."""

    def __init__(self, config: ContrastiveConfig, folder: Path, world: World = ALONE) -> None:
        """Load model and data.

        Args:
            config: what to train on.
            folder: what relative paths start at.
            world: which process of how many this is.

        Raises:
            ConfigError: the settings contradict the data or the model.
            CheckpointError: the model the run starts from cannot be read.
            UnknownModelError: `model.init` is neither a model nor a folder.
        """
        torch.manual_seed(config.loop.seed)
        self.config = config
        self.world = world
        self.device = training_device()
        self.encoder = build_model(config.model, folder)
        self.model = self.encoder.model.to(self.device)
        if config.loop.compile:
            compile_blocks(self.model)
        self.dims = matryoshka_dims(config.dims, self.encoder)
        longest = max(config.query_tokens, config.document_tokens)
        if longest > self.model.config.max_positions:
            raise ConfigError(f"query_tokens, document_tokens: {longest} is more than the model's "
                              f"{self.model.config.max_positions}; choose less")  # fmt: skip
        # Every process reads the whole step and takes its part, so that each knows which documents of the others
        # are false negatives of its own queries without a message.
        self.schedule = Schedule(
            load_sources(config.data, folder, config.sources),
            batch_size=config.batch_size,
            steps=config.loop.max_steps,
            epochs=config.epochs,
            exponent=config.size_exponent,
            seed=config.loop.seed,
        )
        steps = len(self.schedule)
        warmup = config.loop.warmup_steps or int(steps * config.warmup_share)
        self.loop = replace(config.loop, max_steps=steps, warmup_steps=warmup)
        """The recipe's loop with the steps that the epochs come to."""

    def parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Return the encoder's parameters."""
        return self.model.named_parameters()

    def batch(self, step: int) -> ContrastiveBatch:
        """Tokenise this process's part of the pairs of a step."""
        whole, config = self.schedule.batch(step), self.config
        rng = np.random.default_rng([config.loop.seed, _NEGATIVES_STREAM, step])
        negatives = sample_negatives(whole.negatives, config.negatives_per_query, rng)
        bounds = np.linspace(0, len(whole.queries), self.world.size + 1).astype(np.int64).tolist()
        parts = [slice(begin, end) for begin, end in pairwise(bounds)]
        own, before = parts[self.world.rank], parts[: self.world.rank]
        queries, documents = whole.queries[own], whole.documents[own]
        first = sum(len(whole.documents[part]) + sum(map(len, negatives[part])) for part in before)
        sequences, _ = tokenise(self.encoder.tokenizer, queries, config.query_tokens)
        texts = [*documents, *(text for row in negatives[own] for text in row)]
        sequences += tokenise(self.encoder.tokenizer, texts, config.document_tokens)[0]
        chunks = split_by_length([len(ids) for ids in sequences], config.chunk_tokens)
        place = torch.empty(len(sequences), dtype=torch.int64)
        if chunks:
            place[torch.from_numpy(np.concatenate(chunks))] = torch.arange(len(sequences))
        return ContrastiveBatch(
            chunks=[pack([sequences[i] for i in chunk]) for chunk in chunks],
            place=place,
            columns=lay_out(whole.queries, whole.documents, negatives, parts),
            targets=torch.arange(first, first + len(queries)),
            share=len(queries) / len(whole.queries),
            source=whole.source,
            first_query=queries[0] if queries else "",
        )

    def backward(self, batch: ContrastiveBatch) -> float:
        """Add the gradient of this process's share of the Matryoshka InfoNCE loss; return the share."""
        place, targets = batch.place.to(self.device), batch.targets.to(self.device)
        ignore = false_negatives(batch.columns.to(self.device), targets)
        count = len(targets)

        def encode(chunk: Packed) -> Tensor:
            return mean_pool(self.model(chunk.input_ids.to(self.device), chunk.lengths), chunk.lengths)

        def loss(pooled: Tensor) -> Tensor:
            pooled = pooled[place]
            documents = gather(pooled[count:], self.world)
            if not count:
                return documents.sum() * 0.0
            return batch.share * matryoshka_info_nce(
                pooled[:count],
                documents,
                temperature=self.config.temperature,
                dims=self.dims,
                target=targets,
                ignore=ignore,
            )

        if not batch.chunks:
            # A step smaller than the number of processes: this one has nothing, but the others gather from it.
            nothing = torch.zeros(0, self.model.config.hidden_size, device=self.device, requires_grad=True)
            loss(nothing).backward()  # type: ignore[no-untyped-call]
            return 0.0
        return grad_cache.backward(encode, batch.chunks, loss)

    def survey(self) -> Survey:
        """Count rows by source, and measure the texts of a few steps."""
        config, schedule = self.config, self.schedule
        rows = np.array([len(source) for source in schedule.sources])
        seen = np.full(len(rows), float(config.epochs))
        if not config.epochs:
            shares = (rows * [source.weight for source in schedule.sources]) ** config.size_exponent
            seen = len(schedule) * config.batch_size * shares / shares.sum() / rows
        sample: dict[str, list[str]] = {"query": [], "document": [], "negative": []}
        steps = min(len(schedule), _SURVEYED_STEPS)
        for step in np.linspace(0, len(schedule) - 1, steps).astype(int).tolist():
            batch, part = schedule.batch(step), _SURVEYED_PAIRS // steps
            sample["query"] += batch.queries[:part]
            sample["document"] += batch.documents[:part]
            sample["negative"] += [text for row in batch.negatives[:part] for text in row]
        limits = {"query": config.query_tokens, "document": config.document_tokens, "negative": config.document_tokens}
        return Survey(
            batch_size=config.batch_size,
            sources=[
                SourceUse(name=source.name, rows=len(source), seen=float(times))
                for source, times in zip(schedule.sources, seen, strict=True)
            ],
            skipped=schedule.skipped,
            lengths=[
                Lengths.of(name, *tokenise(self.encoder.tokenizer, texts, limits[name]), limits[name])
                for name, texts in sample.items()
                if texts
            ],
        )

    def tokens(self, batch: ContrastiveBatch) -> int:
        """Return the tokens of this process's part."""
        return sum(len(chunk.input_ids) for chunk in batch.chunks)

    def describe(self, batch: ContrastiveBatch) -> str:
        """Say which data a batch is, for an error."""
        return f"source {batch.source!r}, {len(batch.targets)} pairs, first query {batch.first_query[:80]!r}"


def sample_negatives(rows: Sequence[Sequence[str]], count: int, rng: np.random.Generator) -> list[list[str]]:
    """Draw up to `count` of each row's hard negatives, without repetition.

    Random ones of a mined pool teach more than the hardest, which are often unmarked answers (arXiv 2402.01613, §5.3).
    """
    return [
        list(row) if len(row) <= count else [row[i] for i in rng.choice(len(row), size=count, replace=False)]
        for row in rows
    ]


def lay_out(
    queries: Sequence[str],
    documents: Sequence[str],
    negatives: Sequence[Sequence[str]],
    parts: Sequence[slice],
) -> Columns:
    """Return the columns of a step whose pairs are divided among processes by `parts`."""
    codes: dict[str, int] = {}
    query_codes = [codes.setdefault(text, len(codes)) for text in queries]
    codes = {}
    column_documents, column_queries = [], []
    for part in parts:
        hard = [text for row in negatives[part] for text in row]
        column_documents += [codes.setdefault(text, len(codes)) for text in [*documents[part], *hard]]
        column_queries += [*query_codes[part], *([-1] * len(hard))]
    return Columns(
        documents=torch.tensor(column_documents, dtype=torch.int64),
        queries=torch.tensor(column_queries, dtype=torch.int64),
    )


def false_negatives(columns: Columns, targets: Tensor) -> Tensor:
    """Mark the columns that would be right answers of another query, and so must not count as wrong ones.

    These are copies of the query's own document, be they another pair's document or anybody's negative, and the
    documents of other pairs with the same query.

    Args:
        columns: of the step.
        targets: [pairs] int64: column of each query's own document.

    Returns:
        [pairs, columns] bool, False at the targets.
    """
    same = columns.documents == columns.documents[targets][:, None]
    same |= columns.queries == columns.queries[targets][:, None]
    return same.scatter_(1, targets[:, None], False)
