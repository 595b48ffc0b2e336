"""Texts to embeddings: check, tokenize, plan, run, finish, in the caller's order."""

from __future__ import annotations

import inspect
import operator
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from types import TracebackType
from typing import Self, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from gnomonic.catalog import ModelSpec
from gnomonic.errors import EngineError, InputError
from gnomonic.inference.batching import pad, plan_batches
from gnomonic.inference.engines.base import Engine
from gnomonic.inference.postprocess import finish, merge_chunks
from gnomonic.inference.tokenizer import Tokenized, Tokenizer
from gnomonic.types import Embeddings, LongTextMode, TaskType, Usage

__all__ = ["EncodeOptions", "TextEncoder", "Timings", "check_dim", "check_finite", "check_options", "check_texts"]

# Texts are tokenized and batched in blocks, so that a long list costs no more memory than a short one: enough
# texts for batches of equal length, few enough characters that their tokens stay small.
_BLOCK_TEXTS = 8192
_BLOCK_CHARACTERS = 1 << 23


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodeOptions:
    """How texts are embedded: what a caller asked for, checked against a model."""

    prefix: str
    dim: int
    long_text_mode: LongTextMode
    max_tokens: int
    """Longest sequence, prefix and special tokens included."""


@dataclass(kw_only=True, slots=True)
class Timings:
    """Where an encoder's time went since it was made, in seconds of wall time."""

    tokenize_s: float = 0.0
    engine_s: float = 0.0
    finish_s: float = 0.0


class TextEncoder:
    """A text model ready to embed; satisfies `types.Embedder`. Safe to use from several threads.

    Attributes:
        spec: the model's name, sizes, prefixes and post-processing.
        tokenizer: turns texts into token sequences.
        engine: runs the batches; calls to it are made one at a time.
        timings: seconds spent in each stage so far.
    """

    def __init__(self, spec: ModelSpec, tokenizer: Tokenizer, engine: Engine) -> None:
        """Join a model's parts; `gnomonic.load` opens them from a name or folder."""
        self.spec = spec
        self.tokenizer = tokenizer
        self.engine = engine
        self.timings = Timings()
        self._lock = threading.Lock()
        self._closed = False

    def encode(
        self,
        texts: Iterable[str],
        *,
        task_type: TaskType | str = TaskType.SEARCH_DOCUMENT,
        dim: int | None = None,
        long_text_mode: LongTextMode | str = LongTextMode.TRUNCATE,
        max_tokens_per_text: int = 8192,
        on_progress: Callable[[int], None] | None = None,
    ) -> Embeddings:
        """Embed texts, in order.

        Args:
            texts: any number of strings, empty ones included.
            task_type: selects the prefix.
            dim: size of the vectors, 1 to the model's width; None for the full width. It warns below the
                sizes the model was trained for.
            long_text_mode: what becomes of a text that does not fit: "truncate" cuts it, "mean" averages its
                chunks, "error" refuses it.
            max_tokens_per_text: the longest sequence the model sees, prefix and special tokens included; the
                model's own limit applies as well.
            on_progress: called with the number of texts finished so far, from 1 to all of them.

        Returns:
            vectors [len(texts), dim] float32 with unit rows; usage counts the body tokens that were embedded.

        Raises:
            InputError: a text or an option is not usable.
            EngineError: the backend failed, or gave a vector that is not finite; it names the texts.
        """
        checked = check_texts(texts)
        options = check_options(
            self.spec,
            task_type=task_type,
            dim=dim,
            long_text_mode=long_text_mode,
            max_tokens_per_text=max_tokens_per_text,
        )
        vectors = np.empty((len(checked), options.dim), dtype=np.float32)
        truncated: list[int] = []
        prompt_tokens = 0
        for block in _blocks(checked):
            began = time.perf_counter()
            tokens = self.tokenizer.encode(
                checked[block.start : block.stop],
                prefix=options.prefix,
                max_tokens=options.max_tokens,
                long_text_mode=options.long_text_mode,
                first_index=block.start,
            )
            self.timings.tokenize_s += time.perf_counter() - began
            self._embed_block(tokens, block.start, vectors[block.start : block.stop], on_progress)
            truncated += tokens.truncated
            prompt_tokens += tokens.prompt_tokens
        usage = Usage(prompt_tokens=prompt_tokens, total_tokens=prompt_tokens)
        return Embeddings(vectors=vectors, model=self.spec.name, usage=usage, truncated=tuple(truncated))

    def close(self) -> None:
        """Free the engine once the batch it may be running is done; later calls raise EngineError."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _embed_block(
        self,
        tokens: Tokenized,
        first: int,
        out: NDArray[np.float32],
        on_progress: Callable[[int], None] | None,
    ) -> None:
        """Embed a block's sequences into `out` [texts, dim]; `first` is the index of its first text."""
        lengths = np.fromiter(map(len, tokens.sequences), dtype=np.int64, count=len(tokens.sequences))
        chunks_left = np.bincount(tokens.owners, minlength=len(out))
        chunks = out if len(lengths) == len(out) else np.empty((len(lengths), out.shape[1]), dtype=np.float32)
        done = first
        for batch in plan_batches(lengths, self.engine.budget):
            owners = tokens.owners[batch]
            pooled = self._run([tokens.sequences[i] for i in batch], owners + first)
            began = time.perf_counter()
            chunks[batch] = finish(pooled, layer_norm=self.spec.layer_norm, dim=out.shape[1])
            self.timings.finish_s += time.perf_counter() - began
            np.subtract.at(chunks_left, owners, 1)
            if on_progress is not None and (finished := first + int((chunks_left == 0).sum())) > done:
                done = finished
                on_progress(done)
        if chunks is not out:
            out[:] = merge_chunks(chunks, tokens.owners, len(out))

    def _run(self, sequences: list[NDArray[np.int32]], texts: NDArray[np.int64]) -> NDArray[np.float32]:
        """Run one batch; `texts` holds the index of each sequence's text, for messages."""
        feeds = pad(sequences)
        with self._lock:
            if self._closed:
                raise EngineError(f"the encoder of {self.spec.name} is closed; load the model again")
            began = time.perf_counter()
            try:
                pooled = self.engine.run(feeds)
            except EngineError as error:
                rows, width = feeds["input_ids"].shape
                raise EngineError(
                    f"{self.spec.name} failed on {rows} × {width} tokens ({_named(texts)}): {error}",
                    hint=error.hint,
                ) from error
            finally:
                self.timings.engine_s += time.perf_counter() - began
        check_finite(pooled, texts, self.spec.name, self.engine.precision)
        return pooled


