"""What the server does, without HTTP: a request in, embeddings out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gnomonic.errors import DeadlineError, EngineError, InputError, TooLargeError, UnavailableError
from gnomonic.inference.encoder import EncodeOptions, check_options, check_texts
from gnomonic.inference.load import ModelFiles
from gnomonic.inference.postprocess import finish, merge_chunks
from gnomonic.inference.tokenizer import Tokenized
from gnomonic.server.jobs import BatchReport
from gnomonic.server.models import Entry, Shelf, ShelfOptions
from gnomonic.server.queue import BatchQueue
from gnomonic.server.workers import Worker
from gnomonic.settings import Settings
from gnomonic.types import Embeddings, EmbedRequest, Usage

__all__ = ["Answer", "Limits", "Service", "ServiceOptions"]

log = logging.getLogger(__name__)
T = TypeVar("T")

# Below this a text is tokenized, and above that rows are finished, in less time than a thread takes to be woken.
_INLINE_CHARACTERS = 4096
_SHORT_CHARACTERS = 1 << 16
_INLINE_VALUES = 1 << 16
_LAST_BATCH_S = 5.0
"""How long the batch in the worker may take when the server ends."""
_CANARY = "The canary sings; the mine is safe."
_CANARY_FRESH_S = 5.0
_CANARY_TIMEOUT_S = 5.0
_CANARY_COSINE = 0.999


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one request may ask for, and how much may wait."""

    max_texts: int = 2048
    max_request_tokens: int = 1_000_000
    max_queue_tokens: int = 500_000
    deadline_s: float = 60.0
    allow_token_ids: bool = False
    """Take token ids of the model's own vocabulary; off, since clients send those of other vocabularies."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceOptions:
    """Everything a service is made from."""

    models: tuple[str, ...]
    shelf: ShelfOptions = ShelfOptions()  # noqa: RUF009
    limits: Limits = Limits()
    batch_timeout_s: float = 120.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """Embeddings, and where the time went."""

    embeddings: Embeddings
    fingerprint: str
    phases: dict[str, float] = field(default_factory=dict)
    """Seconds by phase: tokenize, queue, engine, finish."""


class Service:
    """Models, a queue and a worker behind one call."""

    def __init__(
        self,
        options: ServiceOptions,
        settings: Settings,
        *,
        on_batch: Callable[[BatchReport], None] | None = None,
        on_restart: Callable[[], None] | None = None,
    ) -> None:
        """Put the parts together; `start` brings them to life.

        Args:
            options: models and limits.
            settings: cache folder, offline switch, hub.
            on_batch: told of each batch.
            on_restart: told of each worker that replaced a dead one.
        """
        self._on_restart = on_restart
        self.limits = options.limits
        self.worker = Worker(batch_timeout_s=options.batch_timeout_s, on_start=self._worker_is_back)
        self.models = Shelf(options.models, self.worker, settings, options=options.shelf)
        self.queue = BatchQueue(
            self.worker.run, ready=self._ready, max_tokens=options.limits.max_queue_tokens, on_batch=on_batch
        )
        # Long texts have a thread of their own, so that none of ordinary length waits behind them.
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="short")
        self._slow_thread = ThreadPoolExecutor(1, thread_name_prefix="long")
        self._refusing: UnavailableError | None = None
        self._canary: NDArray[np.float32] | None = None
        self._last_good = 0.0
        self._worker_made_ready = 0

    async def start(self) -> None:
        """Start the worker, open the default model and embed the canary.

        Raises:
            UnavailableError: the default model cannot be opened.
        """
        await self.worker.start()
        self._canary = await self._embed_canary()

    async def stop(self) -> None:
        """Refuse what waits, end the batch in the worker, then the worker."""
        self.refuse()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.queue.drained(), _LAST_BATCH_S)
        await self.worker.stop()
        for threads in (self._threads, self._slow_thread):
            threads.shutdown(cancel_futures=True)

    def refuse(self) -> None:
        """Answer what waits, and what comes, with a clean refusal."""
        self._refusing = UnavailableError("the server is ending; ask again when it is back")
        self.queue.fail_all(self._refusing)

    async def embed(self, request: EmbedRequest) -> Answer:
        """Embed the texts of a request; cancelling drops what is not in a batch yet.

        Raises:
            InputError: the request asks for what the model or the server does not do.
            OverloadedError: too much waits.
            DeadlineError: it took too long.
            UnavailableError: model or worker are away.
            EngineError: the engine failed on one of the texts.
        """
        if self._refusing is not None:
            raise self._refusing
        deadline = time.monotonic() + self.limits.deadline_s
        try:
            async with asyncio.timeout(self.limits.deadline_s):
                return await self._embed(request, deadline)
        except TimeoutError:
            raise DeadlineError(
                f"the embeddings were not ready after {self.limits.deadline_s:g} s; send fewer texts at once, or try "
                "when the server is less busy"
            ) from None

    async def _embed(self, request: EmbedRequest, deadline: float | None) -> Answer:
        """Embed; without a deadline it is the server's own probe, which is taken however much waits."""
        entry = self.models.find(request.model)
        self._check_size(request)
        files = await self.models.read(entry)
        options = check_options(
            files.spec,
            task_type=request.task_type,
            dim=request.dim,
            long_text_mode=request.long_text_mode,
            max_tokens_per_text=request.max_tokens_per_text,
        )
        began = time.perf_counter()
        tokens = await self._tokenize(request, files, options)
        phases = {"tokenize": time.perf_counter() - began, "queue": 0.0, "engine": 0.0, "finish": 0.0}
        vectors = np.empty((0, options.dim), dtype=np.float32)
        if tokens.sequences:
            vectors = await self._encode(entry, tokens, options, deadline, phases)
        usage = Usage(prompt_tokens=tokens.prompt_tokens, total_tokens=tokens.prompt_tokens)
        embeddings = Embeddings(vectors=vectors, model=entry.name, usage=usage, truncated=tuple(tokens.truncated))
        return Answer(embeddings=embeddings, fingerprint=entry.fingerprint, phases=phases)

    async def healthy(self) -> None:
        """Return if the default model embeds as it did at the start.

        A batch that ended well in the last seconds is proof enough; else the canary is embedded again.

        Raises:
            GnomonicError: why it does not.
        """
        if not self.worker.alive:
            raise UnavailableError("the worker is down; it is being started again")
        if time.monotonic() - self._last_good < _CANARY_FRESH_S:
            return
        try:
            async with asyncio.timeout(_CANARY_TIMEOUT_S):
                found = await self._embed_canary()
        except TimeoutError:
            if self.models.opening:  # the worker is busy, not ill
                return
            raise UnavailableError(f"the canary text had no vector after {_CANARY_TIMEOUT_S:.0f} s") from None
        if self._canary is not None and float(found @ self._canary) < _CANARY_COSINE:
            raise EngineError(
                "the canary text gives another vector than at the start; the weights changed or are damaged"
            )

    async def _encode(
        self, entry: Entry, tokens: Tokenized, options: EncodeOptions, deadline: float | None, phases: dict[str, float]
    ) -> NDArray[np.float32]:
        """Return [texts, dim] float32, and note the time it took."""
        files = await self.models.read(entry)
        entry.users += 1
        try:
            line = await self.models.open(entry)
            pooled = await self.queue.submit(
                line, tokens.sequences, owners=tokens.owners, deadline=deadline, exempt=deadline is None
            )
        finally:
            entry.users -= 1
        if entry.name == self.models.default:
            self._last_good = time.monotonic()
        began = time.perf_counter()
        texts = int(tokens.owners[-1]) + 1

        def end() -> NDArray[np.float32]:
            embedded = finish(pooled.vectors, layer_norm=files.spec.layer_norm, dim=options.dim)
            return merge_chunks(embedded, tokens.owners, texts)

        small = pooled.vectors.size <= _INLINE_VALUES
        vectors = end() if small else await asyncio.get_running_loop().run_in_executor(self._threads, end)
        phases.update(queue=pooled.queue_s, engine=pooled.engine_s, finish=time.perf_counter() - began)
        return vectors

    async def _tokenize(self, request: EmbedRequest, files: ModelFiles, options: EncodeOptions) -> Tokenized:
        ids = request.options.get("token_ids")
        if ids is not None:
            tokens = self._as_given(ids, files, options)
        else:
            texts = check_texts(request.texts)

            def work() -> Tokenized:
                return files.tokenizer.encode(
                    texts,
                    prefix=options.prefix,
                    max_tokens=options.max_tokens,
                    long_text_mode=options.long_text_mode,
                )

            tokens = await self.in_thread(sum(map(len, texts)), work)
        total = sum(map(len, tokens.sequences))
        if total > self.limits.max_request_tokens:
            raise TooLargeError(
                f"the request has {total:,} tokens, more than the {self.limits.max_request_tokens:,} this server takes "
                "at once; send fewer texts in each request"
            )
        return tokens

    async def in_thread(self, characters: int, work: Callable[[], T]) -> T:
        """Do work on that many characters: at once where a thread would cost more, else in one for their number."""
        if characters <= _INLINE_CHARACTERS:
            return work()
        threads = self._threads if characters <= _SHORT_CHARACTERS else self._slow_thread
        return await asyncio.get_running_loop().run_in_executor(threads, work)

    def _as_given(self, rows: list[list[int]], files: ModelFiles, options: EncodeOptions) -> Tokenized:
        """Return token ids as sequences, without prefix and special tokens added."""
        if not self.limits.allow_token_ids:
            raise InputError(
                "the input is token ids, and this server takes texts: ids of another model's vocabulary would be "
                "embedded as other words. With langchain-openai set check_embedding_ctx_length=False; with ids of this "
                "model's own vocabulary start the server with --allow-token-ids"
            )
        vocab_size = files.tokenizer.vocab_size
        for index, row in enumerate(rows):
            if not row or not 0 <= min(row) <= max(row) < vocab_size:
                raise InputError(f"input[{index}]: token ids must be 0 to {vocab_size - 1}, at least one")
            if len(row) > options.max_tokens:
                raise InputError(f"input[{index}] has {len(row)} token ids, more than {options.max_tokens}; send fewer")
        sequences = [np.array(row, dtype=np.int32) for row in rows]
        owners = np.arange(len(rows), dtype=np.int64)
        return Tokenized(sequences=sequences, owners=owners, prompt_tokens=sum(map(len, rows)), truncated=[])

    def _check_size(self, request: EmbedRequest) -> None:
        count = len(request.options.get("token_ids") or request.texts)
        if count > self.limits.max_texts:
            raise TooLargeError(
                f"the request has {count:,} texts, more than the {self.limits.max_texts:,} this server takes at once; "
                "send them in several requests"
            )

    def _ready(self) -> bool:
        return self.worker.alive and self._worker_made_ready == self.worker.restarts

    async def _worker_is_back(self) -> None:
        number = self.worker.restarts
        if self._on_restart is not None:
            self._on_restart()
        for name, error in (await self.models.reopen()).items():
            self.queue.fail_all(error, key=name)
        self._worker_made_ready = number
        self.queue.wake()

    async def _embed_canary(self) -> NDArray[np.float32]:
        answer = await self._embed(EmbedRequest(texts=(_CANARY,), model=""), None)
        vector: NDArray[np.float32] = answer.embeddings.vectors[0]
        return vector
