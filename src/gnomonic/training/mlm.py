"""The masked-language-model stage: plain texts, an encoder with a head, cross-entropy at the hidden tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gnomonic.errors import CheckpointError, ConfigError
from gnomonic.inference.tokenizer import Tokenizer
from gnomonic.training.config import LoopConfig, ModelConfig
from gnomonic.training.data.packing import IGNORED, Masking, Windows
from gnomonic.training.data.tokens import open_tokens
from gnomonic.training.distributed import ALONE, World, sum_numbers
from gnomonic.training.encoders import Packed, build_masked_lm, compile_blocks, training_device
from gnomonic.training.plan import Lengths, SourceUse, Survey
from gnomonic.types import LongTextMode

__all__ = ["MlmBatch", "MlmChunk", "MlmConfig", "MlmStage"]

_NEVER_HIDDEN = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_NO_LIMIT = 1 << 40


@dataclass(frozen=True, kw_only=True, slots=True)
class MlmConfig:
    """A masked-language-model run: from scratch, or further training of any model on the texts of a field."""

    loop: LoopConfig
    model: ModelConfig
    data: tuple[str, ...]
    """Files with a column `text`, or `query` and `document`; relative to the recipe, * is allowed."""
    batch_size: int
    """Windows per step over all processes."""
    epochs: int = 0
    """Passes over the texts; 0: `loop.max_steps` decides."""
    warmup_share: float = 0.0
    """Part of the steps spent warming up; counts when `loop.warmup_steps` is 0."""
    window_tokens: int = 512
    """Tokens of a window; the texts are laid end to end and cut, so nothing is padding."""
    mask_share: float = 0.3
    """Part of the tokens to be guessed: of them 80 % are hidden, 10 % replaced, 10 % left."""
    across_documents: bool = True
    """Tokens see their whole window, as in nomic-bert-2048; false: the part of their own text in it."""
    chunk_tokens: int = 8192
    """Most tokens in memory at once; a step with more is done in parts with the same gradient. 0: all at once."""

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ConfigError: a value is out of range.
        """
        if not self.data:
            raise ConfigError("data: names no file; give at least one file of texts")
        if self.batch_size < 1 or self.window_tokens < 4 or self.chunk_tokens < 0:
            raise ConfigError("batch_size must be 1 or more, window_tokens 4 or more, chunk_tokens 0 or more")
        if (self.epochs > 0) == (self.loop.max_steps > 0) or self.epochs < 0:
            raise ConfigError(
                f"epochs {self.epochs} and loop.max_steps {self.loop.max_steps}: set one of them above 0, not both"
            )
        if not 0.0 <= self.warmup_share < 1.0:
            raise ConfigError(f"warmup_share: {self.warmup_share} is not a share; choose 0 to below 1, such as 0.06")
        if not 0.0 < self.mask_share < 1.0:
            raise ConfigError(f"mask_share: {self.mask_share} is not between 0 and 1; 0.3 is usual")


@dataclass(frozen=True, kw_only=True, slots=True)
class MlmChunk:
    """Windows that go through the model together."""

    tokens: Packed
    """Masked."""
    positions: Tensor
    """[m] int64: packed positions of the tokens to guess."""
    truth: Tensor
    """[m] int64: what stood there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MlmBatch:
    """This process's part of one step."""

    chunks: list[MlmChunk]
    first_window: int


