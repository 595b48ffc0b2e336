"""Embed a file of any size: look it through, embed it by chunks, put the output together. Safe to kill."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

import gnomonic
from gnomonic.cli import columns
from gnomonic.cli.assemble import assemble
from gnomonic.cli.chunks import CHUNK_CHARS, Chunk, ChunkStore, plan_chunks, writing
from gnomonic.cli.rows import Row
from gnomonic.cli.source import Source, scan
from gnomonic.errors import EngineError, InputError
from gnomonic.types import LongTextMode, TaskType

if TYPE_CHECKING:
    from gnomonic.inference.encoder import TextEncoder

__all__ = ["Job", "Summary", "Watch", "embed_file"]

logger = logging.getLogger(__name__)

_PROBES = (
    "The same text must give the same numbers.",
    "7",
    "A second sentence, longer than the first by a little.",
)
"""Embedded at the start of every run; another model, precision or arithmetic gives another fingerprint."""


class Watch(Protocol):
    """Shown the progress; called from the thread that embeds."""

    def start(self, source: Source) -> None:
        """The input was looked through; loading the model comes next."""
        ...

    def begin(self) -> None:
        """The model is ready, embedding begins."""
        ...

    def within(self, chars: float) -> None:
        """About so many characters of the current chunk are embedded."""
        ...

    def advance(self, rows: int, chars: int, tokens: int, *, resumed: bool) -> None:
        """A chunk is finished, or was found finished."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One call of `gnomonic embed`."""

    input: Path
    output: Path
    field: str | None = None
    column: str = "embedding"
    model: str
    task_type: str = "search_document"
    dim: int | None = None
    long_text_mode: str = "truncate"
    max_tokens: int = 8192
    precision: str = "auto"
    device: str | None = None
    threads: int | None = None
    chunk_rows: int = 1024
    resume: bool = False
    overwrite: bool = False
    strict: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of `TextEncoder.encode`."""
        return {
            "task_type": self.task_type,
            "dim": self.dim,
            "long_text_mode": self.long_text_mode,
            "max_tokens_per_text": self.max_tokens,
        }


@dataclass(kw_only=True, slots=True)
class Summary:
    """What a finished run did."""

    rows: int = 0
    failed: int = 0
    truncated: int = 0
    tokens: int = 0
    resumed_rows: int = 0
    """Rows whose vectors an earlier, interrupted run had finished."""
    dim: int = 0
    field: str = ""
    was_complete: bool = False
    """An earlier run had already published the output; nothing was embedded."""


def embed_file(job: Job, load: Callable[[], TextEncoder], watch: Watch) -> Summary:
    """Embed every row of the input and publish the output.

    Args:
        job: what to do.
        load: returns the model; called after all checks that need no model.
        watch: is told of the progress.

    Raises:
        InputError: input, output or an option is not usable; nothing was written at the output.
        GnomonicError: the disk is full or not writable; finished chunks are kept.
        EngineError: the backend failed; finished chunks are kept.
    """
    _check(job)
    store = ChunkStore(job.output.with_name(job.output.name + ".partial"))
    earlier = _earlier_run(job, store)
    if job.resume and job.output.exists() and (store.is_published or (earlier is None and not job.overwrite)):
        _tidy(store)
        return Summary(was_complete=True)
    source = scan(job.input, job.field)
    if job.strict and source.first_bad:
        raise _strict_error(_failure(source.first_bad, source.first_bad.reason), source.bad_rows)
    if job.output.suffix == ".parquet":
        _check_column(job, source)
    settings = _settings(job, source)
    if earlier is not None:
        _compare(earlier, settings, only=settings)
    watch.start(source)
    encoder = load()
    probe = _probe(encoder, job.options)
    settings["dim"] = probe.shape[1]
    settings["fingerprint"] = hashlib.sha256(probe.astype("<f4").tobytes()).hexdigest()[:16]
    watch.begin()
    with writing(store.folder), store.locked():
        if earlier is None:
            store.begin(settings)
        else:
            _compare(earlier, settings, only=("dim", "fingerprint"))
        summary = _run(job, source, store, encoder, watch, settings)
        store.mark_published()
    _tidy(store)
    return summary


def _probe(encoder: TextEncoder, options: Mapping[str, Any]) -> NDArray[np.float32]:
    """Return the vectors of the probes, [3, dim]; they must not fail where the user's long texts are to."""
    return encoder.encode(list(_PROBES), **{**options, "long_text_mode": "truncate"}).vectors


def _check(job: Job) -> None:
    TaskType.parse(job.task_type)
    LongTextMode.parse(job.long_text_mode)
    if job.output.suffix not in (".npy", ".parquet"):
        raise InputError(f"output {job.output.name}: the name must end in .npy or .parquet, the formats it can have")
    if job.output.suffix == ".parquet":
        columns.require_pyarrow("writing .parquet files")
    if not job.output.parent.is_dir():
        raise InputError(f"output folder {job.output.parent} does not exist; make it first")
    if job.output.is_dir():
        raise InputError(f"output {job.output} is a folder; name a file")
    if job.output.exists() and job.input.exists() and job.output.samefile(job.input):
        raise InputError("input and output are the same file; choose another output")
    if job.output.exists() and not (job.overwrite or job.resume):
        raise InputError(f"output {job.output} exists", hint="use --overwrite to replace it")


