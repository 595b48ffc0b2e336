"""A model by formula for tests of the command line, and runs that end themselves at a chosen point."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gnomonic.catalog import ModelSpec
from gnomonic.cli.embed_file import Job, Summary, embed_file
from gnomonic.cli.source import Source
from gnomonic.errors import EngineError, GnomonicError, InputError
from gnomonic.types import Embeddings, Usage

__all__ = ["HashEncoder", "SilentWatch", "embed_then_die", "embed_with_file_limit", "run_job"]

WIDTH = 8


class HashEncoder:
    """An encoder whose vector is a function of the task and the text; some words make it fail."""

    def __init__(self, salt: str = "") -> None:
        self.salt = salt
        self.calls: list[list[str]] = []
        self.spec = ModelSpec(name="hash", hidden_size=WIDTH)
        self.broken = False

    def encode(
        self,
        texts: Sequence[str],
        *,
        task_type: str = "search_document",
        dim: int | None = None,
        long_text_mode: str = "truncate",
        max_tokens_per_text: int = 8192,
        on_progress: Callable[[int], None] | None = None,
    ) -> Embeddings:
        self.calls.append(list(texts))
        if self.broken:
            raise EngineError("the engine is gone")
        lengths = [len(text.split()) for text in texts]
        cut = tuple(index for index, length in enumerate(lengths) if length > max_tokens_per_text)
        if cut and long_text_mode == "error":
            raise InputError(f"texts[{cut[0]}] is too long")
        if any("<breaks>" in text for text in texts):
            raise EngineError("a batch with <breaks> failed")
        vectors = np.zeros((len(texts), dim or WIDTH), dtype=np.float32)
        for index, text in enumerate(texts):
            seed = hashlib.sha256(f"{self.salt}{task_type}{text}".encode()).digest()
            vector = np.random.default_rng(list(seed)).standard_normal(dim or WIDTH)
            vectors[index] = vector / np.linalg.norm(vector)
        if on_progress:
            on_progress(len(texts))
        usage = Usage(prompt_tokens=sum(lengths), total_tokens=sum(lengths))
        return Embeddings(vectors=vectors, model="hash", usage=usage, truncated=cut)


class SilentWatch:
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.rows = self.resumed = 0

    def start(self, source: Source) -> None:
        self.source = source

    def begin(self) -> None:
        self.begun = True

    def within(self, chars: float) -> None:
        self.chars = chars

    def advance(self, rows: int, chars: int, tokens: int, *, resumed: bool) -> None:
        self.rows += rows
        self.resumed += rows if resumed else 0


def run_job(source: Path, output: Path, encoder: HashEncoder | None = None, **options: Any) -> Summary:
    """Run `gnomonic embed` in this process, with the model by formula."""
    job = Job(input=source, output=output, **{"model": "hash", "chunk_rows": 3, **options})
    return embed_file(job, lambda: encoder or HashEncoder(), SilentWatch())


def embed_then_die(source: Path, output: Path, fatal: int, options: dict[str, Any]) -> None:
    """Embed, and kill this process with SIGKILL just before its `fatal`-th change of the file system."""
    changes = 0
    folder = str(output.parent)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal changes
        path = str(arguments[0]) if arguments else ""
        is_write = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        is_change = is_write or event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.utime")
        if is_change and path.startswith(folder):
            changes += 1
            if changes == fatal:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    run_job(source, output, **options)


def embed_with_file_limit(source: Path, output: Path, limit: int, report: Path) -> None:
    """Embed where no file may grow past `limit` bytes, as on a full disk; write the error to `report`."""
    import resource

    try:
        with open(os.devnull):  # noqa: PTH123
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            run_job(source, output)
    except GnomonicError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        report.write_text(f"{type(error).__name__}: {error} / {error.hint}", encoding="utf-8")
        raise SystemExit(1) from None
