"""The distillation stage: an encoder learns to give the vectors of a finished one, or to rank as it does."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from gnomonic.errors import ConfigError
from gnomonic.models.pooling import mean_pool
from gnomonic.training import grad_cache
from gnomonic.training.alignment import TokenAlignment
from gnomonic.training.config import LoopConfig, ModelConfig, SourceConfig
from gnomonic.training.data.altered import altered_copies
from gnomonic.training.data.pairs import Schedule, load_sources
from gnomonic.training.data.tables import RowReader, open_tables
from gnomonic.training.distributed import ALONE, World
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
from gnomonic.training.losses import embedding_distillation, similarity_distillation
from gnomonic.training.plan import Lengths, SourceUse, Survey
from gnomonic.training.teacher import Reading, RememberedTeacher, open_teacher
from gnomonic.training.transfer import principal_axes, start_from_words

__all__ = ["DistillBatch", "DistillConfig", "DistillStage"]

_VIEWS_STREAM = 2
"""Keeps the draws of prefixes, sentences and windows apart from those of the schedule, which has the same seed."""
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_CHARS_PER_TOKEN = 4
_AXES_STEPS = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillConfig:
    """A distillation run on the texts of pairs, and on long texts beside them."""

    loop: LoopConfig
    model: ModelConfig = ModelConfig()  # noqa: RUF009
    teacher: str
    """A model of the catalog, a model folder, or a sentence-transformers folder."""
    cache: str = "teacher-vectors"
    """Folder for the teacher's vectors, each worked out once; relative to the recipe."""
    start_words: bool = False
    """Start the word table from the teacher's, where it is a BERT of the same width."""
    data: tuple[str, ...]
    """Files with `query` and `document`; relative to the recipe, * is allowed."""
    batch_size: int
    """Pairs per step; both of their texts are learnt from."""
    sources_per_batch: int = 1
    """How many draws of a source make a batch; it divides `batch_size`."""
    max_tokens: int = 128
    """Longest text of a pair, prefix and special tokens included; the teacher sees the same characters."""
    sentence_share: float = 0.0
    """Part of the documents of which one sentence, drawn at random, stands for the whole."""
    altered_share: float = 0.0
    """Part of the texts that a copy with a few words changed joins: near neighbours that the teacher tells apart."""
    long_texts: tuple[str, ...] = ()
    """Files with `text`, of which windows are learnt as the mean of the teacher's vectors along them."""
    long_every: int = 0
    """Every how many steps a batch of such windows comes; 0: never."""
    long_tokens: tuple[int, ...] = (256, 512, 1024, 2048)
    """About how long a window is; one of these is drawn for each such step."""
    chunk_tokens: int = 8192
    """Most tokens encoded at once; also about how many a step of long windows holds."""
    dims: tuple[int, ...] = ()
    """Matryoshka sizes; empty: the model's own, else its width, 512, 256, 128 and 64."""
    embedding_weight: float = 1.0
    """Weight of 1 - cosine with the teacher's vector, turned so that its first values carry the most."""
    similarity_weight: float = 1.0
    """Weight of the divergence between student's and teacher's rankings of the batch's texts."""
    token_weight: float = 0.0
    """Weight of 1 - cosine with the teacher's last state of the same token, where both cut a text alike; above 0 the
    teacher reads each text of a pair again, for its states are too many to keep."""
    temperature: float = 0.05
    """Similarities are divided by it before they are compared as rankings."""
    size_exponent: float = 1.0
    """A source is drawn in proportion to (rows × weight) to this power."""
    sources: tuple[SourceConfig, ...] = ()
    """Weights by source; prefixes are drawn at random here, for a teacher without them says the same under each."""

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ConfigError: a value is out of range.
        """
        if self.loop.max_steps < 1 or self.batch_size < 1:
            raise ConfigError("loop.max_steps and batch_size: must be 1 or more")
        if self.loop.workers > 1:
            raise ConfigError("loop.workers: the teacher's vectors are worked out in step order; choose 0 or 1")
        if self.sources_per_batch < 1 or self.batch_size % self.sources_per_batch:
            raise ConfigError(
                f"sources_per_batch: {self.sources_per_batch} does not divide batch_size {self.batch_size}"
            )
        for name in ("sentence_share", "altered_share"):
            if not 0.0 <= (share := getattr(self, name)) <= 1.0:
                raise ConfigError(f"{name}: {share} is not a share; choose 0 to 1")
        if (
            min(self.embedding_weight, self.similarity_weight, self.token_weight) < 0
            or self.embedding_weight + self.similarity_weight <= 0
        ):
            raise ConfigError(
                "embedding_weight, similarity_weight, token_weight: one of the first two must be above 0, none below"
            )
        if self.temperature <= 0:
            raise ConfigError(f"temperature: {self.temperature} is not above 0; 0.02 to 0.1 is usual")
        if self.long_every < 0 or (self.long_every > 0 and not (self.long_texts and self.long_tokens)):
            raise ConfigError("long_every: steps of long windows need long_texts and long_tokens")


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillBatch:
    """This process's part of one step."""

    chunks: list[Packed]
    """The texts, shortest first."""
    taught: list[Tensor]
    """[m] int64 per chunk: its tokens that have a target of their own."""
    place: Tensor
    """[texts] int64: where each text stands in the chunks laid end to end."""
    targets: Tensor
    """[texts, teacher dim] float32, unit rows."""
    token_targets: Tensor
    """[sum of m, teacher dim] float32, in the chunks' order."""
    share: float
    """Texts of this process over texts of the step."""
    label: str