def _earlier_run(job: Job, store: ChunkStore) -> Mapping[str, object] | None:
    """Return the manifest of the run to go on with, None to start afresh."""
    if not store.folder.exists() or (job.overwrite and not job.resume):
        return None
    manifest = store.manifest()
    if manifest is not None and not job.resume:
        raise InputError(
            f"{store.folder} holds unfinished work for this output",
            hint="use --resume to go on with it, or --overwrite to start again",
        )
    return manifest


def _check_column(job: Job, source: Source) -> None:
    names = columns.schema_of(source.path, source.format, source.kinds).names
    if job.column in names:
        raise InputError(f"the input already has a column {job.column!r}; choose another name with --column")


def _settings(job: Job, source: Source) -> dict[str, object]:
    """Return all that the output's bytes depend on, but for the numbers of the model."""
    return {
        "gnomonic": gnomonic.__version__,
        "input": source.path.name,
        "input sha256": source.sha256,
        "format": job.output.suffix,
        "--field": source.field,
        "--column": job.column,
        "--model": job.model,
        "--task-type": job.task_type,
        "--dimensionality": job.dim,
        "--long-text-mode": job.long_text_mode,
        "--max-tokens": job.max_tokens,
        "--precision": job.precision,
        "--device": job.device,
        "--chunk-rows": job.chunk_rows,
        "chunk characters": CHUNK_CHARS,
    }


def _compare(earlier: Mapping[str, object], now: Mapping[str, object], *, only: Iterable[str]) -> None:
    """Raise InputError when the unfinished work was begun with anything else than now."""
    differing = [f"{key} was {earlier.get(key)}, is {now[key]}" for key in only if earlier.get(key) != now[key]]
    if differing:
        raise InputError(
            "--resume does not fit the unfinished work: " + "; ".join(differing),
            hint="repeat the options of the first run, or start again with --overwrite",
        )


def _strict_error(row: Mapping[str, object], count: int) -> InputError:
    where = f"row {row['row']}" + (f" (line {row['line']})" if "line" in row else "")
    more = f", and {count - 1} more like it" if count > 1 else ""
    return InputError(f"{where}: {row['reason']}{more}; nothing was written, because of --strict")


def _run(
    job: Job,
    source: Source,
    store: ChunkStore,
    encoder: TextEncoder,
    watch: Watch,
    about: Mapping[str, object],
) -> Summary:
    chunks: list[Chunk] = []
    summary = Summary(dim=int(str(about["dim"])), field=source.field)
    for index, rows in enumerate(plan_chunks(source, job.chunk_rows)):
        chunk = store.finished(index, len(rows))
        resumed = chunk is not None
        if chunk is None:
            done = _embed_rows(rows, encoder, job.options, summary.dim, watch)
            if job.strict and done.failed:
                raise _strict_error(done.failed[0], len(done.failed))
            chunk = store.write(index, done.vectors, tokens=done.tokens, truncated=done.truncated, failed=done.failed)
        summary.resumed_rows += len(rows) if resumed else 0
        watch.advance(len(rows), sum(len(row.text) for row in rows), chunk.tokens, resumed=resumed)
        chunks.append(chunk)
    assemble(job.output, source, store, chunks, column=job.column, about=about)
    summary.rows = sum(chunk.rows for chunk in chunks)
    summary.failed = sum(len(chunk.failed) for chunk in chunks)
    summary.truncated = sum(chunk.truncated for chunk in chunks)
    summary.tokens = sum(chunk.tokens for chunk in chunks)
    return summary


def _tidy(store: ChunkStore) -> None:
    try:
        if store.folder.exists():
            with store.locked():
                store.remove()
    except OSError as error:
        logger.warning("%s is no longer needed but could not be deleted: %s", store.folder, error)


@dataclass(kw_only=True, slots=True)
class _Embedded:
    vectors: NDArray[np.float32]
    tokens: int = 0
    truncated: int = 0
    failed: list[dict[str, object]] = field(default_factory=list)


def _failure(row: Row, reason: str) -> dict[str, object]:
    """Return the row's entry in the list of failures."""
    line = {} if row.line is None else {"line": row.line}
    return {"row": row.number, **line, "reason": reason}


def _embed_rows(rows: list[Row], encoder: TextEncoder, options: Mapping[str, Any], dim: int, watch: Watch) -> _Embedded:
    """Embed the good rows of a chunk; rows that are bad, or that the model refuses, become NaN and are listed.

    When a call fails, its texts are halved and tried again, so that one bad text costs no other its vector.

    Raises:
        EngineError: the engine fails on every text.
    """
    done = _Embedded(vectors=np.full((len(rows), dim), np.nan, dtype=np.float32))
    reasons = {index: row.reason for index, row in enumerate(rows) if row.reason}
    chars = sum(len(row.text) for row in rows)
    pending = [[index for index, row in enumerate(rows) if not row.reason]]
    while pending:
        part = pending.pop()
        if not part:
            continue
        try:
            result = encoder.encode(
                [rows[index].text for index in part],
                on_progress=lambda count: watch.within(chars * count / len(rows)),
                **options,
            )
        except (InputError, EngineError) as error:
            if len(part) > 1:
                half = len(part) // 2
                pending += [part[half:], part[:half]]
                continue
            if isinstance(error, EngineError):
                _probe(encoder, options)  # raises when it is the engine, not the text
            reasons[part[0]] = str(error).replace("texts[0]", "the text")
            continue
        done.vectors[part] = result.vectors
        done.tokens += result.usage.total_tokens
        done.truncated += len(result.truncated)
    done.failed = [_failure(rows[index], reason) for index, reason in sorted(reasons.items())]
    return done