def check_options(
    spec: ModelSpec,
    *,
    task_type: TaskType | str,
    dim: int | None,
    long_text_mode: LongTextMode | str,
    max_tokens_per_text: int,
) -> EncodeOptions:
    """Check what a caller asked for against a model; the arguments are those of `TextEncoder.encode`.

    Raises:
        InputError: an option is not usable with this model.
    """
    task = TaskType.parse(task_type)
    mode = LongTextMode.parse(long_text_mode)
    width = check_dim(dim, spec)
    limit = min(_check_limit(max_tokens_per_text), spec.max_tokens)
    return EncodeOptions(prefix=_prefix(task, spec), dim=width, long_text_mode=mode, max_tokens=limit)


def check_finite(pooled: NDArray[np.float32], texts: NDArray[np.int64], model: str, precision: str) -> None:
    """Refuse pooled vectors with a NaN or an infinity.

    Args:
        pooled: [rows, hidden_size].
        texts: [rows] the index of each row's text, for the message.
        model: its name, for the message.
        precision: the engine's, for the message.

    Raises:
        EngineError: a row is not finite; names the texts.
    """
    bad = ~np.isfinite(pooled).all(axis=1)
    if bad.any():
        raise EngineError(
            f"{model} gave vectors that are not finite for {_named(texts[bad])}; the weights "
            f"are damaged, or {precision} is too narrow for them: try precision 'fp32'"
        )


def _prefix(task: TaskType, spec: ModelSpec) -> str:
    """Return the task's prefix; a model without any prefix takes every task as it is."""
    if not spec.prefixes:
        return ""
    if task not in spec.prefixes:
        known = ", ".join(spec.prefixes)
        raise InputError(f"task_type {str(task)!r} has no prefix in {spec.name}; choose one of {known}")
    return spec.prefixes[task]