class DistillStage:
    """Data, model, teacher and loss of one distillation run."""

    def __init__(self, config: DistillConfig, folder: Path, world: World = ALONE) -> None:
        """Load model, teacher and data.

        Args:
            config: what to train on.
            folder: what relative paths start at.
            world: which process of how many this is; each compares the texts of its own part only.

        Raises:
            ConfigError: the settings contradict the data, the model or the teacher.
            CheckpointError: the model, the teacher or its cached vectors cannot be read.
            UnknownModelError: `model.init` is neither a model nor a folder.
        """
        torch.manual_seed(config.loop.seed)
        self.config, self.loop, self.world = config, config.loop, world
        self.device = training_device()
        self.encoder = build_model(config.model, folder)
        teacher = open_teacher(config.teacher, folder)
        if config.start_words:
            start_from_words(self.encoder.model, self.encoder.tokenizer.vocabulary, teacher.words())
        self.model = self.encoder.model.to(self.device)
        if config.loop.compile:
            compile_blocks(self.model)
        self.dims = matryoshka_dims(config.dims, self.encoder)
        cache = folder / config.cache
        self.teacher = RememberedTeacher(teacher, cache if world.size == 1 else cache / f"rank-{world.rank}")
        self.alignment = None
        if config.token_weight:
            self.alignment = TokenAlignment(self.encoder.tokenizer.vocabulary, teacher.vocabulary())
        if max(config.embedding_weight, config.token_weight) and self.teacher.dim < self.model.config.hidden_size:
            raise ConfigError(
                f"embedding_weight, token_weight: the teacher's {self.teacher.dim} values cannot fill the model's "
                f"{self.model.config.hidden_size}; set them to 0 and learn from similarities alone"
            )
        sources = load_sources(config.data, folder, config.sources)
        self.schedule = Schedule(
            [replace(source, query_prefix="", document_prefix="") for source in sources],
            batch_size=config.batch_size // config.sources_per_batch,
            steps=config.loop.max_steps * config.sources_per_batch,
            exponent=config.size_exponent,
            seed=config.loop.seed,
            rank=world.rank,
            world=world.size,
        )
        articles = open_tables(config.long_texts, folder, need=("text",)) if config.long_every else None
        self.articles = None if articles is None else (RowReader(articles.select(["text"])), articles.num_rows)
        self.prefixes = list(self.encoder.spec.prefixes.values()) or [""]
        self.axes = torch.from_numpy(self._axes(cache / "axes.npy"))

    def parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Return the encoder's parameters."""
        return self.model.named_parameters()

    def batch(self, step: int) -> DistillBatch:
        """Tokenise the texts of a step and look up, or work out, what the teacher says of them."""
        rng = np.random.default_rng([self.config.loop.seed, _VIEWS_STREAM, self.world.rank, step])
        if self.articles and (step + 1) % self.config.long_every == 0:
            length = int(rng.choice(self.config.long_tokens))
            texts = self._windows(length, rng)
            targets, label = self._along(texts), f"windows of about {length} tokens"
        else:
            texts, label = self._pair_texts(step, rng)
            length, targets = self.config.max_tokens, None
        prefixes = rng.choice(np.array(self.prefixes, dtype=object), size=len(texts)).tolist()
        limit = min(2 * length, self.model.config.max_positions)
        whole = [prefix + text for prefix, text in zip(prefixes, texts, strict=True)]
        sequences, _ = tokenise(self.encoder.tokenizer, whole, limit)
        reading = None
        if targets is None and self.alignment:
            reading = self.teacher.teacher.read(whole if self.teacher.teacher.prefixed else texts)
            targets = reading.vectors
        elif targets is None:
            targets = self._ask(texts, prefixes)
        chunks = split_by_length([len(ids) for ids in sequences], self.config.chunk_tokens)
        taught, token_targets = self._line_up(sequences, prefixes, chunks, reading)
        offset, place = 0, torch.empty(len(sequences), dtype=torch.int64)
        for chunk, rows in zip(chunks, taught, strict=True):
            place[torch.from_numpy(chunk)] = torch.arange(offset, offset + len(chunk))
            offset += len(chunk) + len(rows)
        return DistillBatch(
            chunks=[pack([sequences[i] for i in chunk]) for chunk in chunks],
            taught=taught,
            place=place,
            targets=torch.from_numpy(targets) @ self.axes,
            token_targets=token_targets,
            share=1 / self.world.size,
            label=label,
        )

    def backward(self, batch: DistillBatch) -> float:
        """Add the gradient of this process's share of the loss; return the share."""
        place, targets = batch.place.to(self.device), batch.targets.to(self.device)
        token_targets = batch.token_targets.to(self.device)

        def encode(chunk: tuple[Packed, Tensor]) -> Tensor:
            packed, taught = chunk
            states = self.model(packed.input_ids.to(self.device), packed.lengths)
            pooled = mean_pool(states, packed.lengths)
            return torch.cat([pooled, states[taught.to(self.device)].to(pooled.dtype)]) if len(taught) else pooled

        def loss(found: Tensor) -> Tensor:
            total = self._loss(found[place], targets)
            if len(token_targets):
                others = torch.ones(len(found), dtype=torch.bool, device=found.device)
                others[place] = False
                total = total + self.config.token_weight * self._token_loss(found[others], token_targets)
            return batch.share * total

        return grad_cache.backward(encode, list(zip(batch.chunks, batch.taught, strict=True)), loss)

    def survey(self) -> Survey:
        """Count rows by source, and measure the texts of a few steps as the student will see them."""
        config, schedule = self.config, self.schedule
        rows = np.array([len(source) for source in schedule.sources])
        shares = (rows * [source.weight for source in schedule.sources]) ** config.size_exponent
        seen = config.loop.max_steps * config.batch_size * shares / shares.sum() / rows
        texts: list[str] = []
        for step in range(min(_AXES_STEPS, config.loop.max_steps)):
            texts += self._pair_texts(step, np.random.default_rng(step))[0]
        sequences, cut = tokenise(self.encoder.tokenizer, texts, config.max_tokens)
        return Survey(
            batch_size=config.batch_size,
            sources=[
                SourceUse(name=source.name, rows=len(source), seen=float(times))
                for source, times in zip(schedule.sources, seen, strict=True)
            ],
            skipped=schedule.skipped,
            lengths=[Lengths.of("text", sequences, cut, config.max_tokens)],
        )

    def tokens(self, batch: DistillBatch) -> int:
        """Return the tokens of this process's part."""
        return sum(len(chunk.input_ids) for chunk in batch.chunks)

    def describe(self, batch: DistillBatch) -> str:
        """Say which data a batch is, for an error."""
        return f"{len(batch.targets)} texts, {batch.label}"

    def _loss(self, pooled: Tensor, targets: Tensor) -> Tensor:
        config, width = self.config, pooled.shape[1]
        with torch.autocast(pooled.device.type, enabled=False):
            students = F.layer_norm(pooled.float(), (width,), eps=1e-5)
            total = students.new_zeros(())
            if config.embedding_weight:
                total = total + config.embedding_weight * embedding_distillation(students, targets[:, :width])
            if config.similarity_weight:
                wanted = targets @ targets.T
                itself = torch.eye(len(targets), dtype=torch.bool, device=targets.device)
                parts = []
                for dim in self.dims:
                    short = F.normalize(students[:, :dim], dim=1)
                    parts.append(
                        similarity_distillation(short @ short.T, wanted, temperature=config.temperature, ignore=itself)
                    )
                total = total + config.similarity_weight * torch.stack(parts).mean()
        return total

    def _token_loss(self, states: Tensor, targets: Tensor) -> Tensor:
        # The vector is the norm of the mean of the states, and a norm's centring can as well come before the mean.
        with torch.autocast(states.device.type, enabled=False):
            centred = states.float() - states.float().mean(dim=1, keepdim=True)
            return embedding_distillation(centred, targets[:, : states.shape[1]])

    def _line_up(
        self,
        sequences: Sequence[NDArray[np.int32]],
        prefixes: Sequence[str],
        chunks: Sequence[NDArray[np.int64]],
        reading: Reading | None,
    ) -> tuple[list[Tensor], Tensor]:
        """Find the tokens that the teacher cut alike: their places in each chunk, and its states of them."""
        if reading is None or self.alignment is None:
            return [torch.empty(0, dtype=torch.int64)] * len(chunks), torch.empty(0, self.teacher.dim)
        skips = dict.fromkeys(prefixes, 0)
        if not self.teacher.teacher.prefixed:
            spelt = self.encoder.tokenizer.token_ids(list(skips))
            skips = {prefix: self.alignment.length(ids) for prefix, ids in zip(skips, spelt, strict=True)}
        ours, theirs = self.alignment.match(sequences, [skips[prefix] for prefix in prefixes], reading.tokens)
        partner = np.full(sum(map(len, sequences)), -1)
        partner[ours] = theirs
        ends = np.cumsum([len(ids) for ids in sequences])
        taught, found = [], []
        for chunk in chunks:
            partners = np.concatenate([partner[ends[i] - len(sequences[i]) : ends[i]] for i in chunk])
            rows = np.flatnonzero(partners >= 0)
            taught.append(torch.from_numpy(rows))
            found.append(partners[rows])
        return taught, reading.states[torch.from_numpy(np.concatenate(found))] @ self.axes

    def _pair_texts(self, step: int, rng: np.random.Generator) -> tuple[list[str], str]:
        texts, names = [], []
        limit = self.config.max_tokens * _CHARS_PER_TOKEN
        for draw in range(self.config.sources_per_batch):
            pairs = self.schedule.batch(step * self.config.sources_per_batch + draw)
            names.append(pairs.source)
            for document in pairs.documents:
                if rng.random() < self.config.sentence_share:
                    sentences = [s for s in _SENTENCE_END.split(document) if s.strip()] or [document]
                    document = sentences[rng.integers(len(sentences))]
                texts.append(document[:limit])
            texts += [query[:limit] for query in pairs.queries]
        if self.config.altered_share:
            texts += altered_copies(texts, self.config.altered_share, rng)
        return texts, "sources " + ", ".join(names)

    def _windows(self, tokens: int, rng: np.random.Generator) -> list[str]:
        """Return windows of random articles, two or more, that begin at a paragraph."""
        assert self.articles is not None
        reader, rows = self.articles
        count, size = max(2, self.config.chunk_tokens // tokens), tokens * _CHARS_PER_TOKEN
        texts = []
        for article in reader.take(rng.integers(rows, size=count))["text"].to_pylist():
            starts = [0, *(match.end() for match in re.finditer(r"\n+", article))]
            usable = [start for start in starts if len(article) - start >= size] or [0]
            begin = usable[rng.integers(len(usable))]
            texts.append(article[begin : begin + size] or " ")
        return texts

    def _ask(self, texts: Sequence[str], prefixes: Sequence[str]) -> NDArray[np.float32]:
        if self.teacher.teacher.prefixed:
            texts = [prefix + text for prefix, text in zip(prefixes, texts, strict=True)]
        return self.teacher.encode(texts)

    def _along(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the mean of the teacher's vectors over pieces short enough for it, scaled to unit length."""
        size = (min(self.teacher.teacher.max_tokens, 256) - 16) * _CHARS_PER_TOKEN
        pieces = [[text[at : at + size] for at in range(0, len(text), size)] for text in texts]
        vectors = self._ask([piece for row in pieces for piece in row], [self.prefixes[-1]] * sum(map(len, pieces)))
        bounds = np.cumsum([0, *map(len, pieces)])
        means = np.add.reduceat(vectors, bounds[:-1], axis=0)
        unit: NDArray[np.float32] = means / np.linalg.norm(means, axis=1, keepdims=True)
        return unit

    def _axes(self, path: Path) -> NDArray[np.float32]:
        """Return the turn of the teacher's space, found once from the first steps' texts and kept with its vectors."""
        if path.is_file():
            found: NDArray[np.float32] = np.load(path)
            return found
        texts: list[str] = []
        for step in range(min(_AXES_STEPS, self.config.loop.max_steps)):
            rng = np.random.default_rng([self.config.loop.seed, _VIEWS_STREAM, self.world.rank, step])
            texts += self._pair_texts(step, rng)[0]
        axes = principal_axes(self._ask(texts, [self.prefixes[0]] * len(texts)))
        partial = path.with_suffix(".partial.npy")
        np.save(partial, axes)
        partial.replace(path)
        return axes
