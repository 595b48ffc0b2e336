"""Documents as windows of a fixed number of tokens, without padding, and the masks of masked-language modelling."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomonic.errors import ConfigError
from gnomonic.training.data.shuffles import Shuffles
from gnomonic.training.data.tokens import TokenStore

__all__ = ["IGNORED", "Masking", "WindowBatch", "Windows"]

IGNORED = -100
"""Label of a token that is not to be predicted, the default `ignore_index` of torch's cross-entropy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowBatch:
    """Windows of one step; this rank's part of them."""

    input_ids: NDArray[np.int64]
    """[windows, length] int64."""
    lengths: list[int]
    """Tokens of each piece of a document, in order over all windows; they add up to windows × length. A document that
    lies across the border of two windows counts once in each."""
    windows: NDArray[np.int64]
    """[windows] int64: their numbers, which never come again in the run."""


class Windows:
    """Documents, shuffled and laid end to end, cut every `length` tokens; a pure function of the settings.

    Each pass over the documents has its own order and goes on in the window where the pass before ended, so no token
    is left out and none is padding; only what does not fill the last window of the run is dropped. This is the
    packing of nomic-bert-2048 and of RoBERTa's FULL-SENTENCES (arXiv:1907.11692, §4.2), borders ignored.
    """

    def __init__(
        self,
        store: TokenStore,
        *,
        length: int,
        batch_size: int,
        seed: int,
        steps: int = 0,
        epochs: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Lay out the run.

        Args:
            store: the documents.
            length: tokens of a window.
            batch_size: windows of a step, over all ranks.
            seed: of the shuffles.
            steps: length of the run in steps; or
            epochs: its length in passes over all documents, the last batch smaller where it has to be. One of the two
                is given.
            rank: which part of each batch is returned.
            world: number of ranks; each takes an equal part.

        Raises:
            ConfigError: the documents do not fill one batch per rank, the batch does not divide by the ranks, or not
                one of steps and epochs is given.
        """
        if (steps > 0) == (epochs > 0) or steps < 0 or epochs < 0:
            raise ConfigError(f"steps and epochs: {steps} and {epochs} are given; give one of them, above 0")
        if batch_size < 1 or batch_size % world:
            raise ConfigError(
                f"batch_size: {batch_size} cannot be shared equally by {world} processes; take a positive multiple"
            )
        self.batch_size = batch_size
        self._store, self._length = store, length
        self._rank, self._world = rank, world
        self._tokens = int(store.lengths.sum())
        filled = epochs * self._tokens // length if epochs else steps * batch_size
        self._windows = filled - filled % world
        if not self._windows or not self._tokens:
            raise ConfigError(f"data: {self._tokens} tokens do not fill a window of {length}; give more text")
        self._shuffles = Shuffles(seed)
        self._ends: dict[int, NDArray[np.int64]] = {}

    def __len__(self) -> int:
        """Return the steps of the run."""
        return -(-self._windows // self.batch_size)

    @property
    def tokens(self) -> int:
        """Tokens of one pass over the documents."""
        return self._tokens

    def batch(self, step: int) -> WindowBatch:
        """Return this rank's windows of a step; may be called from several threads.

        Raises:
            IndexError: the run has no such step.
        """
        if not 0 <= step < len(self):
            raise IndexError(f"step {step} of a run of {len(self)}")
        first = step * self.batch_size
        part = min(self.batch_size, self._windows - first) // self._world
        numbers = np.arange(first + self._rank * part, first + (self._rank + 1) * part)
        ids = np.empty((part, self._length), np.int64)
        lengths: list[int] = []
        for row, number in zip(ids, numbers.tolist(), strict=True):
            lengths += self._fill(row, number * self._length)
        return WindowBatch(input_ids=ids, lengths=lengths, windows=numbers)

    def _fill(self, row: NDArray[np.int64], position: int) -> list[int]:
        """Copy the tokens from a position of the endless stream on, and return the lengths of the pieces."""
        pieces = []
        done = 0
        while done < len(row):
            turn, offset = divmod(position + done, self._tokens)
            order, ends = self._pass(turn)
            place = int(np.searchsorted(ends, offset, side="right"))
            while done < len(row) and place < len(ends):
                document = order[place]
                left = int(ends[place]) - offset
                count = min(left, len(row) - done)
                start = int(self._store.starts[document] + self._store.lengths[document]) - left
                row[done : done + count] = self._store.ids[start : start + count]
                pieces.append(count)
                done, offset, place = done + count, offset + count, place + 1
        return pieces

    def _pass(self, turn: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the order of the documents in a pass, and where each ends."""
        order = self._shuffles.get(0, turn, len(self._store))
        ends = self._ends.get(turn)
        if ends is None:
            ends = np.cumsum(self._store.lengths[order])
            # Replaced, not changed: another thread may be reading it.
            self._ends = {key: value for key, value in self._ends.items() if key >= turn - 1} | {turn: ends}
        return order, ends


@dataclass(frozen=True, kw_only=True, slots=True)
class Masking:
    """Which tokens are hidden, and behind what: BERT's rule (arXiv:1810.04805, §3.1) at the rate of the recipe."""

    mask_id: int
    """Id of [MASK]."""
    special_ids: Collection[int]
    """Ids that are never chosen and never put in, such as [CLS], [SEP] and [PAD]."""
    vocab_size: int
    """Entries of the tokenizer, without the rows that only round the embedding table up."""
    rate: float = 0.3
    """Share of the other tokens that is to be predicted."""

    def __post_init__(self) -> None:
        """Check the rate.

        Raises:
            ConfigError: it is not between 0 and 1.
        """
        if not 0 < self.rate < 1:
            raise ConfigError(f"mask_rate: {self.rate} is not between 0 and 1; 0.3 is usual")

    def apply(self, batch: WindowBatch, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Hide tokens of a batch; what is hidden in a window depends on the seed and the window's number alone.

        Of the tokens chosen, 80 % become [MASK], 10 % a random token that is not special, and 10 % stay.

        Args:
            batch: the windows.
            seed: of the draws.

        Returns:
            input_ids and labels, each [windows, length] int64; a label is the true id where a token was chosen, and
            `IGNORED` elsewhere.
        """
        inputs = batch.input_ids.copy()
        labels = np.full_like(inputs, IGNORED)
        special = np.array(sorted({*self.special_ids, self.mask_id}), np.int64)
        ordinary = np.setdiff1d(np.arange(self.vocab_size), special)
        for row, label, number in zip(inputs, labels, batch.windows.tolist(), strict=True):
            rng = np.random.default_rng([seed, number])
            draws, fates = rng.random(len(row)), rng.random(len(row))
            chosen = (draws < self.rate) & ~np.isin(row, special)
            label[chosen] = row[chosen]
            row[chosen & (fates < 0.8)] = self.mask_id
            other = chosen & (fates >= 0.9)
            row[other] = rng.choice(ordinary, int(other.sum()))
        return inputs, labels
