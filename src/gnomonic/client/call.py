"""One remote call: its parts, what came of each, and the result put together. Shared by the threads that work on it."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable

import numpy as np

from gnomonic.client import wire
from gnomonic.client.retries import Patience
from gnomonic.client.wire import Answer
from gnomonic.errors import (
    AuthenticationError,
    GnomonicError,
    InputError,
    PartialFailureError,
    RemoteError,
)
from gnomonic.types import Embeddings, EmbedRequest, Usage

__all__ = ["Call"]


class Call:
    """The work on one request.

    Attributes:
        request: what was asked.
        parts: the texts of each HTTP request.
        patience: how long to wait and try.
        stopped: set once no further request is worth sending.
    """

    def __init__(self, request: EmbedRequest, patience: Patience, clock: Callable[[], float]) -> None:
        """Cut the request into parts and start the clock."""
        self.request = request
        self.patience = patience
        self.parts = wire.split(request.texts)
        self.stopped = threading.Event()
        self._clock = clock
        self._ends_at = clock() + patience.deadline_s
        self._lock = threading.Lock()
        self._waiting = iter(self.parts)
        self._answers: dict[range, Answer] = {}
        self._first_error: GnomonicError | None = None

    @property
    def workers(self) -> int:
        """How many requests are made at once."""
        return min(len(self.parts), self.patience.in_flight)

    def left_s(self) -> float:
        """Return the seconds until the deadline, negative after it."""
        return self._ends_at - self._clock()

    def next_part(self) -> range | None:
        """Take the next part to ask for; None when there is none, or the call was stopped."""
        with self._lock:
            return None if self.stopped.is_set() else next(self._waiting, None)

    def finish(self, part: range, answer: Answer) -> None:
        """Keep the answer to a part."""
        with self._lock:
            self._answers[part] = answer

    def fail(self, error: GnomonicError) -> None:
        """Give a part up. The others go on only where the error may be due to the part's own texts."""
        with self._lock:
            is_final = isinstance(error, InputError | AuthenticationError)
            if self._first_error is None or (is_final and not self._is_final()):
                self._first_error = error
            if type(error) is not RemoteError or error.status is None:
                self.stopped.set()

    def result(self) -> Embeddings:
        """Put the answers together, in the order of the texts.

        Raises:
            PartialFailureError: some parts have vectors, others not.
            RemoteError: no part has, or two parts come from different models.
            InputError: the server refuses the request; no other part's answer would help.
        """
        error = self._first_error
        if error is not None:
            if self._is_final() or not self._answers:
                raise error
            raise self._partial(error) from error
        answers = [self._answers[part] for part in self.parts]
        if not answers:
            return self._empty()
        if len({(answer.model, answer.fingerprint, answer.vectors.shape[1]) for answer in answers}) > 1:
            raise RemoteError(
                "the server answered parts of one call with different models, so their vectors cannot be compared",
                hint="wait until all replicas behind GNOMONIC_API_URL serve the same model, then repeat the call",
            )
        usage = Usage(
            prompt_tokens=sum(answer.prompt_tokens for answer in answers),
            total_tokens=sum(answer.total_tokens for answer in answers),
        )
        return Embeddings(
            vectors=np.concatenate([answer.vectors for answer in answers]),
            model=answers[0].model,
            usage=usage,
            truncated=self._truncated(),
        )

    def _is_final(self) -> bool:
        return isinstance(self._first_error, InputError | AuthenticationError)

    def _partial(self, error: GnomonicError) -> PartialFailureError:
        failed = tuple(part for part in self.parts if part not in self._answers)
        return PartialFailureError(
            f"{sum(map(len, failed))} of {len(self.request.texts)} texts have no vector: {error}",
            done={part: self._answers[part].vectors for part in self.parts if part in self._answers},
            failed=failed,
            status=getattr(error, "status", None),
            request_id=getattr(error, "request_id", None),
            hint="the error's .done holds the vectors there are, .failed the texts to embed again",
        )

    def _empty(self) -> Embeddings:
        spec = wire.catalog_model(self.request.model)
        dim = self.request.dim or (spec.hidden_size if spec else 0)
        usage = Usage(prompt_tokens=0, total_tokens=0)
        return Embeddings(vectors=np.empty((0, dim), dtype=np.float32), model=self.request.model, usage=usage)

    def _truncated(self) -> tuple[int, ...]:
        named = tuple(part.start + index for part in self.parts for index in self._answers[part].truncated)
        count = sum(answer.truncated_count for answer in self._answers.values())
        if count > len(named):
            warnings.warn(
                f"{count} texts were truncated, but the server names only {len(named)} of them",
                UserWarning,
                stacklevel=2,
            )
        return named
