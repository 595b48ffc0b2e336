"""Judging a model on many tasks: one result file a task, so that an interrupted run goes on where it was."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from gnomonic.evaluation.metrics import need_sklearn
from gnomonic.evaluation.scoring import Rules, Scores, by_words, score, score_ranking
from gnomonic.evaluation.tasks import Task
from gnomonic.evaluation.vectors import FullWidth
from gnomonic.types import Embedder

__all__ = ["BM25", "Outcome", "Progress", "Subject", "evaluate"]

_VERSION = 1
"""Raised when a score of equal vectors changes, so that results kept from before are not used again."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is judged."""

    name: str
    precision: str = "fp32"
    dims: tuple[int, ...] = ()
    """Sizes of the vectors, largest first; empty for a ranker that has none."""
    fingerprint: str = ""
    """Digest of the weights and what else decides the numbers; results are kept under it. Without one, none is taken
    over."""
    open: Callable[[], Embedder] | None = None
    """Loads the model, on the first task whose result is not there yet; None is BM25."""

    @property
    def key(self) -> str:
        """Name of the folder of its results."""
        plain = re.sub(r"[^\w.-]+", "-", self.name).strip("-.") or "model"
        return "-".join(filter(None, [plain, self.precision, self.fingerprint[:12]]))


BM25 = Subject(name="bm25", precision="", fingerprint="words1")
"""Judged on retrieval and reranking only."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One subject's scores on one task."""

    task: str
    kind: str
    protocol: str
    scores: dict[int, Scores]
    """dim → scores; BM25's stand under 0."""
    texts: int = 0
    """Texts that were embedded."""
    truncated: int = 0
    """How many of them were cut to fit the model."""
    seconds: float = 0.0
    kept: bool = field(default=False, compare=False)
    """Whether it was taken from an earlier run."""


class Progress(Protocol):
    """Hears how a run is going."""

    def begin(self, subject: Subject, task: Task) -> None:
        """A task is next."""
        ...

    def embedded(self, done: int, total: int) -> None:
        """So many texts of a list are embedded."""
        ...

    def end(self, subject: Subject, outcome: Outcome) -> None:
        """A task is finished, or its result was there."""
        ...


def evaluate(
    subject: Subject,
    tasks: Sequence[Task],
    cache: Path,
    *,
    rules: Rules | None = None,
    progress: Progress | None = None,
) -> list[Outcome]:
    """Judge a subject on tasks.

    A result in `cache` is taken over when task files, weights, precision and rules are the same.

    Args:
        subject: a model, or BM25, which leaves out what is no ranking.
        tasks: what `find_tasks` found.
        cache: folder of the result files, `SUBJECT/TASK.json`; several runs may share it.
        rules: few-shot or not, prefixes.
        progress: hears of each task.

    Raises:
        InputError: a task file is not usable, or a size is larger than the model's.
        MissingExtraError: scikit-learn is not installed.
        EngineError: the model failed.
    """
    need_sklearn()
    rules = rules or Rules()
    outcomes = []
    embedder: Embedder | None = None
    for task in tasks:
        if subject.open is None and task.kind not in {"ret", "rerank"}:
            continue
        if progress is not None:
            progress.begin(subject, task)
        path = cache / subject.key / f"{task.name}.json"
        key = _key(subject, task, rules)
        outcome = _read(path, key, subject.dims) if subject.fingerprint else None
        if outcome is None:
            if subject.open is not None and embedder is None:
                embedder = subject.open()
            outcome = _judge(subject, embedder, task, rules, progress)
            _write(path, key, outcome)
        outcomes.append(outcome)
        if progress is not None:
            progress.end(subject, outcome)
    return outcomes


def _judge(subject: Subject, embedder: Embedder | None, task: Task, rules: Rules, progress: Progress | None) -> Outcome:
    began = time.perf_counter()
    scores: dict[int, Scores] = {}
    texts = truncated = 0
    if embedder is None:
        scores[0] = score_ranking(task, by_words)
    else:
        vectors = FullWidth(embedder, progress.embedded if progress else None)
        for dim in subject.dims:
            scores[dim] = score(task, vectors.at(dim), rules)
        texts, truncated = vectors.texts, vectors.truncated
    return Outcome(
        task=task.name,
        kind=task.kind,
        protocol=rules.describe(task) if embedder else "BM25",
        scores=scores,
        texts=texts,
        truncated=truncated,
        seconds=round(time.perf_counter() - began, 2),
    )


def _key(subject: Subject, task: Task, rules: Rules) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "task": task.digest(),
        "fingerprint": subject.fingerprint,
        "precision": subject.precision,
        "protocol": rules.describe(task) if subject.open else "BM25",
        "prefixes": [str(prefix) for prefix in rules.prefixes[task.kind]] if subject.open else [],
    }


def _read(path: Path, key: dict[str, Any], dims: Sequence[int]) -> Outcome | None:
    """Return a kept result, if it answers the same question for all of these sizes."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["key"] != key:
            return None
        said = kept["outcome"]
        scores = {int(dim): found for dim, found in said.pop("scores").items()}
        return Outcome(**said, scores={dim: scores[dim] for dim in dims or (0,)}, kept=True)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        _LOG.info("%s is not taken over: %s", path, error)
        return None


def _write(path: Path, key: dict[str, Any], outcome: Outcome) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    said = asdict(outcome)
    said.pop("kept")
    temporary = path.with_suffix(f".{os.getpid()}.tmp")  # several runs may share the folder
    temporary.write_text(json.dumps({"key": key, "outcome": said}, indent=1), encoding="utf-8")
    temporary.replace(path)