class MlmStage:
    """Data, model and loss of one masked-language-model run."""

    def __init__(self, config: MlmConfig, folder: Path, world: World = ALONE) -> None:
        """Load the model and tokenise the data, which is kept in the data cache for the next time.

        Args:
            config: what to train on.
            folder: what relative paths start at.
            world: which process of how many this is.

        Raises:
            ConfigError: the settings contradict the data or the model.
            CheckpointError: the model the run starts from cannot be read, or its tokenizer has no [MASK].
            UnknownModelError: `model.init` is neither a model nor a folder.
            InputError: a data file is damaged.
        """
        torch.manual_seed(config.loop.seed)
        self.config = config
        self.world = world
        self.device = training_device()
        start = build_masked_lm(config.model, folder)
        self.encoder = start.encoder
        self.model = start.model.to(self.device)
        if config.loop.compile:
            compile_blocks(self.encoder.model)
        self.dims: tuple[int, ...] = ()
        """None: vectors for search come with later stages."""
        if config.window_tokens > self.model.config.max_positions:
            raise ConfigError(
                f"window_tokens: {config.window_tokens} is more than the model's {self.model.config.max_positions}; "
                "choose less, or set model.max_positions"
            )
        self._load(folder)
        steps = len(self.windows)
        warmup = config.loop.warmup_steps or int(steps * config.warmup_share)
        self.loop = replace(config.loop, max_steps=steps, warmup_steps=warmup)
        """The recipe's loop with the steps that the epochs come to."""

    def _load(self, folder: Path) -> None:
        config, tokenizer = self.config, self.encoder.tokenizer
        special = _special_ids(tokenizer)

        def encode(texts: Sequence[str]) -> list[list[int]]:
            whole = tokenizer.encode(texts, max_tokens=_NO_LIMIT, long_text_mode=LongTextMode.ERROR)
            return [ids.tolist() for ids in whole.sequences]

        self.store = open_tokens(
            config.data,
            folder,
            encode,
            vocab_size=tokenizer.vocab_size,
            tokenizer=_digest(self.encoder.tokenizer_folder),
        )
        self.windows = Windows(
            self.store,
            length=config.window_tokens,
            batch_size=config.batch_size,
            seed=config.loop.seed,
            steps=config.loop.max_steps,
            epochs=config.epochs,
            rank=self.world.rank,
            world=self.world.size,
        )
        self.masking = Masking(
            mask_id=special[-1],
            special_ids=special,
            vocab_size=tokenizer.vocab_size,
            rate=config.mask_share,
        )

    def parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Return the parameters of encoder and head; the tied word table once."""
        return self.model.named_parameters()

    def batch(self, step: int) -> MlmBatch:
        """Cut and mask this process's windows of a step."""
        windows = self.windows.batch(step)
        inputs, labels = self.masking.apply(windows, self.config.loop.seed)
        count, length = inputs.shape
        pieces = [[length]] * count if self.config.across_documents else _by_window(windows.lengths, length)
        together = max(1, self.config.chunk_tokens // length) if self.config.chunk_tokens else max(1, count)
        chunks = []
        for begin in range(0, count, together):
            part = slice(begin, begin + together)
            flat = labels[part].reshape(-1)
            positions = np.flatnonzero(flat != IGNORED)
            tokens = Packed(
                input_ids=torch.from_numpy(inputs[part].reshape(-1)),
                lengths=[piece for window in pieces[part] for piece in window],
            )
            chunks.append(
                MlmChunk(
                    tokens=tokens,
                    positions=torch.from_numpy(positions),
                    truth=torch.from_numpy(flat[positions]),
                )
            )
        return MlmBatch(chunks=chunks, first_window=int(windows.windows[0]))

    def backward(self, batch: MlmBatch) -> float:
        """Add the gradient of this process's share of the mean cross-entropy over the step's hidden tokens."""
        own = sum(len(chunk.truth) for chunk in batch.chunks)
        (hidden,) = sum_numbers((own,), self.world, self.device)
        share = 0.0
        for chunk in batch.chunks:
            tokens = chunk.tokens.to(self.device)
            logits = self.model(tokens.input_ids, tokens.lengths, chunk.positions.to(self.device))
            with torch.autocast(self.device.type, enabled=False):
                loss = F.cross_entropy(logits.float(), chunk.truth.to(self.device), reduction="sum") / max(hidden, 1.0)
            loss.backward()  # type: ignore[no-untyped-call]
            share += float(loss.detach())
        return share

    def tokens(self, batch: MlmBatch) -> int:
        """Return the tokens of this process's part."""
        return sum(len(chunk.tokens.input_ids) for chunk in batch.chunks)

    def describe(self, batch: MlmBatch) -> str:
        """Say which data a batch is, for an error."""
        count = self.tokens(batch) // self.config.window_tokens
        return f"{count} windows of {self.config.window_tokens} tokens from number {batch.first_window} on"

    def survey(self) -> Survey:
        """Count texts, and measure how long they are."""
        config = self.config
        shown = len(self.windows) * config.batch_size * config.window_tokens
        seen = float(config.epochs or shown / self.windows.tokens)
        median, p95 = np.percentile(self.store.lengths, [50, 95])
        longer = float((self.store.lengths > config.window_tokens).mean())
        return Survey(
            batch_size=config.batch_size,
            sources=[SourceUse(name="texts", rows=len(self.store), seen=seen)],
            skipped=[],
            lengths=[
                Lengths(
                    name="text",
                    texts=len(self.store),
                    median=round(float(median)),
                    p95=round(float(p95)),
                    limit=config.window_tokens,
                    truncated=longer,
                )
            ],
        )


def _special_ids(tokenizer: Tokenizer) -> list[int]:
    """Return the ids of the special tokens that the tokenizer has, [MASK] last."""
    found = [ids[0] for ids in tokenizer.token_ids(list(_NEVER_HIDDEN)) if len(ids) == 1]
    if len(tokenizer.token_ids(["[MASK]"])[0]) != 1:
        raise CheckpointError("the tokenizer has no token [MASK]; take a tokenizer of the BERT family")
    return [int(token) for token in found]


def _digest(folder: Path) -> str:
    """Return what tells a tokenizer from another."""
    digest = hashlib.sha256()
    for name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json"):
        if (folder / name).is_file():
            digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def _by_window(pieces: Sequence[int], length: int) -> list[list[int]]:
    """Return the lengths of the pieces of each window."""
    windows: list[list[int]] = []
    filled = length
    for piece in pieces:
        if filled == length:
            windows.append([])
            filled = 0
        windows[-1].append(piece)
        filled += piece
    return windows
