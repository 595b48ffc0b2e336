"""What `gnomonic evaluate` does between its options and its report: opens the models, shows progress, writes files."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from gnomonic.cli.progress import duration
from gnomonic.errors import InputError
from gnomonic.types import Embeddings, TaskType

if TYPE_CHECKING:
    from gnomonic.evaluation.run import Outcome, Subject
    from gnomonic.evaluation.scoring import Rules
    from gnomonic.evaluation.tasks import Found, Task
    from gnomonic.inference.encoder import TextEncoder

__all__ = ["Call", "judge", "write_report"]

_WEIGHTS = {".safetensors", ".json", ".txt", ".bin", ".model"}
_SAY_EVERY_S = 15.0


@dataclass(frozen=True, kw_only=True)
class Call:
    """The options of the command."""

    models: tuple[str, ...]
    peers: tuple[str, ...] = ()
    dims: str = ""
    precisions: tuple[str, ...] = ("fp32",)
    device: str | None = None
    threads: int | None = None
    max_tokens: int = 8192
    bm25: bool = True
    few_shot: int = 0
    prefixes: tuple[str, ...] = ()


def judge(call: Call, tasks: Sequence[Task], cache: Path) -> list[tuple[Subject, list[Outcome]]]:
    """Judge every model of the call on every task.

    Raises:
        GnomonicError: an option is not usable, or a model cannot be opened or fails.
    """
    from gnomonic.evaluation.run import evaluate

    rules = _rules(call)
    subjects = _subjects(call)
    rankings = sum(task.kind in {"ret", "rerank"} for task in tasks)
    progress = _Progress(sum(len(tasks) if subject.open else rankings for subject in subjects))
    return [(subject, evaluate(subject, tasks, cache, rules=rules, progress=progress)) for subject in subjects]


def write_report(
    call: Call, judged: Sequence[tuple[Subject, list[Outcome]]], found: Found, output: Path
) -> Iterator[str]:
    """Write report.json, report.md and report.html, and yield the lines that tell of them."""
    import json

    from gnomonic import __version__
    from gnomonic.evaluation.page import html
    from gnomonic.evaluation.report import lines, markdown, to_json

    rules = _rules(call)
    settings: dict[str, Any] = {
        "gnomonic": __version__,
        "few_shot": call.few_shot,
        "device": call.device or "cpu",
        "max_tokens": call.max_tokens,
        "prefixes": {kind: list(dict.fromkeys(map(str, sides))) for kind, sides in rules.prefixes.items()},
        "left_out": dict(found.left_out),
    }
    output.mkdir(parents=True, exist_ok=True)
    contents = {
        "report.json": json.dumps(to_json(judged, settings), indent=1) + "\n",
        "report.md": markdown(judged, settings),
        "report.html": html(judged, settings),
    }
    for name, content in contents.items():
        temporary = output / f"{name}.tmp"
        temporary.write_text(content, encoding="utf-8")
        temporary.replace(output / name)
    for line in lines(judged):
        mean = "" if line.mean is None else f"  mean {100 * line.mean:.2f}"
        kinds = "  ".join(f"{kind} {100 * value:.2f}" for kind, value in line.kinds.items())
        yield f"{line.title}{mean}  {kinds}"
    yield f"wrote {output / 'report.md'}, report.html and report.json"


def _rules(call: Call) -> Rules:
    from gnomonic.evaluation.scoring import PREFIXES, Rules

    prefixes = dict(PREFIXES)
    for given in call.prefixes:
        kind, _, value = given.partition("=")
        if kind not in prefixes or not value:
            raise InputError(f"--prefix {given!r} is not KIND=TASK_TYPE; a kind is one of {', '.join(prefixes)}")
        sides = [TaskType.parse(side) for side in value.split(",")]
        if len(sides) > 2:
            raise InputError(
                f"--prefix {given!r} has more than two task types: one for the left texts, one for the right"
            )
        prefixes[kind] = (sides[0], sides[-1])
    return Rules(few_shot=call.few_shot, prefixes=prefixes)


# -- subjects ---------------------------------------------------------------------------------------------------


def _subjects(call: Call) -> list[Subject]:
    from gnomonic.evaluation.run import BM25

    found = [_model(name, precision, call) for name in call.models for precision in call.precisions]
    found += [_peer(name, call) for name in call.peers]
    return found + ([BM25] if call.bm25 else [])


def _model(name: str, precision: str, call: Call) -> Subject:
    from gnomonic.checkpoints.hub import find_model
    from gnomonic.evaluation.run import Subject
    from gnomonic.inference.load import load
    from gnomonic.settings import read_settings

    spec, folder = find_model(name, read_settings())
    sizes = _sizes(call.dims, spec.hidden_size) or spec.dims or (spec.hidden_size,)
    # Folders are told apart by their path: two checkpoints of a run have the same name.
    title = name.rstrip("/") if Path(name).is_dir() else spec.name
    how = f"{call.device or 'cpu'} {call.max_tokens}"
    return Subject(
        name=title,
        precision=precision,
        dims=sizes,
        fingerprint=_digest(folder, how),
        open=lambda: _Limited(
            load(name, device=call.device, precision=precision, threads=call.threads), call.max_tokens
        ),
    )


def _peer(name: str, call: Call) -> Subject:
    from gnomonic.evaluation.peers import SentenceTransformerEmbedder, find_peer, width_of
    from gnomonic.evaluation.run import Subject

    own, folder = find_peer(name)
    return Subject(
        name=own,
        dims=(width_of(folder),),
        fingerprint=_digest(folder, "sentence-transformers"),
        open=lambda: SentenceTransformerEmbedder(folder, device=call.device, threads=call.threads),
    )


def _sizes(given: str, width: int) -> tuple[int, ...]:
    parts = [part.strip() for part in given.split(",") if part.strip()]
    wrong = [part for part in parts if not part.isdigit() or not 1 <= int(part) <= width]
    if wrong:
        raise InputError(f"--dims {wrong[0]!r} is no size of this model; choose whole numbers from 1 to {width}")
    return tuple(sorted({int(part) for part in parts}, reverse=True))


def _digest(folder: Path, how: str) -> str:
    """Return the SHA-256 of a model's files and of how it is run, in hex."""
    digest = hashlib.sha256(how.encode())
    for path in sorted(path for path in folder.rglob("*") if path.suffix in _WEIGHTS and path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


class _Limited:
    """A text encoder that sees at most so many tokens of a text; satisfies `types.Embedder`."""

    def __init__(self, encoder: TextEncoder, max_tokens: int) -> None:
        self._encoder, self._max_tokens = encoder, max_tokens

    def encode(
        self, texts: Sequence[str], *, task_type: TaskType | str = TaskType.SEARCH_DOCUMENT, dim: int | None = None
    ) -> Embeddings:
        return self._encoder.encode(texts, task_type=task_type, dim=dim, max_tokens_per_text=self._max_tokens)


# -- progress ---------------------------------------------------------------------------------------------------


@dataclass
class _Progress:
    """Says on stderr what is being done: a line a task, and how far a long one is."""

    total: int
    console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))
    _done: int = 0
    _said: float = 0.0
    _now: str = ""

    def begin(self, subject: Subject, task: Task) -> None:
        self._done += 1
        self._said = time.monotonic()
        words = [f"{self._done}/{self.total}", subject.name, subject.precision, task.name]
        self._now = " ".join(filter(None, words))

    def embedded(self, done: int, total: int) -> None:
        if done < total and time.monotonic() - self._said >= _SAY_EVERY_S:
            self._said = time.monotonic()
            self.console.print(f"{self._now}: {done:,} of {total:,} texts", soft_wrap=True, markup=False)

    def end(self, subject: Subject, outcome: Outcome) -> None:
        from gnomonic.evaluation.tasks import KINDS

        metric = KINDS[outcome.kind].metric
        found = "  ".join(
            f"{dim}d {100 * outcome.scores[dim][metric]:.2f}" if dim else f"{100 * outcome.scores[dim][metric]:.2f}"
            for dim in subject.dims or (0,)
        )
        how = "kept" if outcome.kept else duration(outcome.seconds)
        self.console.print(f"{self._now}: {metric} {found} ({how})", soft_wrap=True, markup=False)