def check_texts(texts: object) -> list[str]:
    """Return the texts as a list, each one embeddable.

    NULs and other control characters are legal; BERT's normalizer drops them.

    Raises:
        InputError: not a list of strings, or a string with a lone surrogate; names index and position.
    """
    if isinstance(texts, str | bytes | bytearray):
        kind = type(texts).__name__
        raise InputError(f"texts is one {kind}; pass a list of strings, such as [text]")
    if isinstance(texts, Mapping | Set) or not isinstance(texts, Iterable) or getattr(texts, "ndim", 1) != 1:
        raise InputError(f"texts is a {type(texts).__name__}; pass a list of strings")
    checked = list(texts)
    for index, text in enumerate(checked):
        if not isinstance(text, str):
            way = "decode it first" if isinstance(text, bytes | bytearray) else "every text must be a str"
            value = "None" if text is None else f"of type {type(text).__name__}"
            raise InputError(f"texts[{index}] is {value}; {way}")
        if not text.isascii():
            _check_unicode(text, index)
    return checked


def check_dim(dim: SupportsIndex | None, spec: ModelSpec) -> int:
    """Return the size of the vectors; None means the model's full width.

    Warns:
        UserWarning: the size is below the smallest one the model was trained for.

    Raises:
        InputError: not a whole number, or outside 1 to the model's width.
    """
    if dim is None:
        return spec.hidden_size
    choice = f"choose 1\u2013{spec.hidden_size} ({spec.name})"
    size = _whole_number(dim)
    if size is None:
        raise InputError(f"dimensionality {dim!r} is not a whole number; {choice}")
    if size < 1:
        raise InputError(f"dimensionality {size} is smaller than 1; {choice}")
    if size > spec.hidden_size:
        raise InputError(f"dimensionality {size} is larger than the model's {spec.hidden_size}; {choice}")
    if size < spec.min_dim:
        warnings.warn(
            f"dimensionality {size} is below {spec.min_dim}, the smallest size {spec.name} was trained for; "
            "expect poorer results",
            UserWarning,
            stacklevel=_level_of_caller(),
        )
    return size


def _level_of_caller() -> int:
    """Return the stack level, as `warnings.warn` counts from our caller, of the first frame outside the package."""
    level, frame = 1, inspect.currentframe()
    frame = frame.f_back if frame else None
    while frame and frame.f_globals.get("__name__", "").startswith("gnomonic."):
        level, frame = level + 1, frame.f_back
    return level


def _check_limit(max_tokens: SupportsIndex) -> int:
    rule = "it must be a whole number of tokens, 1 or more"
    limit = _whole_number(max_tokens)
    if limit is None or limit < 1:
        raise InputError(f"max_tokens_per_text {max_tokens!r} is no limit; {rule}")
    return limit


def _whole_number(value: object) -> int | None:
    """Return an int or numpy integer as an int; None for anything else, switches included."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, SupportsIndex):
        return None
    try:
        return operator.index(value)
    except TypeError:  # an array of several numbers has the method as well
        return None


def _check_unicode(text: str, index: int) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"texts[{index}] holds the lone surrogate U+{ord(text[error.start]):04X} at position "
            f"{error.start}, which is no character; replace it, or decode the source with errors='replace'"
        ) from None


def _blocks(texts: list[str]) -> Iterator[range]:
    """Split the texts into blocks that are bounded in number and in characters."""
    begin = characters = 0
    for i, text in enumerate(texts):
        characters += len(text)
        if i + 1 - begin == _BLOCK_TEXTS or characters >= _BLOCK_CHARACTERS:
            yield range(begin, i + 1)
            begin, characters = i + 1, 0
    if begin < len(texts):
        yield range(begin, len(texts))


def _named(texts: NDArray[np.int64]) -> str:
    """Return "texts[3]" or "texts[3], texts[5] and 10 more"."""
    first = [f"texts[{i}]" for i in np.unique(texts)[:3]]
    more = len(np.unique(texts)) - len(first)
    return ", ".join(first) + (f" and {more} more" if more else "")
