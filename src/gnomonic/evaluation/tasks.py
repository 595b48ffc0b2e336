"""Evaluation tasks on disk: which there are, what kind each is, and how each is judged.

A task is a JSON-lines file, gzipped or not, whose name is `KIND_NAME[_SPLIT].jsonl[.gz]`:

| kind | a line | metric |
|---|---|---|
| `cls` | {text, label} | accuracy of a logistic regression on the vectors |
| `clu` | {text, label} | V-measure of k-means |
| `pair` | {sentence1, sentence2, label: 1 = same meaning} | average precision of the cosine |
| `sts` | {sentence1, sentence2, score} | Spearman's correlation with the cosine |
| `rerank` | {query, positive: [...], negative: [...]} | mean average precision |
| `ret` | {type: query or doc, id, text} or {type: qrel, qid, did, score} | nDCG@10 |
"""

from __future__ import annotations

import difflib
import gzip
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from gnomonic.errors import InputError

__all__ = ["KINDS", "SPLITS", "Found", "Kind", "Task", "find_tasks", "read_rows"]

SPLITS = ("test", "dev", "all")
"""What `find_tasks` chooses from: final judgement, steering a training run, both."""

_NAME = re.compile(r"(?P<kind>[a-z]+)_(?P<base>.+?)(?:_(?P<split>train|dev|valid|test\d*|all))?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """What is common to all tasks of a kind."""

    label: str
    metric: str
    """Name of the main score."""
    fields: tuple[str, ...]
    """What a row must have."""


KINDS = {
    "cls": Kind(label="classification", metric="accuracy", fields=("text", "label")),
    "clu": Kind(label="clustering", metric="v_measure", fields=("text", "label")),
    "pair": Kind(label="pair classification", metric="average_precision", fields=("sentence1", "sentence2", "label")),
    "rerank": Kind(label="reranking", metric="map", fields=("query", "positive", "negative")),
    "ret": Kind(label="retrieval", metric="ndcg_at_10", fields=("type",)),
    "sts": Kind(label="similarity", metric="spearman", fields=("sentence1", "sentence2", "score")),
}
"""Kind by the prefix of the file name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One task and how it is judged."""

    name: str
    """The file's name without its ending."""
    kind: str
    """A key of `KINDS`."""
    path: Path
    train: Path | None = None
    """The training file of a classification task."""
    holdout: str = ""
    """Where a classification task has no training file of its own: "folds" judges by cross-validation, "fifth" holds
    out every fifth row."""

    def digest(self) -> str:
        """Return the SHA-256 of the task's files, in hex."""
        digest = hashlib.sha256(self.holdout.encode())
        for path in (self.path, self.train):
            if path is not None:
                digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """The tasks to run, in order of name, and what was left out."""

    tasks: tuple[Task, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    """task → why it is not among them, though its split is."""


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a .jsonl or .jsonl.gz file.

    Raises:
        InputError: the file is absent, not what it should be, or a line lacks a field of its kind.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    rows: list[Any] = []
    try:
        with opened(path, "rt", encoding="utf-8-sig") as lines:
            rows.extend(json.loads(line) for line in lines if line.strip())
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"evaluation task {path} cannot be read after row {len(rows)}: {error}") from error
    parts = _NAME.fullmatch(_stem(path))
    fields = KINDS[parts["kind"]].fields if parts and parts["kind"] in KINDS else ()
    for number, row in enumerate(rows, 1):
        missing = [name for name in fields if not isinstance(row, dict) or name not in row]
        if missing:
            raise InputError(
                f"evaluation task {path}, row {number} has no {missing[0]!r}; it needs {', '.join(fields)}"
            )
    if not rows:
        raise InputError(f"evaluation task {path} is empty")
    return rows


def find_tasks(folders: Sequence[Path], *, split: str = "test", names: Sequence[str] = ()) -> Found:
    """Find tasks in folders.

    "test" takes `*_test`, `*_all` and files without a split in their name; "dev" takes `*_dev` and `*_valid`, and a
    `*_train` that has neither beside it: a classification task is then judged on every fifth of its rows. The test
    rows of no task are ever used by "dev".

    Args:
        folders: where the files are; a name in two folders is an error.
        split: one of `SPLITS`.
        names: task names, or patterns with `*`; empty takes every task of the split. An exact name is taken
            whatever its split.

    Raises:
        InputError: a folder is absent, a split is unknown, a name matches nothing, or nothing is left.
    """
    if split not in SPLITS:
        raise InputError(f"split {split!r} is unknown; choose one of {', '.join(SPLITS)}")
    files = _files(folders)
    tasks: dict[str, Task] = {}
    left_out: dict[str, str] = {}
    for name in files:
        exact = name in names
        matched = exact or not names or any(fnmatchcase(name, pattern) for pattern in names)
        if not matched or not (exact or _is_of(name, split, files)):
            continue
        task = _task(name, files, keep=exact)
        if isinstance(task, Task):
            tasks[name] = task
        else:
            left_out[name] = task
    for pattern in names:
        if not any(fnmatchcase(name, pattern) for name in tasks):
            near = difflib.get_close_matches(pattern, files, n=3, cutoff=0.4)
            known = f"close names: {', '.join(near)}" if near else f"there are {', '.join(files)}"
            raise InputError(f"--tasks {pattern!r} matches no task of split {split!r}; {known}")
    if not tasks:
        raise InputError(f"no task of split {split!r} in {', '.join(map(str, folders))}; a task is KIND_NAME.jsonl.gz")
    return Found(tasks=tuple(tasks[name] for name in sorted(tasks)), left_out=left_out)


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".jsonl")


def _files(folders: Sequence[Path]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder; --data takes the folder that holds the tasks")
        for path in sorted([*folder.glob("*.jsonl"), *folder.glob("*.jsonl.gz")]):
            parts = _NAME.fullmatch(_stem(path))
            if parts is None or parts["kind"] not in KINDS:
                continue
            if _stem(path) in files:
                raise InputError(f"task {_stem(path)} is there twice: {files[_stem(path)]} and {path}")
            files[_stem(path)] = path
    return files


def _parts(name: str) -> tuple[str, str, str]:
    parts = _NAME.fullmatch(name)
    assert parts is not None  # `_files` keeps names that match
    return parts["kind"], parts["base"], parts["split"] or ""


def _is_of(name: str, split: str, files: dict[str, Path]) -> bool:
    kind, base, own = _parts(name)
    if own == "train":
        beside = {f"{kind}_{base}_dev", f"{kind}_{base}_valid"}
        return split != "test" and not beside & files.keys()
    steers = own in {"dev", "valid"}
    return split == "all" or steers == (split == "dev")


def _task(name: str, files: dict[str, Path], *, keep: bool) -> Task | str:
    """Return the task, or why it cannot be judged; `keep` cross-validates it then."""
    kind, base, own = _parts(name)
    if kind != "cls":
        return Task(name=name, kind=kind, path=files[name])
    if own == "train":
        return Task(name=name, kind=kind, path=files[name], holdout="fifth")
    train = files.get(f"cls_{base}_train")
    if train is not None and own != "all":
        return Task(name=name, kind=kind, path=files[name], train=train)
    if own == "all" or keep:
        return Task(name=name, kind=kind, path=files[name], holdout="folds")
    return f"there is no cls_{base}_train; name the task in --tasks to cross-validate it"
